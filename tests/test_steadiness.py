"""Steadiness: strict calls of several items are made only where bits stay the same.

* An item's bits are the same at any place of a call, beside anything, or it is alone.
* What was measured is kept, and what cannot be measured is not taken to be steady.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from socratic_agents.cli.doctor import checks
from socratic_agents.models import steadiness
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.steadiness import (
    captioner_steadiness,
    found_before,
    generator_steadiness,
    is_steady,
    remembered,
    scorer_steadiness,
)
from socratic_agents.pocket import SAMPLING, weights_folder
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.cost_model import cache_file
from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def alike(items: Sequence[int]) -> list[float]:
    return [item / 3 for item in items]


def by_place(items: Sequence[int]) -> list[float]:
    return [item + (place == 2) * 1e-7 for place, item in enumerate(items)]


def by_neighbour(items: Sequence[int]) -> list[float]:
    return [item + max(items) * 1e-7 for item in items]


@pytest.mark.parametrize(
    ("compute", "steady"), [(alike, True), (by_place, False), (by_neighbour, False)]
)
def test_place_and_neighbours_are_found_out(
    compute: Callable[[Sequence[int]], list[float]], steady: bool
) -> None:
    """One of them is enough to make an item's bits depend on what else is there."""
    assert steady == is_steady(compute, [1, 2, 3, 5], 4)
    assert steady == is_steady(compute, [1, 2, 3, 5], 16)


def test_an_item_that_fails_is_no_proof() -> None:
    """It is raised, whether the model raised or returned it."""
    with pytest.raises(ValueError, match="no image"):
        is_steady(lambda items: [ValueError("no image")] * len(items), [1, 2], 2)


def test_the_pocket_models_are_measured_by_their_numbers() -> None:
    """With few steps and two words, so that it costs less than an image."""
    drawn = Diffusion.load(str(weights_folder("generator")), **SAMPLING)
    looks = Captioner.load(str(weights_folder("captioner")))
    scores = Clip.load(str(weights_folder("scorer")))
    images = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    captioned, asked = (
        looks.first_words(images, questions) for questions in (None, ["is it ?"] * 2)
    )

    assert (2, looks._model.config.text_config.vocab_size) == captioned[0].shape
    assert not np.array_equal(captioned[0], captioned[1])
    assert not np.array_equal(captioned[0], asked[0])
    for measure in (
        generator_steadiness(drawn),
        captioner_steadiness(looks, asked=False),
        captioner_steadiness(looks, asked=True),
        scorer_steadiness(scores),
    ):
        assert isinstance(measure(4), bool)
    assert SAMPLING["steps"] == drawn._call["num_inference_steps"]


def test_a_scheduler_that_takes_no_single_step_is_measured_with_its_own() -> None:
    """A model that fails with them too cannot be measured."""

    class Picky(Diffusion):
        fails = False

        def arrays(self, requests: Any) -> Any:
            assert self._call["num_inference_steps"] > 1
            if self.fails:
                raise RuntimeError
            return alike([seed for _, seed in requests])

    picky = Picky(tiny_models.stable_diffusion(), steps=3)
    measure = generator_steadiness(picky)
    assert measure(4)
    picky.fails = True
    with pytest.raises(RuntimeError):
        measure(4)


def test_a_pipeline_without_steps_stays_as_it_is() -> None:
    """There is nothing to make fewer."""
    model = Diffusion(tiny_models.stable_diffusion())
    model._defaults = {}
    assert model._call == model.with_steps(1)._call


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOCRATIC_CACHE", str(tmp_path / "cache"))
    return cache_file().with_name("steadiness.json")


def test_what_was_measured_is_kept(path: Path) -> None:
    """By the model's name, for the same processor and libraries alone."""
    asked: list[str] = []

    def measure(name: str, *, steady: bool) -> bool:
        asked.append(name)
        return steady

    for _ in range(2):
        assert remembered("a", lambda: measure("a", steady=True))
        assert not remembered("b", lambda: measure("b", steady=False))
        assert remembered(None, lambda: measure("nameless", steady=True))
    os.environ["MKL_CBWR"] = "COMPATIBLE"
    try:
        assert remembered("a", lambda: measure("elsewhere", steady=True))
    finally:
        del os.environ["MKL_CBWR"]
    assert ["a", "b", "nameless", "nameless", "elsewhere"] == asked
    kept = found_before()
    assert [True, False, True] == list(kept.values())
    capability = torch.backends.cpu.get_cpu_capability()
    assert all(capability in key for key in kept)
    assert not list(path.parent.glob(".*.part"))


