"""The simulator of the bench: loops, a device, and a clock that jumps.

A loop is four rounds of drawing, captioning and scoring on the device, and of two
calls of a language model. A loop that ends makes room for the next one, so a constant
number of them is in flight. What is measured is the steady state, from the end of the
first quarter of the loops to the end of the last one.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.lab.bench.simulated.model_costs import ModelCosts
    from socratic_agents.lab.bench.simulated.schedulers import (
        DeviceCall,
        SimulatedScheduler,
    )

__all__ = ("Scenario", "SimulationResult", "Simulator")

ROUNDS = 4
SPREAD = 0.4
"""Sigma of the logarithm of how long a call of the language model takes."""
STAGES = ("generator", "captioner", "scorer")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What all schedulers have to do alike."""

    total: int
    """Loops that are measured, at least 4, and four times as many as are in flight."""
    llm_seconds: float
    """Median of a call of the language model."""
    seed: int
    """Decides how long each of those calls takes."""

    def think_time(self, loop: int, number: int) -> float:
        """Return how long a loop thinks in a round, counted from 0."""
        return self.llm_seconds * _think_time(self.seed, loop, number)

    def mean_think_time(self) -> float:
        """Return how long the loops that are measured think in a round."""
        return fmean(
            self.think_time(loop, number)
            for loop in range(self.total // 4, self.total)
            for number in range(ROUNDS)
        )


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What a scheduler did in the steady state."""

    loops_per_second: float
    """By the work that was done for them, so that it does not matter at which of its
    stages a loop is when the measurement ends."""
    busy: float
    """Share of the time in which the device worked."""
    fill: dict[str, float]
    """Mean of items / largest batch, by stage."""
    latencies: tuple[float, ...]
    """Seconds from beginning to end of the loops that ended, sorted."""

    def latency(self, share: float) -> float:
        """Return a quantile of the loops' latencies."""
        return self.latencies[math.ceil(share * len(self.latencies)) - 1]


@lru_cache(maxsize=65536)
def _think_time(seed: int, loop: int, number: int) -> float:
    """Return how long two calls take, to judge and to rewrite, in medians of one."""
    chance = random.Random(f"{seed}:{loop}:{number}")
    return sum(math.exp(chance.gauss(0, SPREAD)) for _ in range(2))


class Simulator:
    """Loops, a device, and a clock that jumps from event to event.

    Args:
        models: What calls cost.
        scheduler: Decides what the device does.
        case: What is to be done.
    """

    def __init__(
        self, models: ModelCosts, scheduler: SimulatedScheduler, case: Scenario
    ) -> None:
        self._models, self._curves = models, models.curves
        self._scheduler, self._case = scheduler, case
        self._now, self._numbers = 0.0, itertools.count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._where: dict[int, str] = {}
        self._round: dict[int, int] = {}
        self._began: list[float] = []
        self._latencies: list[float] = []
        self._running: tuple[float, DeviceCall] | None = None
        self._wake = math.inf
        self._work = self._busy = 0.0
        self._sizes: dict[str, list[int]] = {stage: [] for stage in STAGES}
        self._marks: list[tuple[float, float, float]] = []

    def run(self, loops: int) -> SimulationResult:
        """Keep so many loops in flight until all that count are done.

        Args:
            loops: At least 1.

        Raises:
            BatchError: If an item was lost, doubled or mixed up.
        """
        for _ in range(loops):
            self._begin()
        while True:
            self._serve()
            if not self._events:
                break
            self._now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
            while self._events and self._events[0][0] <= self._now:
                _, _, what, arguments = heapq.heappop(self._events)
                what(*arguments)
        if self._where or len(self._latencies) != len(self._began):
            message = (
                f"expected all {len(self._began)} loops to end, got stuck with "
                f"{len(self._where)} of them; fix the scheduler"
            )
            raise BatchError(message)
        (t0, w0, b0), (t1, w1, b1) = self._marks
        best = ROUNDS * sum(curve.item_seconds for curve in self._curves.values())
        return SimulationResult(
            loops_per_second=(w1 - w0) / best / (t1 - t0),
            busy=(b1 - b0) / (t1 - t0),
            fill={
                stage: fmean(sizes) / len(self._curves[stage].seconds)
                for stage, sizes in self._sizes.items()
            },
            latencies=tuple(sorted(self._latencies[: self._case.total])),
        )

    def _at(self, time: float, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), what, arguments))

    def _begin(self) -> None:
        loop = len(self._began)
        self._began.append(self._now)
        self._round[loop] = 0
        self._go(loop, "generator")

    def _go(self, loop: int, stage: str) -> None:
        """Send a loop to a stage, through its own machinery."""
        self._where[loop] = f"to {stage}"
        delay = self._scheduler.node(self._now)
        if delay:
            self._at(self._now + delay, self._arrive, loop, stage)
        else:
            self._arrive(loop, stage)

    def _arrive(self, loop: int, stage: str) -> None:
        self._where[loop] = stage
        self._scheduler.arrive(stage, loop, now=self._now)

    def _serve(self) -> None:
        """Let a free device begin with whatever the scheduler says."""
        if self._running is not None:
            return
        decision = self._scheduler.decide(self._now)
        if isinstance(decision, float):
            if not self._now < self._wake <= decision:
                self._wake = decision
                self._at(decision, lambda: None)
        elif decision is not None:
            wrong = [
                loop
                for loop in decision.loops
                if self._where.get(loop) != decision.stage
            ]
            if wrong or len(set(decision.loops)) != len(decision.loops):
                message = (
                    f"expected each loop once in a batch of the {decision.stage}, and "
                    f"only those that wait for it, got {list(decision.loops)}; fix "
                    "the scheduler"
                )
                raise BatchError(message)
            self._sizes[decision.stage].append(len(decision.loops))
            self._running = self._now, decision
            self._at(self._now + decision.seconds, self._finish)

    def _finish(self) -> None:
        """Give those who are done what they came for."""
        self._work, self._busy = self._done()
        _, call = self._running or (0.0, None)
        self._running = None
        for loop in call.done if call else ():
            place = STAGES.index(self._where[loop]) + 1
            if place < len(STAGES):
                self._go(loop, STAGES[place])
            else:
                self._think(loop)

    def _think(self, loop: int) -> None:
        self._where[loop] = "thinking"
        self._scheduler.think(loop, now=self._now)
        think_time = self._case.think_time(loop, self._round[loop])
        nodes = self._scheduler.node(self._now) + self._scheduler.node(self._now)
        self._at(self._now + think_time + nodes, self._back, loop)

    def _back(self, loop: int) -> None:
        """Begin the next round of a loop, or the next loop."""
        self._round[loop] += 1
        if self._round[loop] < ROUNDS:
            self._go(loop, "generator")
            return
        del self._where[loop], self._round[loop]
        self._scheduler.leave(loop, now=self._now)
        self._latencies.append(self._now - self._began[loop])
        if len(self._latencies) in (self._case.total // 4, self._case.total):
            self._marks.append((self._now, *self._done()))
        if len(self._latencies) < self._case.total:
            self._begin()
        else:
            self._scheduler.loops -= 1

    def _done(self) -> tuple[float, float]:
        """Return the work done until now, in seconds of best batches, and busy ones."""
        if self._running is None:
            return self._work, self._busy
        began, call = self._running
        passed = min((self._now - began) / call.seconds, 1.0)
        if call.done is call.loops:
            work = len(call.loops) * self._curves[call.stage].item_seconds
        else:  # a step of each, and what comes after the last one
            step, decode = self._models.step.item_seconds, self._models.decode
            work = len(call.loops) * step + len(call.done) * decode
        return self._work + work * passed, self._busy + call.seconds * passed
