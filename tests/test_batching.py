"""Batching: how calls are formed on each kind of device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.models.devices import free_memory
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.runtime.batching import (
    BATCHES,
    CPU_BATCH,
    POCKET_BATCH,
    stage_options,
)
from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.worker import Stage, Worker
from tests.tiny_models import stable_diffusion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (seed % 256, 0, 0))


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def _a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some Card")


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (Settings(strict=False), POCKET_BATCH),
        (Settings(generator=paint), CPU_BATCH),
        (Settings(generator="some/model"), CPU_BATCH),
    ],
)
def test_a_cpu_takes_few_items(worker: Worker, settings: Settings, size: int) -> None:
    """Only the pocket models gain from more, and only where sizes may differ."""
    formed = stage_options("generator", settings, worker, stage="generator")
    assert size == formed["max_batch"]


@pytest.mark.parametrize(("steady", "size"), [(True, CPU_BATCH), (False, 1), (None, 1)])
def test_strict_calls_have_several_items_where_that_shows_nowhere(
    worker: Worker, *, steady: bool | None, size: int
) -> None:
    """It is measured with as many; where nobody can measure it, there is one."""
    asked: list[int] = []

    def measure(size: int) -> bool:
        asked.append(size)
        return bool(steady)

    formed = stage_options(
        "generator",
        Settings(strict=True, generator=paint),
        worker,
        stage="generator",
        steady=None if steady is None else measure,
    )
    assert size == formed["max_batch"]
    assert asked == [CPU_BATCH] * (steady is not None)


def test_a_captioner_that_scores_costs_what_it_costs(worker: Worker) -> None:
    """It is known by its own name."""
    settings = Settings(scorer="captioner", captioner="some/model")
    formed = stage_options("scorer", settings, worker, stage="scorer")
    assert formed["model"].startswith("some/model, ")


def test_strict_calls_have_one_size_and_others_few(worker: Worker) -> None:
    """So a stage is filled up whole, or to one of a few sizes."""
    for strict in (True, False):
        settings = Settings(strict=strict)
        formed = stage_options("captioner", settings, worker, stage="captioner")
        assert (strict, not strict) == (formed["padded"], formed["bucketed"])


def test_the_pocket_profile_is_strict_and_other_generators_are_not() -> None:
    """What is there to be tried out comes out alike; what is there to work is quick."""
    assert Settings().strict
    assert Settings(generator="pocket").strict
    assert Settings(profile="classic").strict
    assert not Settings(generator=paint).strict
    assert not Settings(profile="local-24gb").strict
    assert Settings(profile="local-24gb", strict=True).strict


@pytest.mark.usefixtures("_a_card")
def test_a_card_takes_what_its_model_is_known_for(
    worker: Worker, tmp_path: Path
) -> None:
    """Until a calibration has measured larger calls."""
    settings = Settings(device="cuda", profile="local-24gb")
    for part, size in BATCHES.items():
        formed = stage_options(part, settings, worker, stage=part)
        assert size == formed["max_batch"]
    cost_model = CostModel(tmp_path / "calibration.json")
    formed = stage_options("generator", settings, worker, stage="generator")
    stage: Stage[int, int] = Stage(run=_echo, **{**formed, "max_batch": 32})
    cost_model.observe(stage, None, items=32, seconds=1.0)
    knowing = Worker(cost_model=cost_model)
    again = stage_options("generator", settings, knowing, stage="generator")
    assert 32 == again["max_batch"]
    strict = settings.but(strict=True)
    one = stage_options("generator", strict, knowing, stage="generator")
    # There an image's last bits depend on its place in a call.
    assert 1 == one["max_batch"]


@pytest.mark.usefixtures("_a_card")
def test_a_cost_is_remembered_for_what_decides_it(worker: Worker) -> None:
    """The model, its revision, size and steps, the device and the versions."""
    settings = Settings(profile="local-24gb", device="cuda")
    one = stage_options("generator", settings, worker, stage="generator")["model"]
    for part in ("Z-Image-Turbo", "f332072aa", "steps=8", "width=1024"):
        assert part[:8] in one
    assert "Some Card" in one
    assert f"torch {torch.__version__}".partition("+")[0] in one
    more = settings.but(steps=30)
    assert one != stage_options("generator", more, worker, stage="generator")["model"]
    other = settings.but(seed=9)
    assert one == stage_options("generator", other, worker, stage="generator")["model"]


def test_an_object_has_no_name_to_be_remembered_by(worker: Worker) -> None:
    """Its curve is forgotten with the worker."""
    settings = Settings(generator=paint)
    assert stage_options("generator", settings, worker, stage="x")["model"] is None
    assert 0 == worker.largest_measured("x", None)


def test_memory_is_freed_on_every_kind_of_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one; elsewhere it does no harm."""
    freed: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("cuda"))
    free_memory()
    assert ["cuda"] == freed


def test_a_decoder_works_in_tiles_where_it_can() -> None:
    """It is asked for by the worker when memory is short."""
    model = Diffusion(stable_diffusion())
    assert not model.pipeline.vae.use_tiling
    model.decode_in_tiles()
    assert model.pipeline.vae.use_tiling


def test_a_pipeline_without_such_a_decoder_goes_on() -> None:
    """There is nothing to make smaller."""
    pipeline = stable_diffusion()
    pipeline.vae = None
    Diffusion(pipeline).decode_in_tiles()


def _echo(items: list[int]) -> Sequence[int]:
    return items
