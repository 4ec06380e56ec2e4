"""Cost curves: what a call of a model costs by the number of its items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning

__all__ = ("CostCurve",)


@dataclass(frozen=True)
class CostCurve:
    """Seconds of a call, by the number of its items."""

    seconds: tuple[float, ...]
    """Of one item, of two, and so on up to the largest batch; at least one, each above
    0."""
    tuning: SchedulerTuning = DEFAULT_TUNING

    @cached_property
    def item_seconds(self) -> float:
        """Seconds of an item in the most efficient batch."""
        return min(s / items for items, s in enumerate(self.seconds, 1))

    @cached_property
    def good_size(self) -> int:
        """Items from which on waiting for more does not pay."""
        return self._within(self.tuning.good_size_factor)

    @cached_property
    def best_size(self) -> int:
        """Items beyond which a larger batch is no better."""
        return self._within(self.tuning.best_size_factor)

    def batch_size(self, items: int) -> int:
        """Return how many of some items to run in one call, for the least time each.

        Fewer than all where calls are padded with copies: of nine items eight run at
        once, rather than all with three copies.

        Args:
            items: At least 1.
        """
        sizes = range(1, min(items, len(self.seconds)) + 1)
        best = min(self.seconds[n - 1] / n for n in sizes)
        limit = best * self.tuning.best_size_factor
        return max(n for n in sizes if self.seconds[n - 1] <= limit * n)

    def predict(self, items: int) -> float:
        """Return the seconds of some items, in several calls if they are too many.

        Args:
            items: At least 0.
        """
        calls, rest = divmod(items, len(self.seconds))
        return calls * self.seconds[-1] + (self.seconds[rest - 1] if rest else 0.0)

    def _within(self, factor: float) -> int:
        limit = self.item_seconds * factor
        return next(n for n, s in enumerate(self.seconds, 1) if s <= limit * n)
