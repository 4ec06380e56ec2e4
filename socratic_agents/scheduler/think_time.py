"""Think times: which sessions wait for a language model, and when they may return.

A scheduler of a closed system knows more than a server: a session that thinks will ask
for an image soon, and how soon can be told from how long the others took.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.scheduler.tuning import SchedulerTuning

__all__ = ("ThinkTimes",)

QUANTILES = (0.125, 0.375, 0.625, 0.875)
"""A session's return is spread over these quantiles, a quarter of it at each."""


class ThinkTimes:
    """Sessions in calls of a language model; time is whatever the caller says it is."""

    def __init__(self, tuning: SchedulerTuning) -> None:
        self._tuning = tuning
        self.begun = 0
        """Think times in all."""
        self._since: dict[Hashable, float] = {}  # in the order of beginning
        self._last = deque[float](maxlen=tuning.think_times_kept)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, session: Hashable, *, now: float) -> None:
        """Note that a session thinks; one that does already is not counted again."""
        if session not in self._since:
            self._since[session] = now
            self.begun += 1

    def end(self, session: Hashable, *, now: float) -> None:
        """Note that a session has returned; one that did not think is ignored."""
        since = self._since.pop(session, None)
        if since is None:
            return
        if len(self._last) == self._last.maxlen:
            self._sorted.remove(self._last[0])
        self._last.append(now - since)
        insort(self._sorted, now - since)

    @property
    def mean(self) -> float | None:
        """Mean of the last think times, in seconds; ``None``: there was none."""
        return sum(self._last) / len(self._last) if self._last else None

    def longest(self, of: int) -> float:
        """Return how long the longest of so many think times is, as a rule."""
        if not self._sorted:
            return 0.0
        return self._sorted[int(len(self._sorted) * of / (of + 1))]

    def returns(self, limit: int, *, now: float) -> list[float]:
        """Return in how many seconds the next sessions may return, the soonest first.

        A session that thinks longer than any did before is not counted on.

        Args:
            limit: How many to return at most.
            now: The time.
        """
        lasted, count = self._sorted, len(self._sorted)
        points = []
        predicted = self._tuning.sessions_predicted
        for since in islice(self._since.values(), predicted):
            elapsed = now - since
            shorter = bisect_right(lasted, elapsed)
            left = count - shorter
            if left:
                points += [lasted[shorter + int(left * q)] - elapsed for q in QUANTILES]
        points.sort()
        # The k-th is back when k - 1/2 are to be expected.
        share = len(QUANTILES)
        return points[share // 2 - 1 :: share][:limit]
