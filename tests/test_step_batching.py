"""What holds where images share the denoiser's calls.

R1  An image is what the stock pipeline draws alone, whatever is in flight beside it.
R2  The denoiser runs in the thread of the steps, and of all threads one at a time runs.
R3  A task that fails or is given up takes nobody with it.
R4  Closing ends everything: no thread is left, and whoever asks is told.
R5  What cannot be joined is refused with a reason, or run call by call.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents import Refinement, Refiner
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import CandidateError, ClosedError, ConfigurationError
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet
from socratic_agents.models.step_batching.batcher import StepBatcher
from socratic_agents.models.step_batching.hooks import check_step_batching
from socratic_agents.pocket import SAMPLING, weights_folder
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.worker import Worker
from tests import tiny_models
from tests.test_diffusion import CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Raised inside diffusers by its Euler schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SCHEDULERS = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DDIMScheduler",
    "UniPCMultistepScheduler",
    "PNDMScheduler",
    "LCMScheduler",
    "HeunDiscreteScheduler",
)


def requests(family: str, count: int = 5) -> list[dict[str, Any]]:
    """Return calls that differ in prompt, seed, steps and guidance."""
    base = {name: value for name, value in CALLS[family].items() if name != "steps"}
    guidance = "true_cfg_scale" if family == "qwen-image" else "guidance_scale"
    return [
        {
            **base,
            "prompt": f"a red circle {'and more' if place % 2 else ''}",
            "num_inference_steps": 2 + place % 3,
            guidance: 2.0 + place,
            "output_type": "np",
            "seed": place,
        }
        for place in range(count)
    ]


def draw(pipeline: Any, seed: int, **call: Any) -> Any:
    generator = [torch.Generator("cpu").manual_seed(seed)]
    return pipeline(generator=generator, **call).images[0]


def drawers(calls: list[dict[str, Any]]) -> list[Callable[[Any], Any]]:
    return [partial(draw, **call) for call in calls]


def furthest(some: list[Any], others: list[Any]) -> float:
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max())
        for a, b in zip(some, others, strict=True)
    )


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep progress bars out, and see that no thread is left behind."""
    with quiet():
        yield
    assert not [t for t in threading.enumerate() if t.name == "socratic-step-task"]


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
def test_drawings_are_those_of_the_stock_pipeline(family: str) -> None:
    """Eight families without a line of code for one of them, and fewer calls."""
    pipeline, calls = tiny_models.PIPELINES[family](), requests(family)
    pipeline.set_progress_bar_config(disable=True)
    expected = [draw(pipeline, **call) for call in calls]

    with StepBatcher(pipeline, max_batch=4) as batcher:
        got = batcher.run(drawers(calls))
        before = (batcher.calls, batcher.steps)
        again = batcher.run(drawers(calls))
        calls_made, steps = batcher.calls - before[0], batcher.steps - before[1]

    assert furthest(expected, got) <= 1e-4
    assert furthest(expected, again) <= 1e-4
    assert furthest(expected[:1], got[1:2]) > 1e-4
    assert calls_made <= steps * (0.75 if family == "qwen-image" else 0.5)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_keep_their_own_count(scheduler: str) -> None:
    """Each task has a scheduler of its own, the pipeline's stays as it was."""
    pipeline = tiny_models.stable_diffusion(scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    # In float64 a processor's own order of additions is far below a step's weight.
    pipeline.unet.double()
    pipeline.text_encoder.double()
    calls = requests("sd15", 4)
    calls[2]["guidance_scale"] = 0.0  # one row where the others have two
    for call in calls:
        call["output_type"] = "latent"
    expected = [draw(pipeline, **call) for call in calls]
    miscounted = [
        draw(
            pipeline, **call | {"num_inference_steps": call["num_inference_steps"] + 1}
        )
        for call in calls
    ]
    before = pipeline.scheduler.timesteps.clone()

    with StepBatcher(pipeline) as batcher:
        got = batcher.run(drawers(calls))

    # Some schedulers round samples to float32.
    rounding = torch.finfo(torch.float32).eps
    for right, wrong, drawn in zip(expected, miscounted, got, strict=True):
        scale = float(right.abs().max())
        assert furthest([right], [drawn]) <= rounding * scale
        assert furthest([wrong], [drawn]) > 1e4 * rounding * scale
    assert batcher.calls < batcher.steps
    assert torch.equal(before, pipeline.scheduler.timesteps)


def test_padded_drawings_do_not_depend_on_their_company() -> None:
    """Where every call has the same number of rows, every bit is the same."""
    pipeline = tiny_models.stable_diffusion(scheduler="EulerDiscreteScheduler")
    pipeline.set_progress_bar_config(disable=True)
    calls = requests("sd15")
    with StepBatcher(pipeline, max_batch=4, padded=True) as batcher:
        together = batcher.run(drawers(calls))
    with StepBatcher(pipeline, max_batch=4, padded=True) as batcher:
        alone = [batcher.run([one])[0] for one in drawers(calls)]

    assert 0 == furthest(alone, together)


class Adder(torch.nn.Module):
    """Adds the time to each row, and notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def forward(self, sample: Any, time: Any, **more: Any) -> Any:
        self.sizes.append(len(sample))
        self.threads.add(threading.get_ident())
        if (sample == 13).any():
            raise ValueError("thirteen")
        return (self.add(sample, time, **more), None)

    def add(self, sample: Any, time: Any) -> Any:
        return sample + time.reshape(-1, 1)


class Walk:
    """A pipeline that adds up its steps, beginning anywhere."""

    def __init__(self, unet: Any = None) -> None:
        self.unet = unet or Adder()
        self.scheduler = SimpleNamespace()

    def __call__(
        self, start: float, steps: int = 3, rows: int = 1, **more: Any
    ) -> float:
        sample = torch.full((rows, 2), float(start))
        for step in range(steps):
            sample, _ = self.unet(sample, torch.tensor(float(step)), **more)
        return float(sample.sum()) / (2 * rows)


def walk(*call: Any, **more: Any) -> Callable[[Any], Any]:
    return lambda pipeline: pipeline(*call, **more)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(1, 3))),
    st.integers(1, 4),
    st.booleans(),
)
def test_everyone_gets_its_own_rows(
    calls: list[tuple[int, int, int]], most: int, padded: bool
) -> None:
    """However many start, with whatever steps and rows, no two are mixed up."""
    pipeline = Walk()
    # A start of thirteen is never reached on the way: the sums go up by 0, 1, 2, 3.
    starts = [(100 * start + 20, steps, rows) for start, steps, rows in calls]
    expected = [start + steps * (steps - 1) / 2 for start, steps, _ in starts]
    with StepBatcher(pipeline, max_batch=most, padded=padded) as batcher:
        got = batcher.run([walk(*call) for call in starts])

    assert expected == got
    assert {threading.get_ident()} >= pipeline.unet.threads


def test_new_drawings_join_on_the_way() -> None:
    """A task that comes late shares the calls that are left, and ends later."""
    pipeline = Walk()
    with StepBatcher(pipeline) as batcher:
        first = batcher.submit(walk(20, steps=4))
        batcher.step()
        batcher.step()
        second = batcher.submit(walk(40, steps=3))
        with pytest.raises(RuntimeError, match="got one in flight"):
            second.result()
        batcher.step()
        batcher.step()
        assert (True, False) == (first.done, second.done)
        batcher.step()

    assert (26, 43) == (first.result(), second.result())
    # The first time that two meet, each is run by itself as well.
    assert [1, 1, 2, 1, 1, 2, 1] == pipeline.unet.sizes


def test_no_more_are_on_their_way_than_allowed() -> None:
    """Who waits starts when there is room, the oldest first."""
    pipeline, started = Walk(), list[int]()

    def noted(pipeline: Any, start: int) -> float:
        started.append(start)
        return pipeline(start, steps=2)

    with StepBatcher(pipeline, max_batch=2) as batcher:
        tasks = [batcher.submit(partial(noted, start=s)) for s in (20, 21, 22)]
        batcher.step()
        assert [20, 21] == started
        batcher.step()
        batcher.step()
        assert [True, True, False] == [task.done for task in tasks]

    assert max(pipeline.unet.sizes) == 2


def test_one_thread_runs_at_a_time() -> None:
    """What tasks share is never used by two of them, nor beside the denoiser."""
    running = threading.Lock()

    def strolls(pipeline: Any) -> float:
        total = 0.0
        for _ in range(3):
            assert running.acquire(blocking=False)
            running.release()
            total += pipeline(20, steps=1)
        return total

    class Guarded(Adder):
        def add(self, sample: Any, time: Any) -> Any:
            with running:
                return super().add(sample, time)

    with StepBatcher(Walk(Guarded())) as batcher:
        assert [60.0] * 8 == batcher.run([strolls] * 8)


def test_failures_stay_with_their_drawing() -> None:
    """A bad start, a bad call and a bad end each fail alone."""

    def late(pipeline: Any) -> float:
        pipeline(20)
        raise OSError("late")

    def early(pipeline: Any) -> float:
        raise KeyError("early")

    pipeline = Walk()
    with StepBatcher(pipeline) as batcher:
        got = batcher.run([*map(walk, (20, 13, 21)), early, late, walk(22)])

    kinds = [type(one) for one in got]
    assert [float, ValueError, float, KeyError, OSError, float] == kinds
    assert [23, 24, 25] == [got[0], got[2], got[5]]


def test_wrong_arguments_are_the_callers_fault() -> None:
    """A call that the denoiser does not take fails where it is made."""
    with StepBatcher(Walk()) as batcher:
        wrong, right = batcher.run(
            [lambda p: p.unet(), lambda p: p.unet.add(torch.ones(1, 2), torch.ones(1))]
        )

    assert isinstance(wrong, TypeError)
    assert torch.equal(torch.full((1, 2), 2.0), right)


def test_aborted_drawings_leave_between_two_steps() -> None:
    """The others go on, and what has not started never does."""
    pipeline, ended = Walk(), list[str]()

    def deaf(pipeline: Any) -> float:
        try:
            return pipeline(20, steps=9)
        except Exception:  # noqa: BLE001 - that is what it is for
            return pipeline(20, steps=9)
        finally:
            ended.append("left")

    with StepBatcher(pipeline, max_batch=2) as batcher:
        going, other = batcher.submit(deaf), batcher.submit(walk(20))
        waiting = batcher.submit(deaf)
        batcher.step()
        going.abort()
        waiting.abort()
        assert ["left"] == ended
        while not other.done:
            batcher.step()
        other.abort()

        assert 23 == other.result()
        for task in (going, waiting):
            with pytest.raises(ClosedError, match="was aborted"):
                task.result()


def test_drawing_may_be_aborted_during_a_turn() -> None:
    """It is gone when the turn ends, wherever it stood."""
    with StepBatcher(Walk()) as batcher:
        going = batcher.submit(walk(20, steps=9))
        batcher.step()

        def jealous(pipeline: Any) -> float:
            going.abort()
            assert not going.done
            return pipeline(20)

        other = batcher.submit(jealous)
        batcher.step()
        assert going.done
        late = batcher.submit(walk(20))
        batcher.submit(lambda p: late.abort())
        while not (other.done and late.done):
            batcher.step()

    assert 23 == other.result()


def test_stubborn_drawings_are_unwound_all_the_same() -> None:
    """A pipeline that catches everything once is told twice."""

    def stubborn(pipeline: Any) -> float:
        try:
            return pipeline(20, steps=9)
        except BaseException:  # noqa: BLE001 - that is what it is for
            return pipeline(20, steps=9)

    with StepBatcher(Walk()) as batcher:
        task = batcher.submit(stubborn)
        batcher.step()
    assert task.done


def test_closing_ends_everything() -> None:
    """Who is on the way, who waits, and who comes later are told."""
    batcher = StepBatcher(Walk(), max_batch=1)
    with batcher:
        tasks = [batcher.submit(walk(20)) for _ in range(2)]
        batcher.step()
    batcher.close()

    for task in tasks:
        with pytest.raises(ClosedError, match="lost its step batcher"):
            task.result()
    for late in (batcher.step, lambda: batcher.submit(lambda _: None)):
        with pytest.raises(ClosedError, match="expected an open step batcher"):
            late()


def test_closing_waits_for_a_turn() -> None:
    """Another thread may close; the running turn comes to its end first."""
    inside, closing = threading.Event(), threading.Event()

    class Slow(Adder):
        def add(self, sample: Any, time: Any) -> Any:
            inside.set()
            assert closing.wait(60)
            return super().add(sample, time)

    batcher = StepBatcher(Walk(Slow()))
    task = batcher.submit(walk(20))
    turning = threading.Thread(target=batcher.step)
    turning.start()
    assert inside.wait(60)
    closer = threading.Thread(target=batcher.close)
    closer.start()
    closing.set()
    turning.join()
    closer.join()

    assert task.done
    assert 1 == batcher.steps


class Odd(Adder):
    """Takes arguments of all kinds."""

    def add(self, sample: Any, time: Any, *, extra: Any = None, **others: Any) -> Any:
        sample = super().add(sample, time)
        if isinstance(extra, dict):
            return sample + extra["rows"] + extra["pair"][0]
        if isinstance(extra, list):
            return sample + torch.stack([row.sum() for row in extra]).reshape(-1, 1)
        if isinstance(extra, torch.Tensor):
            return sample + extra.sum() / len(extra)
        return sample


ARGUMENTS: dict[str, tuple[str, Callable[[int], Any], int]] = {
    # Its name, what the first and second task give, and the rows where they meet.
    "dict": (
        "extra",
        lambda n: {"rows": torch.full((1, 1), n), "pair": (torch.ones(1, 1), n)},
        1,
    ),
    "equal": (
        "extra",
        lambda n: {"rows": torch.full((1, 1), n), "pair": (torch.ones(1, 1), 3)},
        2,
    ),
    "list": ("extra", lambda n: [torch.ones(2) * n], 2),
    "ragged": ("extra", lambda n: [torch.ones(2 + n)], 2),
    "whole": ("extra", lambda _: torch.ones(7), 2),
    "other whole": ("extra", lambda n: torch.full((7,), n), 1),
    "plain list": ("more", lambda _: [(1, 2)], 2),
    "other list": ("more", lambda n: [(1, n)], 1),
    "long list": ("more", lambda _: [1, 2], 2),
    "type": ("more", lambda n: torch.ones(1, dtype=(torch.int32, torch.int64)[n]), 1),
    "text": ("more", lambda n: "ab"[n], 1),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_calls_meet_where_their_arguments_fit(kind: str) -> None:
    """Rows are put together, what belongs to all must be equal, all else apart."""
    name, make, size = ARGUMENTS[kind]
    calls = [{name: make(n)} for n in range(2)]
    expected = [Walk(Odd())(20 + n, **call) for n, call in enumerate(calls)]
    pipeline = Walk(Odd())
    with StepBatcher(pipeline) as batcher:
        draws = [walk(20 + n, **call) for n, call in enumerate(calls)]
        assert expected == batcher.run(draws)
        pipeline.unet.sizes.clear()
        assert expected == batcher.run(draws)

    assert {size} == set(pipeline.unet.sizes)


@pytest.mark.parametrize("answer", ["mean", "dict", "short", "fails", "shape"])
def test_what_does_not_fit_is_noticed_and_run_alone(answer: str) -> None:
    """The first time that calls meet, the answers are compared with those alone."""

    class Coupled(Adder):
        def forward(self, sample: Any, time: Any, **more: Any) -> Any:
            super().forward(sample, time)
            if answer == "fails" and len(sample) > 1:
                raise IndexError("only one row")
            step = sample + time.reshape(-1, 1)
            if answer == "dict":
                return {
                    "sample": step + sample.mean(0),
                    "none": None,
                    "flags": [0] * len(sample),
                }
            if answer == "shape":
                return (step + sample.mean(0), torch.zeros(len(sample), len(sample)))
            if answer == "short" and len(sample) > 1:
                return (step[1:],)
            return (step + sample.mean(0), [torch.zeros(1)] * len(sample))

    def go(pipeline: Any, start: float) -> float:
        sample = torch.full((1, 2), start)
        for _ in range(3):
            output = pipeline.unet(sample, torch.tensor(1.0))
            sample = output["sample"] if isinstance(output, dict) else output[0]
        return float(sample.sum())

    pipeline = Walk(Coupled())
    expected = [go(pipeline, 20.0), go(pipeline, 30.0)]
    pipeline.unet.sizes.clear()
    with StepBatcher(pipeline) as batcher:
        got = batcher.run([partial(go, start=20.0), partial(go, start=30.0)])

    assert expected == got
    # Together once, and never again.
    assert [2, 1, 1, 1, 1, 1, 1] == pipeline.unet.sizes


def test_answers_that_are_not_numbers_are_compared_too() -> None:
    """A denoiser may say more than numbers, and rows that are broken stay broken."""

    class Chatty(Adder):
        def forward(self, sample: Any, time: Any, **more: Any) -> Any:
            super().forward(sample, time)
            nothing = torch.zeros(len(sample), 0)
            return {
                "sample": sample / 0 * 0,
                "no": nothing,
                "said": ["a"] * len(sample),
            }

    def ask(pipeline: Any) -> Any:
        return pipeline.unet(torch.ones(1, 2), torch.tensor(1.0))["said"]

    pipeline = Walk(Chatty())
    with StepBatcher(pipeline) as batcher:
        for _ in range(2):
            assert [["a"], ["a"]] == batcher.run([ask, ask])

    assert [2, 1, 1, 2] == pipeline.unet.sizes


def test_lack_of_memory_makes_calls_smaller() -> None:
    """What does not fit at once is done in parts, from then on as well."""

    class Small(Adder):
        def add(self, sample: Any, time: Any) -> Any:
            if len(sample) > 2:
                raise torch.OutOfMemoryError("too much")
            return super().add(sample, time)

    pipeline = Walk(Small())
    with StepBatcher(pipeline, max_batch=4) as batcher:
        got = batcher.run(list(map(walk, (20, 21, 22, 23))))

    assert [23, 24, 25, 26] == got
    assert [4, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2] == pipeline.unet.sizes


def skipping() -> Any:
    pipeline = tiny_models.flux()
    from diffusers import FirstBlockCacheConfig

    pipeline.transformer.enable_cache(FirstBlockCacheConfig())
    return pipeline


def remembering() -> Any:
    pipeline = tiny_models.qwen_image()
    from diffusers.hooks import TextKVCacheConfig

    pipeline.transformer.enable_cache(TextKVCacheConfig())
    return pipeline


def marked() -> Any:
    pipeline = tiny_models.flux()
    pipeline.transformer.enable_teacache = True
    return pipeline


def perturbed() -> Any:
    pipeline = tiny_models.stable_diffusion()
    from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

    pipeline.unet.set_attn_processor(PAGIdentitySelfAttnProcessor2_0())
    return pipeline


class Anything(torch.nn.Module):
    def forward(self, *everything: Any) -> Any:
        return everything


class Nameless(torch.nn.Module):
    def forward(self, sample: Any, /) -> Any:
        return sample


def moving() -> Any:
    pipeline = tiny_models.stable_diffusion()
    pipeline._all_hooks = [None]  # as enable_model_cpu_offload leaves it
    return pipeline


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "first block cache": (skipping, "adaptive cache (FBCHeadBlockHook)"),
    "teacache": (marked, "adaptive cache (enable_teacache)"),
    "stateful hook": (remembering, "its transformer has TextKVCacheTransformerHook"),
    "attention": (perturbed, "its unet has PAGIdentitySelfAttnProcessor2_0"),
    "no denoiser": (lambda: SimpleNamespace(scheduler=None), "no unet and no trans"),
    "no scheduler": (lambda: SimpleNamespace(unet=Adder()), "it has no scheduler"),
    "no names": (lambda: Walk(Anything()), "its unet does not say what it takes"),
    "no name": (lambda: Walk(Nameless()), "its unet does not say what it takes"),
    "no model": (lambda: Walk(print), "its unet does not say what it takes"),
    "offloaded": (moving, "it moves its models on and off the device"),
    "changing": (
        lambda: SimpleNamespace(set_pag_applied_layers=1, unet=Adder(), scheduler=1),
        "it changes its denoiser while it draws",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_is_refused(case: str) -> None:
    """The reason is said before anything is drawn."""
    make, message = REFUSED[case]

    with pytest.raises(ConfigurationError) as caught:
        check_step_batching(make())

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [skipping, marked])
def test_adaptive_caches_are_refused_for_whole_drawings_too(
    make: Callable[[], Any],
) -> None:
    """They make an image depend on what is drawn beside it."""
    with pytest.raises(ConfigurationError, match="switch the cache off"):
        Diffusion(make())


def settings(**changes: Any) -> Settings:
    given = {"batching": "step", "steps": 4, "width": 16, "height": 16, **changes}
    return Settings(**given)


async def test_image_models_draw_step_by_step_in_the_workers_thread() -> None:
    """The same images, bit by bit, alone and with others in flight."""
    pipeline = tiny_models.stable_diffusion()
    threads = set[str]()
    pipeline.unet.register_forward_pre_hook(
        lambda *_: threads.add(threading.current_thread().name)
    )
    async with Worker("the-worker") as worker:
        opened = await worker.call(
            partial(open_image_models, settings(generator=pipeline), worker)
        )
        (alone,) = [await opened.generate("a red circle", 7)]
        first = asyncio.ensure_future(opened.generate("a blue square", 1))
        await worker.call(lambda: None)
        others = [opened.generate("a red circle", seed) for seed in range(6, 12)]
        images = await asyncio.gather(first, *others)
        statistics = worker.statistics().stages["denoiser"]
        for close in opened.closers:
            await close()

    assert {"the-worker"} == threads
    assert np.array_equal(np.asarray(alone), np.asarray(images[2]))
    # The first, and those that come after: six and it share their turns.
    assert statistics.items < 8 * 5
    expected = Diffusion(pipeline, steps=4, width=16, height=16)
    (stock,) = expected([("a red circle", 7)])
    assert np.abs(np.asarray(alone, int) - np.asarray(stock, int)).max() <= 1


async def test_image_models_leave_when_they_are_cancelled() -> None:
    """Nobody else notices; and a failure is the failure of one candidate."""
    pipeline = tiny_models.stable_diffusion()
    async with Worker() as worker:
        opened = await worker.call(
            partial(open_image_models, settings(generator=pipeline, steps=50), worker)
        )
        going = asyncio.ensure_future(opened.generate("a", 1))
        other = asyncio.ensure_future(opened.generate("b", 2))
        await asyncio.sleep(0)
        await worker.call(lambda: None)  # after the first turn
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert (16, 16) == (await other).size

        torch.nn.init.constant_(pipeline.vae.decoder.conv_out.weight, float("nan"))
        with pytest.raises(CandidateError, match="not finite"):
            await opened.generate("a", 1)

        late = asyncio.ensure_future(opened.generate("c", 3))
        await asyncio.sleep(0)
        for close in opened.closers:
            await close()
        with pytest.raises(ClosedError):
            await late


async def test_step_batching_needs_a_pipeline() -> None:
    """Functions and servers draw whole images."""

    async def generator(prompt: str, seed: int) -> Any:
        raise NotImplementedError

    async with Worker() as worker:
        for given_, message in (
            (generator, "expected a diffusers pipeline for batching 'step'"),
            ("http://127.0.0.1:1/v1", "expected no batching for the images server"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                open_image_models(settings(generator=given_, steps=None), worker)


async def _refined(batching: str) -> tuple[dict[tuple[str, int], Any], int, int]:
    """Refine a few prompts; return the images, and calls and their rows."""
    sizes: list[int] = []
    generator = Diffusion.load(
        str(weights_folder("generator")), device="cpu", **SAMPLING
    )
    generator.pipeline.unet.register_forward_pre_hook(
        lambda _, args, more: sizes.append(len((*args, *more.values())[0])),
        with_kwargs=True,
    )
    prompts = ["a crimson ball", "an azure box", "a ruby ring"]
    async with Refiner(
        generator=generator,
        batching=batching,
        device="cpu",
        max_images=2,
        seed=3,
        strict=True,
    ) as refiner:
        outcomes = [outcome async for outcome in refiner.refine_many(prompts)]
    images: dict[tuple[str, int], Any] = {}
    for outcome in outcomes:
        assert isinstance(outcome, Refinement)
        for round_ in outcome.rounds:
            for candidate in round_.candidates:
                assert candidate.image is not None
                place = candidate.prompt, candidate.seed
                images[place] = np.asarray(candidate.image, int)
    return images, len(sizes), sum(sizes)


@pytest.mark.slow
async def test_refining_step_by_step_draws_the_same_images() -> None:
    """Several prompts share the denoiser's calls, and no image tells."""
    stock, calls, rows = await _refined("request")
    images, shared, more = await _refined("step")

    assert stock.keys() == images.keys()
    assert max(np.abs(stock[place] - images[place]).max() for place in stock) <= 1
    steps = SAMPLING["steps"]
    # One call for each step of each image is what it would take without sharing.
    assert shared < steps * len(images)
    # Four images, with and without text; but for the first batcher, which is checked
    # against each call alone.
    assert 8 == rows / calls
    assert more / shared > 7


async def test_the_pocket_profile_refines_step_by_step() -> None:
    """One word is enough, and the same seed is the same image again."""
    images = []
    for _ in range(2):
        async with Refiner(batching="step", device="cpu", rounds=1, seed=3) as refiner:
            images.append(np.asarray((await refiner.refine("a ball")).best.image))
            statistics = refiner.statistics()
    assert np.array_equal(images[0], images[1])
    assert statistics is not None
    assert SAMPLING["steps"] == statistics.stages["denoiser"].items
