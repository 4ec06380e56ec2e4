"""Statistics: what a worker has done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socratic_agents.core.spread import SeedSpread

__all__ = ("StageStatistics", "Statistics", "StatsRecorder")


@dataclass(frozen=True, kw_only=True)
class StageStatistics:
    """What a worker has done for one stage."""

    items: int = 0
    """Items that were run, without the copies that pad a batch."""
    batches: int = 0
    """Calls of the model, halves of a failed one included."""
    seconds: float = 0.0
    """How long these calls took together."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a worker has done since it was opened."""

    batches: int
    """Batches that were begun; halves of a failed one are not counted again."""
    items: int
    """Items in those batches."""
    fill: float
    """Mean of items / max_batch over all batches; 0 before the first."""
    busy: float
    """Share of the time in which a batch was running, 0 to 1."""
    waiting: int
    """Items that are queued."""
    stages: Mapping[str, StageStatistics]
    """The same by the name of the stage."""
    swaps: int = 0
    """How often a model was brought to the device, where not all fit there."""
    swap_seconds: float = 0.0
    """How long that took, others' way out included."""
    seed_spread: SeedSpread | None = None
    """How much images of one prompt differ from seed to seed, where prompts were drawn
    more than once; a refiner knows it, a worker does not."""


class StatsRecorder:
    """The counts behind the statistics; time is whatever its caller says it is."""

    def __init__(self, now: float) -> None:
        self._opened_at = self._since = now
        self._batches, self._items, self._fill, self._busy = 0, 0, 0.0, 0.0
        self._running = False
        self._stages: dict[str, StageStatistics] = {}

    def open(self, now: float) -> None:
        """Begin to count the time."""
        self._opened_at = now

    def begin_batch(self, items: int, max_batch: int, *, now: float) -> None:
        """Count a batch that is about to run."""
        self._batches += 1
        self._items += items
        self._fill += items / max_batch
        self._running, self._since = True, now

    def end_batch(self, now: float) -> None:
        """Note that the batch is done."""
        self._running, self._busy = False, self._busy + now - self._since

    def add_call(self, name: str, items: int, seconds: float) -> None:
        """Count a call of a stage's model."""
        past = self._stages.get(name, StageStatistics())
        self._stages[name] = StageStatistics(
            items=past.items + items,
            batches=past.batches + 1,
            seconds=past.seconds + seconds,
        )

    def statistics(self, waiting: int, *, now: float) -> Statistics:
        """Return all that was counted."""
        busy = self._busy + (now - self._since if self._running else 0.0)
        return Statistics(
            batches=self._batches,
            items=self._items,
            fill=self._fill / self._batches if self._batches else 0.0,
            busy=min(busy / max(now - self._opened_at, 1e-9), 1.0),
            stages=dict(self._stages),
            waiting=waiting,
        )
