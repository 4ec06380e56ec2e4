"""Thinking: which loops wait for a language model, and when they may be back.

A scheduler in a closed loop knows more than a server: a loop that thinks now will ask
for an image soon, and how soon can be told from how long the others took.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ("Thinking",)

KEPT = 64
"""The last so many durations tell how long thinking takes."""
ASKED = 32
"""So many loops, those that think longest, are asked when they may be back."""
SHARES = (0.125, 0.375, 0.625, 0.875)
"""A loop's return is spread over these quantiles, a quarter of it at each."""


class Thinking:
    """Loops in calls of a language model; time is whatever the caller says it is."""

    def __init__(self) -> None:
        self.begun = 0
        """Thoughts in all."""
        self._since: dict[Hashable, float] = {}  # in the order of beginning
        self._last = deque[float](maxlen=KEPT)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, loop: Hashable, *, now: float) -> None:
        """Note that a loop thinks; one that does already goes on doing so."""
        if loop not in self._since:
            self._since[loop] = now
            self.begun += 1

    def end(self, loop: Hashable, *, now: float) -> None:
        """Note that a loop is back; one that did not think is ignored."""
        since = self._since.pop(loop, None)
        if since is None:
            return
        if len(self._last) == KEPT:
            self._sorted.remove(self._last[0])
        self._last.append(now - since)
        insort(self._sorted, now - since)

    @property
    def mean(self) -> float | None:
        """Seconds that a thought took lately, on average; ``None``: there was none."""
        return sum(self._last) / len(self._last) if self._last else None

    def longest(self, of: int) -> float:
        """Return how long the longest of so many thoughts takes, as a rule."""
        if not self._sorted:
            return 0.0
        return self._sorted[int(len(self._sorted) * of / (of + 1))]

    def returns(self, most: int, *, now: float) -> list[float]:
        """Return in how many seconds the next loops may be back, the soonest first.

        A loop that thinks longer than any did before is not counted on.

        Args:
            most: How many of them to tell.
            now: The time.
        """
        lasted, count = self._sorted, len(self._sorted)
        points = []
        for since in islice(self._since.values(), ASKED):
            elapsed = now - since
            gone = bisect_right(lasted, elapsed)
            left = count - gone
            if left:
                points += [lasted[gone + int(left * s)] - elapsed for s in SHARES]
        points.sort()
        # The k-th is back when k - 1/2 are to be expected.
        share = len(SHARES)
        return points[share // 2 - 1 :: share][:most]
