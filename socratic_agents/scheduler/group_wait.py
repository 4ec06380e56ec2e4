"""Gathering: whether a device waits for more items, or leaves some to the next batch.

Where many loops are on their way, batches fill by themselves while the device works.
Where there are few and their batches take long, who shares a batch thinks at the same
time and is back at about the same time: loops travel in groups. Then the size of the
groups decides how much is done, and chance should not decide it.

Source:
    The bound on a closed system with thinking customers is that of operational
    analysis: Denning and Buzen, "The Operational Analysis of Queueing Network Models"
    (1978).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.scheduler.cost_curve import Curve
    from socratic_agents.scheduler.queues import Line
    from socratic_agents.scheduler.think_time import Thinking

__all__ = ("Gathering",)

GAIN = 1.05
"""Loops are gathered where that makes them at least so much faster."""
SOON = 0.3
"""The next loop has to be back within this share of what the batch takes."""
LONGEST = 0.5
"""A wait is over after this share of what the largest batch takes."""
FRUITLESS, RESTED = 3, 16
"""After so many waits in vain, so many chances to wait are let pass."""


class Gathering:
    """The groups in which loops travel, and the wait that is going on."""

    def __init__(self, thinking: Thinking) -> None:
        self._thinking = thinking
        self._since: float | None = None
        self._aim, self._fruitless, self._rest = 0, 0, 0

    def plan(
        self,
        line: Line,
        curve: Curve,
        others: Callable[[int], float],
        *,
        brought: int,
        now: float,
    ) -> tuple[int, float | None]:
        """Return how many items to run, and until when to wait at most before.

        Args:
            line: All that waits, for the stage that keeps the device busy.
            curve: What it costs.
            others: Seconds that the other stages take for so many of its items.
            brought: Items that a loop brings when it is back, at least 1.
            now: The time.
        """
        size = min(line.count, line.full)
        total = line.count + len(self._thinking) * brought
        if line.count >= line.enough and total >= 2 * line.full:
            return size, None  # they come faster than they are served
        target, gain = self._target(line, curve, others, total)
        if gain < GAIN or curve.at(target) < self._thinking.longest(target):
            return size, None
        if target <= line.count:
            return target, None  # the rest are a group of their own
        return size, self._until(line, curve, target, brought=brought, now=now)

    def _until(
        self, line: Line, curve: Curve, target: int, *, brought: int, now: float
    ) -> float | None:
        """Return until when to wait; ``None``: not at all, or not any more."""
        if self._since is None and self._rest:
            self._rest -= 1
            return None
        since = now if self._since is None else self._since
        until = since + LONGEST * curve.at(line.most)
        loops = math.ceil((target - line.count) / brought)
        returns = self._thinking.returns(loops, now=now)
        soon = len(returns) == loops and returns[0] <= SOON * curve.at(line.count)
        if now >= until or not soon:
            if self._since is not None:
                self._fruitless += 1
            return None
        self._since, self._aim = since, target
        return until

    def ran(self, items: int) -> None:
        """Note that the device is not idle any more, but runs so many items."""
        if self._since is not None and items >= self._aim:
            self._fruitless = 0
        if self._fruitless >= FRUITLESS:
            self._fruitless, self._rest = 0, RESTED
        self._since = None

    def _target(
        self, line: Line, curve: Curve, others: Callable[[int], float], total: int
    ) -> tuple[int, float]:
        """Return the best size of groups, and how much faster than this one it is.

        While one group thinks, the device works for the others; a round of all takes
        the longer of the two.
        """
        best, target, here = 0.0, 1, 0.0
        costs = [0.0]
        for group in range(1, min(line.full, total) + 1):
            costs.append(curve.at(group) + others(group))
            groups, rest = divmod(total, group)
            device = groups * costs[group] + costs[rest]
            alone = costs[group] + self._thinking.longest(group)
            rate = 1 / max(device, alone)
            if group <= line.count:
                here = rate
            if rate > best * 1.005:
                best, target = rate, group
        return target, best / here
