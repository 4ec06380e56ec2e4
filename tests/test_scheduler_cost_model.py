"""The cost model: what calls cost, learned from calls, stored whole or not at all."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.scheduler.cost_model import CostModel, cache_file
from socratic_agents.scheduler.stage import Stage
from socratic_agents.scheduler.tuning import DEFAULT_TUNING

if TYPE_CHECKING:
    from collections.abc import Mapping

GOOD = {"stage": "draw", "model": "tiny", "key": "None", "seconds": {"1": 0.5}}
"""A curve as it is kept."""


def _stage(**options: Any) -> Stage[int, int]:
    return Stage(name="draw", run=list, **options)


def _learned(
    seconds: Mapping[int, float], stage: Stage[int, int], path: Path | None = None
) -> CostModel:
    cost_model = CostModel(path)
    for items, lasted in seconds.items():
        for _ in range(DEFAULT_TUNING.trusted_calls):
            cost_model.observe(stage, None, items=items, seconds=lasted)
    return cost_model


def _points(cost_model: CostModel, stage: Stage[int, int]) -> tuple[float, ...]:
    curve = cost_model.curve(stage, None)
    assert curve is not None
    return curve.seconds


@pytest.mark.parametrize(
    ("environment", "file"),
    [
        ({"SOCRATIC_CACHE": "own"}, Path("own/calibration.json")),
        (
            {"XDG_CACHE_HOME": "caches"},
            Path("caches/socratic_agents/calibration.json"),
        ),
        (
            {"SOCRATIC_CACHE": "", "XDG_CACHE_HOME": ""},
            Path.home() / ".cache/socratic_agents/calibration.json",
        ),
        ({}, Path.home() / ".cache/socratic_agents/calibration.json"),
    ],
)
def test_curves_lie_in_the_cache_folder(
    environment: dict[str, str], file: Path
) -> None:
    """One's own folder wins over the system's, and empty names are none."""
    assert file == cache_file(environment)


def test_a_size_is_believed_when_it_was_seen_often_enough() -> None:
    """First calls may compile; one slow call among many changes nothing."""
    stage, cost_model = _stage(max_batch=2), CostModel()
    assert cost_model.curve(stage, None) is None
    for n, seconds in enumerate([9.0, 1.0, 1.0], 1):
        assert cost_model.curve(stage, None) is None
        cost_model.observe(stage, None, items=2, seconds=seconds)
        assert (n < DEFAULT_TUNING.trusted_calls) == (
            cost_model.curve(stage, None) is None
        )
    assert 1.0 == _points(cost_model, stage)[1]


def test_old_calls_are_forgotten() -> None:
    """A device that became slower is found out."""
    stage = _stage(max_batch=2)
    cost_model = _learned({2: 1.0}, stage)
    for _ in range(DEFAULT_TUNING.calls_per_size):
        cost_model.observe(stage, None, items=2, seconds=3.0)
    assert 3.0 == _points(cost_model, stage)[1]


@given(
    seconds=st.dictionaries(st.integers(1, 8), st.floats(0.01, 100), min_size=1),
    max_batch=st.integers(2, 8),
    options=st.sampled_from([{}, {"padded": True}, {"bucketed": True}]),
)
def test_curves_have_every_size_and_never_fall(
    seconds: dict[int, float], max_batch: int, options: dict[str, bool]
) -> None:
    """Whatever was seen, there is a cost above 0 for every size that may be called."""
    stage = _stage(max_batch=max_batch, **options)
    points = _points(_learned(seconds, stage), stage)
    assert max_batch == len(points)
    assert points[0] > 0
    assert all(less <= more for less, more in pairwise(points))
    if options.get("padded"):
        assert 1 == len(set(points))


def test_curves_are_straight_between_what_was_seen() -> None:
    """Larger calls than any that was seen are hoped to be cheap, so that some come."""
    stage = _stage(max_batch=6)
    points = _points(_learned({2: 2.0, 4: 3.0}, stage), stage)
    assert (1.5, 2.0, 2.5, 3.0, 3.375, 3.75) == points
    bucketed = _stage(max_batch=6, bucketed=True)
    points = _points(_learned({1: 1.0, 4: 4.0, 6: 6.0}, bucketed), bucketed)
    assert (1.0, 2.0, 3.0, 4.0, 6.0, 6.0) == points


def test_what_takes_no_time_has_no_curve() -> None:
    """Where even the largest call is quick, nothing is worth a thought."""
    stage = _stage()
    assert _learned({1: 1e-5, 8: 9e-4}, stage).curve(stage, None) is None


def test_single_items_are_not_learned_from() -> None:
    """A stage that takes one at a time leaves nothing to choose."""
    stage = _stage(max_batch=1, model="tiny")
    cost_model = _learned({1: 1.0}, stage)
    assert cost_model.curve(stage, None) is None
    assert 1 == cost_model.limit(stage, None)
    assert not cost_model._records


def test_curves_differ_by_stage_model_and_key() -> None:
    """Large images cost more than small ones, and say nothing about them."""
    stage = _stage(max_batch=2)
    cost_model = CostModel()
    for _ in range(DEFAULT_TUNING.trusted_calls):
        cost_model.observe(stage, (64, 64), items=2, seconds=1.0)
    assert cost_model.curve(stage, (64, 64)) is not None
    assert cost_model.curve(stage, (32, 64)) is None
    assert cost_model.curve(_stage(max_batch=2, model="b"), (64, 64)) is None


def test_the_memory_sets_a_limit_that_only_falls() -> None:
    """What did not fit once is not tried again in this run."""
    stage = _stage(max_batch=6)
    cost_model = _learned({6: 6.0}, stage)
    assert 6 == cost_model.limit(stage, None)
    assert 6 == len(_points(cost_model, stage))
    for cap, limit in ((4, 4), (2, 2), (3, 2)):
        cost_model.lower_limit(stage, None, cap=cap)
        assert limit == cost_model.limit(stage, None)
        assert limit == len(_points(cost_model, stage))
    assert 6 == cost_model.limit(stage, "another")


def test_keys_without_end_do_not_fill_the_memory() -> None:
    """The oldest curve goes first."""
    stage, cost_model = _stage(max_batch=2), CostModel()
    for key in range(DEFAULT_TUNING.stored_curves + 10):
        for _ in range(DEFAULT_TUNING.trusted_calls):
            cost_model.observe(stage, key, items=1, seconds=1.0)
    assert DEFAULT_TUNING.stored_curves == len(cost_model._records)
    assert cost_model.curve(stage, 9) is None
    assert cost_model.curve(stage, 10) is not None


def test_named_models_are_remembered(tmp_path: Path) -> None:
    """The next run knows what this one has learned, but not what did not fit."""
    path, stage = tmp_path / "new" / "calibration.json", _stage(model="tiny")
    cost_model = _learned({1: 0.5, 8: 2.0}, stage, path)
    cost_model.observe(stage, None, items=4, seconds=9.0)  # once is not enough
    cost_model.save()
    assert [path] == list(path.parent.iterdir())
    again = CostModel(path)
    assert _points(again, stage) == _points(cost_model, stage)
    cost_model.lower_limit(stage, None, cap=2)
    cost_model.save()
    assert 8 == CostModel(path).limit(stage, None)


@pytest.mark.parametrize("model", [None, "tiny"])
def test_nothing_is_written_without_need(tmp_path: Path, model: str | None) -> None:
    """Models without a name leave no trace, nor do runs that learned nothing."""
    path = tmp_path / "calibration.json"
    cost_model = _learned({1: 0.5}, _stage(), path)
    if model:
        cost_model.observe(_stage(model=model), None, items=1, seconds=1.0)
    cost_model.save()
    assert not list(tmp_path.iterdir())
    path.write_text(json.dumps({"schema": 1, "curves": [GOOD]}))
    before = path.read_bytes()
    cost_model = _learned({1: 0.5}, _stage(), path)
    cost_model.save()
    assert before == path.read_bytes()
    _learned({1: 0.5}, _stage(model="tiny")).save()  # it has no place to keep it


def test_a_folder_that_cannot_be_written_is_no_cache(tmp_path: Path) -> None:
    """Nobody is bothered, and nothing is left behind."""
    (tmp_path / "file").touch()
    stage = _stage(model="tiny")
    _learned({1: 0.5}, stage, tmp_path / "file" / "calibration.json").save()
    (tmp_path / "folder.json" / "inside").mkdir(parents=True)
    _learned({1: 0.5}, stage, tmp_path / "folder.json").save()
    assert {"file", "folder.json"} == {path.name for path in tmp_path.iterdir()}


def _file(*curves: object, schema: object = 1) -> bytes:
    return json.dumps({"schema": schema, "curves": [GOOD, *curves]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        b'{"schema": 1}',
        b'{"schema": 1, "curves": {"a": 1}}',
        _file(schema=2),
        _file("text"),
        _file({}),
        _file(GOOD | {"seconds": None}),
        _file(GOOD | {"seconds": {"one": 1.0}}),
        _file(GOOD | {"seconds": {"0": 1.0}}),
        _file(GOOD | {"seconds": {"1": 0}}),
        _file(GOOD | {"seconds": {"1": -1.0}}),
        _file(GOOD | {"seconds": {"1": float("nan")}}),
        _file(GOOD | {"seconds": {"1": float("inf")}}),
        _file(GOOD | {"seconds": {"1": 10**400}}),
        _file(GOOD | {"seconds": {"1": "x"}}),
    ],
    ids=repr,
)
def test_foreign_files_are_ignored(tmp_path: Path, data: bytes) -> None:
    """One wrong curve is reason enough to trust none of the file."""
    path = tmp_path / "calibration.json"
    path.write_bytes(data)
    assert not CostModel(path)._records


def test_the_good_file_of_these_tests_is_good(tmp_path: Path) -> None:
    """Otherwise the files above could be ignored for another reason."""
    path = tmp_path / "calibration.json"
    path.write_bytes(_file())
    assert 0.5 == _points(CostModel(path), _stage(model="tiny"))[0]
    assert not CostModel(tmp_path / "none.json")._records


@given(data=st.data())
def test_a_broken_file_is_whole_or_ignored(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wherever a file breaks off, no half of it is believed."""
    path = tmp_path_factory.getbasetemp() / "broken.json"
    whole = _file(*(GOOD | {"key": str(n)} for n in range(3)))
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    assert len(CostModel(path)._records) == (4 if cut == len(whole) else 0)
