"""Limits hold, and nothing leaks: budgets, cancellation, two writers, a long run.

F8   Too little memory for more than k images at once, k from 8 to 0: 9 cases.
F9   Numbers that are not finite after each of 10 steps under 3 schedulers, filtered and
     black images: 40 cases; and 500 dark, pale and noisy images that are none of it.
F15  10,000 rounds: memory, file descriptors and tasks stay.
F16  200 cancellations at any moment.
F17  Two processes and one run directory: 20 times.
F18  Budgets of images, calls, tokens, money and time that end at each stage.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.budget import Budget, Prices
from socratic_agents.core.errors import (
    BudgetError,
    CandidateError,
    ConfigurationError,
    NothingDrawnError,
)
from socratic_agents.core.history import Status, StopReason
from socratic_agents.core.outcome import Failure
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage import failpoints
from socratic_agents.storage.journal import Journal, key_of
from socratic_agents.storage.run_directory import RunDirectory
from tests import tiny_models
from tests.faults.runner import Eyes, paint
from tests.faults.trials import PROMPTS, left_in, numbered, without_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.core.outcome import Refinement
    from tests.faults.trials import Bench, Left

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

SMALL: dict[str, Any] = {"generator": paint, "captioner": Eyes(), "scorer": None}
NUMERICAL, FILTERED = Status.NUMERICAL_FAILURE, Status.SAFETY_FILTERED


# F18


PRICES = Prices(image=1.0, input_tokens=100.0, output_tokens=100.0)
LIMITS = [
    *({"llm_calls": n} for n in range(1, 8)),
    *({"images": n} for n in range(1, 8)),
    *({"tokens": n} for n in (1, 300, 900, 1500, 3000)),
    *({"money": n} for n in (0.01, 1.1, 3.3, 5.5)),
    {"seconds": 1e-6},
]


async def counted_by(budget: Budget, *, whose: str) -> Refinement:
    settings = Settings(rounds=4, prices=PRICES, **{whose: budget})
    async with Refiner(settings, **SMALL) as refiner:
        return await refiner.refine(PROMPTS[2])


@pytest.fixture(scope="module")
def unlimited() -> Refinement:
    """Return what comes of no budget at all."""
    return asyncio.run(counted_by(Budget(), whose="budget"))


@pytest.mark.parametrize("whose", ["budget", "run_budget"])
@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_a_budget_ends_a_refinement_with_its_best(
    limit: dict[str, Any], whose: str, unlimited: Refinement
) -> None:
    """Whichever stage is reached: a result, its reason, and one call too many at most."""
    budget = Budget(**limit)
    if (whose, *limit) == ("run_budget", "seconds"):
        with pytest.raises(BudgetError, match=r"0\.0 of 1e-06 seconds; raise"):
            await counted_by(budget, whose=whose)
        return
    found = await counted_by(budget, whose=whose)
    assert found.best.usable
    usage, ((name, most),) = found.usage, limit.items()
    spent = {
        "llm_calls": usage.llm_calls,
        "images": usage.images,
        "tokens": usage.input_tokens + usage.output_tokens,
        "money": usage.money,
    }
    free = {
        "llm_calls": unlimited.usage.llm_calls,
        "images": unlimited.usage.images,
        "tokens": unlimited.usage.input_tokens + unlimited.usage.output_tokens,
        "money": unlimited.usage.money,
    }
    if name == "seconds" or free[name] > most:
        assert found.stop is StopReason.BUDGET_SPENT
    if name in {"llm_calls", "images"}:
        assert spent[name] <= most
    if name == "tokens":
        # What a call takes is known when it is over; no other one is begun then.
        assert spent[name] - most < max(asked_tokens(found), asked_tokens(unlimited))


def asked_tokens(refinement: Refinement) -> int:
    """Return more tokens than any one call took."""
    return refinement.usage.input_tokens + refinement.usage.output_tokens


# F16


class Batch:
    """Two prompts in a run directory, cancelled or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(rounds=2)

    async def run(self) -> None:
        with RunDirectory(
            self.folder, settings=self.settings.public(), resume=True
        ) as run:
            todo = [n for n in range(2) if run.finished(n, PROMPTS[n]) is None]
            refiner = Refiner(self.settings.but(**SMALL)).remember(run)
            async with refiner:
                outcomes = refiner.refine_many([PROMPTS[n] for n in todo])
                try:
                    async for outcome in outcomes:
                        run.save(replace(outcome, index=todo[outcome.index]))
                finally:
                    await outcomes.aclose()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Return what nobody cancelled."""
    folder = tmp_path_factory.mktemp("whole")
    asyncio.run(Batch(folder).run())
    return left_in(folder)


@pytest.mark.parametrize("trial", numbered(200, smoke=10))
async def test_cancelling_at_any_moment_leaves_nothing_behind(
    tmp_path: Path, whole: Left, trial: int
) -> None:
    """No task, no lock and no half of a record; the batch can be gone on with."""
    batch, chance = Batch(tmp_path), random.Random(trial)
    before = asyncio.all_tasks()
    task = asyncio.create_task(batch.run())
    await asyncio.wait([task], timeout=chance.uniform(0, 0.25))
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    assert before == asyncio.all_tasks()
    left = left_in(tmp_path)
    assert (0, 0) == (left.torn, left.parts)
    await batch.run()  # the lock is free
    after = left_in(tmp_path)
    assert without_times(whole.results) == without_times(after.results)
    assert whole.objects == after.objects
    assert whole.steps == after.steps


async def test_who_stops_waiting_for_a_step_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that he paid for is written, and so are those that come after."""
    free, keys = threading.Event(), [key_of("llm", number) for number in range(8)]

    def drawn() -> dict[str, Any]:
        free.wait()
        return {"text": "drawn"}

    monkeypatch.setattr(
        failpoints, "hook", lambda point: point != "journal:sync" or free.wait()
    )
    with Journal(tmp_path) as journal:
        for key in keys[2:]:  # more than are written at once
            journal.put_async("generate", key, drawn)
        waits = asyncio.create_task(
            journal.put_durable("llm", keys[0], {"text": "paid"})
        )
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        written = journal.put("llm", keys[0], {"text": "paid"})
        waits = asyncio.create_task(_until(written))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        free.set()
        await journal.put_durable("llm", keys[1], {"text": "paid too"})
    with Journal(tmp_path) as journal:
        assert all(journal.get(key) for key in keys)


