"""Trials: loops in flight over models, and what a scheduler does with them meanwhile.

A loop is the library's own, with as many rounds as the workload says. A loop that ends
makes room for the next one, so a constant number is in flight. They are measured in a
window that begins when half as many images are drawn as there are loops, and ends with
a multiple of so many images; what is under way then is cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.agents.search.default import DefaultSearch
from socratic_agents.core.errors import BatchError
from socratic_agents.core.loop import refine_prompt
from socratic_agents.lab.bench.device.instrumentation import (
    OFTEN,
    EventLoopLag,
    current_loop_id,
)
from socratic_agents.lab.bench.device.window import MeasurementWindow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from PIL.Image import Image

    from socratic_agents.core.loop import Agents, Event
    from socratic_agents.lab.bench.device.instrumentation import CallLog
    from socratic_agents.lab.bench.device.memory import Memory
    from socratic_agents.lab.bench.device.recording_worker import (
        RecordingWorker,
        SchedulerUnderTest,
    )

__all__ = (
    "BenchTrial",
    "LlmDelay",
    "LoopSetup",
    "TrialSpec",
    "library_loop",
    "run_trial",
)

SPREAD = 0.4
"""Sigma of the logarithm of how long a call of the language model takes."""
STUCK = 900
"""Seconds after which a scheduler is taken to be stuck."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """What all schedulers have to do alike."""

    llm_seconds: float
    """Median of a call of the language model that only lets time pass; 0: none."""
    seed: int
    """Decides how long each of those calls takes, and what is drawn."""
    seconds: float
    """What is measured lasts so long at least."""
    rounds: int = 4
    """Rounds of a loop."""

    def window(self, *, loops: int) -> MeasurementWindow:
        """Return a window for so many loops in flight."""
        return MeasurementWindow.of(loops, seconds=self.seconds)


@dataclass(frozen=True, kw_only=True)
class LoopSetup:
    """What loops work with."""

    agents: Callable[[LlmDelay], Agents]
    """What a loop calls; it waits for its language model by this delay."""
    prompts: Sequence[str]
    """The user prompts, and what rewrites are taken from."""
    users: Sequence[str] = ("",)
    """Whose loops they are, by their place among those in flight, over and over."""


@dataclass(eq=False)
class LlmDelay:
    """Lets a loop wait for its language model, and notes how its rounds go by."""

    case: TrialSpec
    number: int
    """Of the loop: the same loop waits as long with every scheduler."""
    window: MeasurementWindow
    since: float = field(default_factory=time.perf_counter)
    calls: int = 0
    thought: float = 0.0

    async def wait(self) -> None:
        """Wait as long as a call of the language model takes."""
        chance = random.Random(f"{self.case.seed}:{self.number}:{self.calls}")
        seconds = self.case.llm_seconds * math.exp(chance.gauss(0, SPREAD))
        self.calls += 1
        self.thought += seconds
        await asyncio.sleep(seconds)

    async def timed(self, work: Awaitable[Any]) -> Any:
        """Wait for a real language model."""
        began = time.perf_counter()
        try:
            return await work
        finally:
            self.thought += time.perf_counter() - began

    def end_round(self) -> None:
        """Note that a round is over."""
        now = time.perf_counter()
        self.window.rounds.append((now, now - self.since, self.thought))
        self.since, self.thought = now, 0.0


async def library_loop(agents: Agents, prompt: str, *, seed: int, rounds: int) -> None:
    """Refine a prompt as the library does; a failed candidate ends the bench.

    Raises:
        BatchError: If a candidate failed.
    """
    search = DefaultSearch(rounds=rounds, seeds=lambda: itertools.count(seed))
    await refine_prompt(prompt, agents, search, on_event=_flawless)


def _flawless(event: Event) -> None:
    if event.candidate is not None and event.candidate.error is not None:
        message = (
            "expected every candidate of a bench to be drawn, captioned and scored, "
            f"got: {event.candidate.error}"
        )
        raise BatchError(message)


@dataclass(frozen=True, kw_only=True)
class BenchTrial:
    """What was seen of a scheduler."""

    window: MeasurementWindow
    log: CallLog
    lag: EventLoopLag
    pace: float = 1.0
    """Seconds of the same calls of one item right before and after it; what changes
    from trial to trial is the machine."""


async def run_trial(
    scheduler: AbstractAsyncContextManager[SchedulerUnderTest],
    recorder: RecordingWorker,
    loops: LoopSetup,
    case: TrialSpec,
    *,
    in_flight: int,
    memory: Memory,
    body: Callable[..., Awaitable[None]] = library_loop,
    on_image: Callable[[str, int, Image], None] = lambda *_: None,
) -> BenchTrial:
    """Let a scheduler serve loops until the window is over.

    Args:
        scheduler: The scheduler, to be opened.
        recorder: Where the models' items come from.
        loops: What the loops work with.
        case: What is to be done.
        in_flight: Loops, at least 1.
        memory: Says how much of it is in use.
        body: Does a loop.
        on_image: Called with each image: its prompt, its seed, and the image.

    Raises:
        BatchError: If an item was lost, doubled or mixed up, or the scheduler is stuck.
    """
    window, lag = case.window(loops=in_flight), EventLoopLag(memory)
    numbers = itertools.count()

    async def run_loop(place: int) -> None:
        user = loops.users[place % len(loops.users)]
        current_loop_id.set((user, place))
        while True:
            number = next(numbers)
            pace = LlmDelay(case, number, window)
            agents = _counted(loops.agents(pace), window, on_image)
            prompt = loops.prompts[number % len(loops.prompts)]
            with recorder.session(user=user):
                await body(agents, prompt, seed=case.seed + number, rounds=case.rounds)

    try:
        async with scheduler as opened, asyncio.timeout(STUCK):
            log = recorder.start(opened)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(run_loop(place)) for place in range(in_flight)
                ]
                tasks.append(group.create_task(lag.watch()))
                await window.over.wait()
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None
    except TimeoutError:
        message = (
            f"expected a scheduler that serves {in_flight} loops, got one that did not "
            f"get through in {STUCK} s; fix the scheduler, or choose fewer loops"
        )
        raise BatchError(message) from None
    await asyncio.sleep(OFTEN)  # those who were refused get to know it
    log.check()
    log.samples.clear()  # they are of no use any more
    log.traced_items.clear()
    return BenchTrial(window=window, log=log, lag=lag)


def _counted(
    agents: Agents,
    window: MeasurementWindow,
    on_image: Callable[[str, int, Image], None],
) -> Agents:
    """Count what is drawn, and let it be looked at."""

    async def generate(prompt: str, seed: int) -> Image:
        image = await agents.generate(prompt, seed)
        window.drew()
        on_image(prompt, seed, image)
        return image

    return replace(agents, generate=generate)
