"""The batching policy: what a free device does next, by what waits and what it costs.

No threads and no clock: whoever owns the device says what time it is, so the same code
decides for a real device and for a simulated one.

* A batch is formed at the moment when the device is free, never before.
* Stages after which sessions think go first (captions, scores), unless the stage that
  keeps the device busy (images) has full batches waiting: then those run, and the
  captions accumulate to a full batch of their own.
* An idle device waits for sessions that think only where that pays; see ``group_wait``.
* The oldest session goes first; users share the device evenly, and so do keys.
* Where not all models fit on the device, a stage whose model is not there is passed over
  as long as others have work, up to a limit: see ``swap_patience``.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from socratic_agents.scheduler.group_wait import GroupWait
from socratic_agents.scheduler.queues import Payload, QueueItem, StageQueue
from socratic_agents.scheduler.think_time import ThinkTimes
from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from socratic_agents.scheduler.cost_curve import CostCurve

__all__ = ("BatchPolicy", "RunBatch", "WaitUntil")


@dataclass(frozen=True)
class RunBatch(Generic[Payload]):
    """Run these items in one call, now."""

    queue: StageQueue[Payload]
    items: list[QueueItem[Payload]]


@dataclass(frozen=True)
class WaitUntil:
    """Leave the device idle until then at most; decide again when something comes."""

    time: float


class BatchPolicy(Generic[Payload]):
    """What waits for one device, and what the device is to do next.

    Args:
        tuning: What its decisions depend on.
        swap_seconds: Stage -> how long it takes to bring its model; 0: it is there.
    """

    def __init__(
        self,
        tuning: SchedulerTuning = DEFAULT_TUNING,
        *,
        swap_seconds: Callable[[Hashable], float] = lambda _: 0.0,
    ) -> None:
        self._tuning, self.think_times = tuning, ThinkTimes(tuning)
        self._swap_seconds = swap_seconds
        self._group_wait = GroupWait(self.think_times, tuning)
        self._queues: dict[Hashable, StageQueue[Payload]] = {}
        self._costs: dict[Hashable, tuple[int, CostCurve]] = {}
        self._items_run: Counter[Hashable] = Counter()
        self._last_keys: dict[Hashable, tuple[Hashable, int]] = {}
        self._user_seconds: dict[Hashable, float] = {}
        self._virtual_time = 0.0  # as in fair queueing: what everyone has had by now

    def __len__(self) -> int:
        return sum(queue.count for queue in self._queues.values())

    def add(
        self,
        item: QueueItem[Payload],
        *,
        stage: Hashable,
        key: Hashable = None,
        priority: int = 0,
        max_batch: int = 8,
        curve: CostCurve | None = None,
    ) -> None:
        """Queue an item.

        Args:
            item: What waits.
            stage: What is to be done with it.
            key: Only items with equal keys come into one batch.
            priority: The highest goes first; the lowest keeps the device busy.
            max_batch: Items of one call, at least 1.
            curve: What calls cost, where that is known.
        """
        queue = self._queues.get((stage, key))
        if queue is None:
            used = [q.device_seconds for q in self._queues.values() if q.stage == stage]
            least = min(used, default=0.0)
            queue = StageQueue(stage, key, priority, max_batch, curve, least)
            self._queues[stage, key] = queue
        if curve is not None:
            queue.curve, self._costs[stage] = curve, (priority, curve)
        queue.max_batch = max_batch
        if queue.push(item):
            # Who comes anew has no claim to what he did not ask for earlier.
            past = self._user_seconds.get(item.user, 0.0)
            self._user_seconds[item.user] = max(past, self._virtual_time)

    def discard(
        self, item: QueueItem[Payload], *, stage: Hashable, key: Hashable = None
    ) -> None:
        """Drop an item that nobody wants; one that was taken already is ignored."""
        if item.taken:
            return
        queue = self._queues[stage, key]
        item.taken = True
        queue.count -= 1
        if not queue.count:
            del self._queues[stage, key]

    def clear(self) -> list[QueueItem[Payload]]:
        """Take out all that waits, and return it."""
        items = [
            item
            for queue in self._queues.values()
            for mine in queue.per_user.values()
            for item in mine
            if not item.taken
        ]
        self._queues.clear()
        for item in items:
            item.taken = True
        return items

    def decide(self, now: float) -> RunBatch[Payload] | WaitUntil | None:
        """Return what a free device does next; ``None``: nothing waits.

        Args:
            now: The time, in seconds from any moment on.
        """
        if not self._queues:
            return None
        queue = self._without_swap(self._next_queue(self._queues.values()), now)
        size = min(queue.count, queue.best_size)
        if queue.curve is not None and self._may_wait(queue):
            size, until = self._group_wait.plan(
                queue,
                queue.curve,
                lambda items: self._follow_up_seconds(queue, items),
                per_return=self._items_per_return(queue),
                now=now,
            )
            if until is not None:
                return WaitUntil(until)
        if queue.curve is not None:
            size = queue.curve.batch_size(size)
        self._group_wait.ran(size)
        return RunBatch(queue, self._take(queue, size))

    def admission_limit(self) -> int | None:
        """Return how many sessions keep the device busy; ``None``: not known yet.

        By Little's law as many as think while the device works through a round of
        the others, and some batches beside, so that each can be formed in full.
        """
        heavy = min(self._costs.items(), key=lambda cost: cost[1][0], default=None)
        think_time, drawn = self.think_times.mean, 0
        if heavy is not None:
            drawn = self._items_run[heavy[0]]
        if heavy is None or think_time is None or not drawn:
            return None
        lowest, curve = heavy[1]
        item = curve.item_seconds + sum(
            other.item_seconds * self._items_run[name] / drawn
            for name, (priority, other) in self._costs.items()
            if priority > lowest
        )
        per_return = max(drawn / max(self.think_times.begun, 1), 1.0)
        batches = self._tuning.admitted_batches * curve.best_size / per_return
        return math.ceil(batches + think_time / (item * per_return))

    def return_wait_limit(self) -> float:
        """Return how many seconds to wait for sessions that were answered just now.

        Their next requests are about to come: captions of the images that were just
        drawn would else wait until the next images are.
        """
        before_swap = 0.0
        for queue in self._queues.values():
            before_swap = self._tuning.swap_wait_share * self._swap_seconds(queue.stage)
            if not before_swap:
                break
        heavy = min(self._costs.values(), key=lambda cost: cost[0], default=None)
        if heavy is None:
            return before_swap
        _, curve = heavy
        share = self._tuning.return_wait_share
        return max(share * curve.predict(curve.good_size), before_swap)

    def waiting(self) -> set[Hashable]:
        """Return the stages for which something waits."""
        return {queue.stage for queue in self._queues.values()}

    def _without_swap(
        self, queue: StageQueue[Payload], now: float
    ) -> StageQueue[Payload]:
        """Return the queue whose turn it is among those whose models are there.

        It is the given one if its model is, if nothing else can run without a swap, or
        if it was passed over for long enough.
        """
        seconds = self._swap_seconds(queue.stage)
        there = seconds and [
            other
            for other in self._queues.values()
            if not self._swap_seconds(other.stage)
        ]
        if not there:
            return queue
        if queue.passed_over is None:
            queue.passed_over = now
        if now - queue.passed_over >= self._tuning.swap_patience * seconds:
            return queue
        return self._next_queue(there)

    def _next_queue(
        self, queues: Collection[StageQueue[Payload]]
    ) -> StageQueue[Payload]:
        """Return the queue whose turn it is, of those that may run."""
        if len(queues) == 1:
            return next(iter(queues))
        ranked = sorted(
            queues,
            key=lambda queue: (-queue.priority, *queue.oldest().age),
        )
        lowest = [queue for queue in ranked if queue.priority == ranked[-1].priority]
        heavy = max(lowest, key=lambda queue: queue.count / queue.best_size)
        chosen = ranked[0]
        full_batches = self._batches_first(heavy) * heavy.best_size
        if heavy.curve and heavy.count >= full_batches:
            for queue in ranked:
                chosen = queue
                # No longer than it takes until as many captions as fit are there.
                limit = queue.good_size // heavy.best_size + 1
                if queue in lowest or queue.worth_running or queue.skipped > limit:
                    break
                queue.skipped += 1
        same = [queue for queue in ranked if queue.stage == chosen.stage]
        least = min(same, key=lambda queue: queue.device_seconds)
        ahead = chosen.device_seconds - least.device_seconds
        return least if ahead > self._tuning.key_slack_seconds else chosen

    def _batches_first(self, heavy: StageQueue[Payload]) -> int:
        """Return for how many full batches of images captions have to wait."""
        size = heavy.best_size
        others = self._follow_up_seconds(heavy, size, best=True)
        images = heavy.curve.item_seconds * size if heavy.curve else 0.0
        if others > self._tuning.dominant_share * (others + images):
            return 1
        return self._tuning.batches_before_captions

    def _follow_up_seconds(
        self, heavy: StageQueue[Payload], items: int, *, best: bool = False
    ) -> float:
        """Return the seconds that other stages take for so many items of this one."""
        drawn, seconds = self._items_run[heavy.stage], 0.0
        for stage, (priority, curve) in self._costs.items():
            if priority > heavy.priority:
                share = self._items_run[stage] / drawn if drawn else 1.0
                follow = items * share
                seconds += (
                    curve.item_seconds * follow
                    if best
                    else curve.predict(math.ceil(follow))
                )
        return seconds

    def _may_wait(self, queue: StageQueue[Payload]) -> bool:
        """Return whether sessions that think will return to this queue, the only one."""
        return (
            len(self._queues) == 1
            and len(self.think_times) > 0
            and all(priority >= queue.priority for priority, _ in self._costs.values())
            and self._last_keys.get(queue.stage, (queue.key, 0)) == (queue.key, 0)
        )

    def _items_per_return(self, queue: StageQueue[Payload]) -> int:
        """Return how many items a session submits, as a rule, when it returns."""
        drawn = self._items_run[queue.stage]
        return max(round(drawn / max(self.think_times.begun, 1)), 1)

    def _take(self, queue: StageQueue[Payload], size: int) -> list[QueueItem[Payload]]:
        """Return the next items of a queue: the oldest of whoever got least."""
        cost = queue.curve.predict(size) if queue.curve else 0.0
        each = cost / size or self._tuning.unknown_item_seconds
        items = list[QueueItem[Payload]]()
        turns = [
            (self._user_seconds[user], *oldest.age, user)
            for user, oldest in queue.oldest_by_user().items()
        ]
        heapq.heapify(turns)
        while len(items) < size:
            used, *_, user = heapq.heappop(turns)
            items.append(queue.pop(user))
            self._virtual_time = max(self._virtual_time, used)
            self._user_seconds[user] = used + each
            following = queue.oldest_of(user)
            if following is not None:
                heapq.heappush(turns, (used + each, *following.age, user))
        queue.device_seconds, queue.skipped = queue.device_seconds + cost, 0
        queue.passed_over = None
        if queue.curve:
            self._items_run[queue.stage] += size
            key, batches = self._last_keys.get(queue.stage, (queue.key, 0))
            batches = (
                max(batches - 1, 0)
                if key == queue.key
                else self._tuning.same_key_batches
            )
            self._last_keys[queue.stage] = queue.key, batches
        if not queue.count:
            del self._queues[queue.stage, queue.key]
        if len(self._user_seconds) > self._tuning.remembered_users:
            self._forget_users()
        return items

    def _forget_users(self) -> None:
        """Forget those who have nothing waiting, who used least first, down to half."""
        here = {user for queue in self._queues.values() for user in queue.per_user}
        away = self._user_seconds.keys() - here
        ranked = sorted(away, key=self._user_seconds.__getitem__)
        kept = self._tuning.remembered_users // 2
        for user in ranked[: len(self._user_seconds) - kept]:
            del self._user_seconds[user]
