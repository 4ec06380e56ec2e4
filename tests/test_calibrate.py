"""Calibrate: calls of all sizes are measured, and what they cost is kept."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.bench.calibrate import (
    LONGEST,
    MeasuredCall,
    _fits,
    _measured,
    calibrate,
    sizes_worth_forming,
)
from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class Device:
    """Takes as long as it is told, by the number of items; its clock is its own."""

    def __init__(self, cost: Callable[[int], float], *, room: int = 1 << 20) -> None:
        self.cost, self.room, self.now = cost, room, 0.0
        self.freed = 0
        self.calls: list[int] = []

    def run(self, items: list[Any]) -> list[Any]:
        if len(items) > self.room:
            raise OutOfMemoryError
        self.calls.append(len(items))
        self.now += self.cost(len(items))
        return items

    def free(self) -> None:
        self.freed += 1

    def measured(self, most: int = 64) -> list[MeasuredCall]:
        stage: Stage[Any, Any] = Stage(
            name="generator", run=self.run, model="m", free_memory=self.free
        )
        cost_model = CostModel()
        costs = _measured(stage, 0, most, cost_model, None, lambda: self.now)
        self.known = cost_model.largest("generator", "m")
        return costs


def test_larger_calls_are_tried_as_long_as_they_pay() -> None:
    """A model that is full at 8 is not asked for 64."""
    device = Device(lambda items: max(items, 8) / 8)
    costs = device.measured()
    assert [1, 2, 4, 8, 16, 32] == [cost.items for cost in costs]
    assert {"generator": 8} == sizes_worth_forming(costs)
    assert 32 == device.known
    assert [1] * 4 == device.calls[:4]  # the first is not counted


def test_one_unlucky_size_is_not_the_end() -> None:
    """A size that is slow by chance is stepped over."""
    device = Device(lambda items: {4: 4.0}.get(items, 1 + items / 8))
    assert [1, 2, 4, 8, 16, 32, 64] == [cost.items for cost in device.measured()]


def test_the_memory_ends_it_and_is_freed() -> None:
    """What does not fit is no error; nothing is learned from it."""
    device = Device(lambda items: 1 + items / 8, room=4)
    assert [1, 2, 4] == [cost.items for cost in device.measured()]
    assert 1 == device.freed
    assert 4 == device.known


def test_long_calls_end_it() -> None:
    """Nobody waits for minutes to learn that two minutes are more."""
    device = Device(lambda items: LONGEST + 1 + items / 100)
    assert [1] == [cost.items for cost in device.measured()]


def test_other_errors_are_the_callers() -> None:
    """A model that fails cannot be measured."""

    def fail(items: list[Any]) -> list[Any]:
        raise LookupError

    stage: Stage[Any, Any] = Stage(name="x", run=fail)
    with pytest.raises(LookupError):
        _fits(stage, [1])


def test_memory_is_short_without_anything_to_free() -> None:
    """A stage need not know how."""
    stage: Stage[Any, Any] = Stage(name="x", run=Device(float, room=0).run)
    assert not _fits(stage, [1])


async def test_the_pocket_models_are_measured_and_remembered(tmp_path: Path) -> None:
    """Every stage that a refinement has, under the names that the worker looks up."""
    path, seen = tmp_path / "calibration.json", list[MeasuredCall]()
    ticks = itertools.count()
    settings = Settings(steps=1)
    costs = await calibrate(
        settings, path=path, most=2, on_cost=seen.append, clock=lambda: next(ticks)
    )
    assert seen == costs
    stages = {"generator", "captioner", "decide", "look", "scorer"}
    assert stages == {cost.stage for cost in costs}
    assert {1, 2} == {cost.items for cost in costs}
    kept = json.loads(path.read_bytes())["curves"]
    assert stages == {one["stage"] for one in kept}


def test_the_command_prints_and_keeps_what_calls_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object with --json, and lines for people."""
    monkeypatch.setenv("SOCRATIC_CACHE", str(tmp_path))
    assert 0 == main(["bench", "calibrate", "--steps", "1", "--most", "1", "--json"])
    told = capsys.readouterr()
    figures = json.loads(told.out)
    assert {"stage", "items", "seconds"} == figures["costs"][0].keys()
    assert 1 == figures["batches"]["generator"]
    assert "generator, 1 items: " in told.err
    assert (tmp_path / "calibration.json").is_file()
    assert 2 == main(["bench", "calibrate", "--most", "0"])


async def test_nothing_to_measure_is_said(tmp_path: Path) -> None:
    """Models without a name are not remembered, so there is no use."""

    async def paint(prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (8, 8), "red")

    async def describe(image: Image.Image) -> str:
        return "a thing"

    settings = Settings(
        generator=paint, captioner=describe, scorer=None, judge="caption"
    )
    with pytest.raises(ConfigurationError, match="a model with a name"):
        await calibrate(settings, path=tmp_path / "calibration.json")
