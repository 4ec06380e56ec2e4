"""Group wait: whether an idle device waits for more items, or leaves some for later.

Where many sessions are in flight, batches fill by themselves while the device works.
Where there are few and their batches take long, the sessions of a batch think at the
same time and return at about the same time: they travel in groups. Then the size of the
groups decides the throughput, and chance should not decide it.

Source:
    The bound on a closed system with thinking customers is that of operational
    analysis: Denning and Buzen, "The Operational Analysis of Queueing Network Models"
    (1978).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.scheduler.cost_curve import CostCurve
    from socratic_agents.scheduler.queues import StageQueue
    from socratic_agents.scheduler.think_time import ThinkTimes
    from socratic_agents.scheduler.tuning import SchedulerTuning

__all__ = ("GroupWait",)


class GroupWait:
    """The groups in which sessions travel, and the wait that is going on."""

    def __init__(self, think_times: ThinkTimes, tuning: SchedulerTuning) -> None:
        self._think_times, self._tuning = think_times, tuning
        self._since: float | None = None
        self._target_size, self._fruitless, self._pause = 0, 0, 0

    def plan(
        self,
        queue: StageQueue[Any],
        curve: CostCurve,
        follow_up: Callable[[int], float],
        *,
        per_return: int,
        now: float,
    ) -> tuple[int, float | None]:
        """Return how many items to run, and until when to wait at most before.

        Args:
            queue: All that waits, for the stage that keeps the device busy.
            curve: What it costs.
            follow_up: Seconds that the other stages take for so many of its items.
            per_return: Items that a session submits when it returns, at least 1.
            now: The time.
        """
        size = min(queue.count, queue.best_size)
        total = queue.count + len(self._think_times) * per_return
        if queue.count >= queue.good_size and total >= 2 * queue.best_size:
            return size, None  # they come faster than they are served
        target, gain = self._target(queue, curve, follow_up, total)
        think_time = self._think_times.longest(target)
        if gain < self._tuning.group_gain or curve.predict(target) < think_time:
            return size, None
        if target <= queue.count:
            return target, None  # the rest are a group of their own
        return size, self._until(queue, curve, target, per_return=per_return, now=now)

    def ran(self, items: int) -> None:
        """Note that the device is not idle any more, but runs so many items."""
        if self._since is not None and items >= self._target_size:
            self._fruitless = 0
        if self._fruitless >= self._tuning.group_wait_failures:
            self._fruitless, self._pause = 0, self._tuning.group_wait_pause
        self._since = None

    def _until(
        self,
        queue: StageQueue[Any],
        curve: CostCurve,
        target: int,
        *,
        per_return: int,
        now: float,
    ) -> float | None:
        """Return until when to wait; ``None``: not at all, or not any more."""
        if self._since is None and self._pause:
            self._pause -= 1
            return None
        since = now if self._since is None else self._since
        longest = curve.predict(queue.max_batch)
        until = since + self._tuning.group_wait_share * longest
        sessions = math.ceil((target - queue.count) / per_return)
        returns = self._think_times.returns(sessions, now=now)
        limit = self._tuning.group_return_share * curve.predict(queue.count)
        soon = len(returns) == sessions and returns[0] <= limit
        if now >= until or not soon:
            if self._since is not None:
                self._fruitless += 1
            return None
        self._since, self._target_size = since, target
        return until

    def _target(
        self,
        queue: StageQueue[Any],
        curve: CostCurve,
        follow_up: Callable[[int], float],
        total: int,
    ) -> tuple[int, float]:
        """Return the best size of groups, and how much faster than this one it is.

        While one group thinks, the device works for the others; a round of all takes
        the longer of the two.
        """
        best, target, here = 0.0, 1, 0.0
        costs = [0.0]
        for group in range(1, min(queue.best_size, total) + 1):
            costs.append(curve.predict(group) + follow_up(group))
            groups, rest = divmod(total, group)
            device = groups * costs[group] + costs[rest]
            alone = costs[group] + self._think_times.longest(group)
            rate = 1 / max(device, alone)
            if group <= queue.count:
                here = rate
            if rate > best * self._tuning.best_size_factor:
                best, target = rate, group
        return target, best / here
