"""The measurement window: the time in which a scheduler is measured, by its images."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from statistics import fmean

__all__ = ("MeasurementWindow",)

LEAST = 8
"""Images of a window at least."""


@dataclass(eq=False)
class MeasurementWindow:
    """The time in which a scheduler is measured."""

    ramp: int
    """Images before it begins."""
    step: int
    """It ends after a multiple of so many images."""
    seconds: float
    """How long it lasts at least."""
    drawn: list[float] = field(default_factory=list)
    """When each image was there."""
    rounds: list[tuple[float, float, float]] = field(default_factory=list)
    """Of each round: when it ended, how long it took, and how long the language
    model."""
    began: float = math.inf
    ended: float = math.inf
    cpu: float = 0.0
    """Seconds of the process's processors meanwhile."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, loops: int, *, seconds: float) -> MeasurementWindow:
        """Return the window for so many loops in flight.

        Args:
            loops: At least 1.
            seconds: How long it lasts at least.
        """
        return cls(ramp=max(loops // 2, 1), step=max(loops, LEAST), seconds=seconds)

    def drew(self) -> None:
        """Note that an image was drawn."""
        now = time.perf_counter()
        self.drawn.append(now)
        count = len(self.drawn)
        if count == self.ramp:
            self.began, self.cpu = now, time.process_time()
        elif (
            count > self.ramp
            and (count - self.ramp) % self.step == 0
            and now - self.began >= self.seconds
            and not self.over.is_set()
        ):
            self.ended, self.cpu = now, time.process_time() - self.cpu
            self.over.set()

    @property
    def lasted(self) -> float:
        """How long it was."""
        return self.ended - self.began

    @property
    def images(self) -> int:
        """How many images were drawn."""
        return sum(self.began < moment <= self.ended for moment in self.drawn)

    def thought(self) -> float:
        """Return how long the language model took in a round, in the mean."""
        inside = [t for end, _, t in self.rounds if self.began < end <= self.ended]
        return fmean(inside or [thought for _, _, thought in self.rounds] or [0.0])

    def latencies(self) -> list[float]:
        """Return how long rounds took, sorted."""
        inside = [took for end, took, _ in self.rounds if self.began < end]
        return sorted(inside)