async def _until(written: Any) -> None:
    await asyncio.wrap_future(written)


# F17


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("trial", numbered(20, smoke=2))
def test_a_second_process_is_refused(bench: Bench, trial: int) -> None:
    """And told who writes there; the first one is not disturbed."""
    out = bench.folder / "shared"
    both = bench.both(out)
    assert {0, 2} == {one.code for one in both}
    (refused,) = [one for one in both if one.code == 2]
    assert f"error: expected {out} to be free, but " in refused.told
    assert len(PROMPTS) == len(left_in(out).results)
    with RunDirectory(out, settings={}, accept_changes=True):
        ended = bench.run(out)
    assert 2 == ended.code
    assert f"to be free, but process {os.getpid()} is writing in it" in ended.told
    shutil.rmtree(out)


# F15


class Counter:
    """What a process holds on to."""

    def __init__(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        self.descriptors = len([*Path("/proc/self/fd").iterdir()])
        self.tasks = len(asyncio.all_tasks())


async def quick_paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (len(prompt) % 256, seed % 256, seed // 256 % 256))


async def quick_caption(image: Image.Image) -> str:
    return f"a thing of shade {image.getpixel((0, 0))}"


async def quick_optimize(history: Any) -> tuple[str, ...]:
    return (f"{history.user_prompt}, round {len(history.rounds)}",)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "rounds", [500, pytest.param(10_000, marks=[pytest.mark.nightly])]
)
async def test_a_long_run_does_not_grow(tmp_path: Path, rounds: int) -> None:
    """Memory grows by less than 50 MB, descriptors and tasks not at all."""
    settings = Settings(
        generator=quick_paint,
        captioner=quick_caption,
        scorer=None,
        judge="never",
        selector="last",
        optimizer=quick_optimize,
        rounds=10,
    )
    done = 0
    with RunDirectory(tmp_path, settings=settings.public()) as run:
        async with Refiner(settings).remember(run) as refiner:
            early = None
            prompts = (f"a cat of number {n}" for n in range(rounds // 10))
            async for outcome in refiner.refine_many(prompts):
                assert not isinstance(outcome, Failure)
                done += len(run.save(outcome).rounds)
                if early is None and done >= rounds // 5:
                    early = Counter()
            late = Counter()
    assert rounds == done
    assert early is not None
    assert late.megabytes - early.megabytes < 50
    assert abs(late.descriptors - early.descriptors) <= 2
    assert late.tasks <= early.tasks


# F9


def spoiling(step: int, value: float) -> Any:
    """Return what spoils the latents after a step."""

    def spoil(_pipe: Any, done: int, _time: Any, given: dict[str, Any]) -> Any:
        if done == step:
            given["latents"][0, 0, 0, 0] = value
        return given

    return spoil


def statuses(drawn: Sequence[Any]) -> list[Status]:
    return [
        one.status if isinstance(one, CandidateError) else Status.OK for one in drawn
    ]


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize(
    "scheduler",
    ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"],
)
def test_numbers_that_are_not_finite_are_found(scheduler: str) -> None:
    """After whichever of the 10 steps they come in."""
    pipeline = tiny_models.stable_diffusion(scheduler=scheduler)
    call: dict[str, Any] = {"steps": 10, "width": 16, "height": 16}
    assert [Status.OK] == statuses(Diffusion(pipeline, **call)([("a", 1)]))
    for step in range(10):
        broken = spoiling(step, (math.nan, math.inf)[step % 2])
        draw = Diffusion(pipeline, callback_on_step_end=broken, **call)
        assert [NUMERICAL] == statuses(draw([("a", 1)]))


class Painter:
    """Stands in for a pipeline: gives what it was made with, if memory is enough."""

    def __init__(self, *images: Any, flags: Any = None, fits: int = 99) -> None:
        self.images, self.flags, self.fits = images, flags, fits
        self.calls: list[int] = []
        self.scheduler: Any = None
        self.components: dict[str, Any] = {}
        self.vae = SimpleNamespace(enable_tiling=self._tile)
        self.tiled, self.device = False, SimpleNamespace(type="cpu")

    def _tile(self) -> None:
        self.tiled = True

    def __call__(
        self,
        prompt: list[str],
        generator: list[Any],
        output_type: str = "np",
        num_inference_steps: int = 2,
        guidance_scale: float = 1.0,
    ) -> Any:
        import torch

        self.calls.append(len(prompt))
        if len(prompt) > self.fits:
            raise torch.OutOfMemoryError(f"{len(prompt)} images")
        images = self.images or [np.full((8, 8, 3), 0.5, dtype=np.float32)]
        images = [images[n % len(images)] for n in range(len(prompt))]
        return SimpleNamespace(images=images, nsfw_content_detected=self.flags)


@pytest.mark.parametrize("shade", [0.0, 0.3 / 255, 1.4 / 255, 0.5, 1.0])
@pytest.mark.parametrize("filtered", [False, True])
def test_black_and_filtered_images_are_told_apart(shade: float, filtered: bool) -> None:
    """Black is no image, filtered is none whatever it shows; grey and white are some."""
    painter = Painter(np.full((8, 8, 3), shade, dtype=np.float32), flags=[filtered])
    expected = FILTERED if filtered else Status.OK if shade > 0.1 else NUMERICAL
    assert [expected] == statuses(Diffusion(painter)([("a", 1)]))


def test_dark_pale_and_noisy_images_are_images() -> None:
    """500 of them, and not one false alarm."""
    images = []
    for number in range(500):
        chance = np.random.default_rng(number)
        noise = chance.random((8, 8, 3), dtype=np.float32)
        dark, pale = noise * chance.uniform(0.02, 0.1), 1 - noise * 0.05
        images.append((dark, pale, noise, noise * [1, 0, 0])[number % 4])
    for start in range(0, 500, 50):
        draw = Diffusion(Painter(*images[start : start + 50]))
        assert [Status.OK] * 50 == statuses(draw([("a", n) for n in range(50)]))


# F8


@pytest.mark.parametrize("fits", range(8, -1, -1))
async def test_too_little_memory_ends_in_smaller_calls(fits: int) -> None:
    """First smaller batches, then pieces of an image; then one image fails alone."""
    painter = Painter(fits=fits)
    settings = Settings(
        **{**SMALL, "generator": painter},
        judge="never",
        selector="last",
        optimizer=quick_optimize,
        guard=None,
        rounds=1,
        in_flight=8,
    )
    async with Refiner(settings) as refiner:
        outcomes = [o async for o in refiner.refine_many(["a cat"] * 8)]
    assert fits == 0 or not any(isinstance(one, Failure) for one in outcomes)
    assert (fits == 0) == painter.tiled
    if fits == 0:
        kinds = {one.kind for one in outcomes if isinstance(one, Failure)}
        assert {NothingDrawnError.__name__} == kinds
        assert 8 == len(outcomes)
    sizes = [size for size in painter.calls if size > fits]
    assert len(sizes) == len(set(sizes)) or fits == 0, "no size fails twice"


def test_a_folder_in_use_is_refused_here_too(tmp_path: Path) -> None:
    """Also to another directory of the same process."""
    with (
        RunDirectory(tmp_path, settings={}),
        pytest.raises(ConfigurationError, match=f"process {os.getpid()} is writing"),
        RunDirectory(tmp_path, settings={}),
    ):
        pass