def test_what_fails_when_it_is_measured_is_done_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And a line says what that means."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def fail() -> bool:
        raise RuntimeError

    with caplog.at_level(logging.WARNING, "socratic_agents"):
        assert not remembered("images of x", fail)
    [record] = caplog.records
    assert "calls of one item are made" in record.getMessage()
    assert "images of x" in record.getMessage()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"[" * 100_000,
        b"[]",
        b'{"schema": 2, "steady": {"a": true}}',
        b'{"schema": 1}',
        b'{"schema": 1, "steady": {"a": 1}}',
    ],
)
def test_a_file_of_something_else_is_measured_over(path: Path, content: bytes) -> None:
    """Nothing in it is taken for what it does not say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert {} == found_before()
    assert remembered("a", lambda: True)
    assert 1 == len(json.loads(path.read_bytes())["steady"])


def test_a_folder_that_cannot_be_written_is_done_without(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured again next time."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SOCRATIC_CACHE", str(tmp_path / "file"))
    assert remembered("a", lambda: True)
    assert not remembered("a", lambda: False)
    assert not path.exists()


def test_a_processor_without_a_name_is_told_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not every system has a list of processors."""
    monkeypatch.setattr(steadiness, "PROCESSORS", tmp_path / "none")
    assert torch.backends.cpu.get_cpu_capability() in steadiness._processor()
    (tmp_path / "some").write_text("model name\t: Some Processor\n")
    monkeypatch.setattr(steadiness, "PROCESSORS", tmp_path / "some")
    assert steadiness._processor().startswith("Some Processor, ")
    (tmp_path / "some").write_text("nothing\n")
    assert "Some" not in steadiness._processor()


@pytest.mark.parametrize("steady", [True, False])
async def test_calls_of_one_are_made_where_bits_would_differ(
    monkeypatch: pytest.MonkeyPatch, path: Path, steady: bool
) -> None:
    """A refinement is the same alone and among others, on either kind of processor."""
    monkeypatch.setattr(steadiness, "is_steady", lambda *_: steady)
    assert {} == found_before()
    prompts = ["a crimson ball", "an azure box", "a lemon disc"]
    async with Refiner(strict=True, rounds=2, seed=5) as refiner:
        alone = await refiner.refine(prompts[0])
        together = [outcome async for outcome in refiner.refine_many(prompts)]
        statistics = refiner.statistics()
    [same] = [one for one in together if one.index == 0]
    assert alone.history == same.history
    assert statistics is not None
    stages = statistics.stages
    assert steady == (stages["generator"].items > stages["generator"].batches)
    if not steady:
        assert all(one.items == one.batches for one in stages.values())


def test_the_doctor_says_what_was_found(path: Path) -> None:
    """And of which model's calls it was not so."""
    assert not path.exists()
    assert "not measured yet" in doctor()
    assert remembered("questions of a", lambda: True)
    assert "the same bits for 1 of 1 that were measured" in doctor()
    assert not remembered("generator of b", lambda: False)
    assert (
        "for 1 of 2 that were measured; calls of one item: generator of b" in doctor()
    )


def doctor() -> str:
    [found] = [one.detail for one in checks() if one.name == "strict"]
    return found


async def test_a_model_of_ones_own_is_asked_one_by_one() -> None:
    """Nobody knows what it does with the others of a list."""

    class Eyes:
        sizes: list[int] = []  # noqa: RUF012 - of this test alone

        def caption(self, images: list[Image.Image]) -> list[str]:
            self.sizes.append(len(images))
            return ["a red circle"] * len(images)

        def score(self, pairs: list[tuple[str, Image.Image]]) -> list[float]:
            self.sizes.append(len(pairs))
            return [0.5] * len(pairs)

    async with Refiner(
        strict=True, captioner=Eyes(), scorer=Eyes(), judge="never", rounds=1
    ) as refiner:
        await refiner.agents()
        assert refiner._opened is not None
        models = refiner._opened.models
        assert models.score is not None
        image = Image.new("RGB", (8, 8), (200, 30, 30))
        await asyncio.gather(
            *(models.caption(image) for _ in range(5)),
            *(models.score("a", image) for _ in range(5)),
        )
    assert {1} == set(Eyes.sizes)


async def test_a_strict_score_does_not_depend_on_other_prompts() -> None:
    """A captioner that scores fills no prompt up to a longer one beside it."""
    image = Image.new("RGB", (32, 32), (200, 30, 30))
    short, long = "a red circle", " and ".join(["a small red circle"] * 6)
    async with Refiner(strict=True, scorer="captioner") as refiner:
        await refiner.agents()
        assert refiner._opened is not None
        score = refiner._opened.models.score
        assert score is not None
        alone = await score(short, image)
        together = await asyncio.gather(score(long, image), score(short, image))
    assert alone == together[1]
