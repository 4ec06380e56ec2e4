"""Queues: items that may share a batch, in the order in which they are served."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.scheduler.cost_curve import CostCurve

__all__ = ("Payload", "QueueItem", "StageQueue")

Payload = TypeVar("Payload")


@dataclass(eq=False, slots=True)
class QueueItem(Generic[Payload]):
    """What waits for a stage."""

    payload: Payload
    number: int
    """The order of arrival, different for every item."""
    session: int
    """The order in which sessions began: the oldest goes first, so that they end."""
    user: Hashable = None
    """For whom the session is."""
    taken: bool = False
    """Whether it waits no more: it is run, or was discarded."""

    @property
    def age(self) -> tuple[int, int]:
        """The order in which items are served, different for every item."""
        return self.session, self.number

    def __lt__(self, other: QueueItem[Payload]) -> bool:
        return self.age < other.age


@dataclass(eq=False, slots=True)
class StageQueue(Generic[Payload]):
    """Items of one stage with one key, with a queue for each user."""

    stage: Hashable
    key: Hashable
    priority: int
    """The highest goes first."""
    max_batch: int
    """Items of one call, at least 1."""
    curve: CostCurve | None
    """What calls cost; ``None``: not known yet."""
    device_seconds: float
    """What it has used of the device."""
    count: int = 0
    """Items that wait."""
    skipped: int = 0
    """How often another queue was preferred since it ran."""
    passed_over: float | None = None
    """Since when it would have been its turn, but for its model; ``None``: it is not."""
    per_user: dict[Hashable, list[QueueItem[Payload]]] = field(default_factory=dict)
    """The items of each user, as a heap."""

    @property
    def best_size(self) -> int:
        """Items of the largest batch that is worth forming."""
        if self.curve is None:
            return self.max_batch
        return min(self.curve.best_size, self.max_batch)

    @property
    def good_size(self) -> int:
        """Items for which waiting for more does not pay; 1 while costs are unknown."""
        return min(self.curve.good_size, self.max_batch) if self.curve else 1

    @property
    def worth_running(self) -> bool:
        """Whether it would gain little by more items."""
        return self.curve is None or self.count >= self.good_size

    def push(self, item: QueueItem[Payload]) -> bool:
        """Add an item, and return whether it is the only one of its user."""
        self.count += 1
        if self.oldest_of(item.user) is None:
            self.per_user[item.user] = [item]
            return True
        heapq.heappush(self.per_user[item.user], item)
        return False

    def oldest_of(self, user: Hashable) -> QueueItem[Payload] | None:
        """Return the item of a user's oldest session; ``None``: there is none."""
        items = self.per_user.get(user)
        while items and items[0].taken:
            heapq.heappop(items)
        if items:
            return items[0]
        self.per_user.pop(user, None)
        return None

    def oldest_by_user(self) -> dict[Hashable, QueueItem[Payload]]:
        """Return the item of each user's oldest session."""
        found = {user: self.oldest_of(user) for user in list(self.per_user)}
        return {user: item for user, item in found.items() if item is not None}

    def oldest(self) -> QueueItem[Payload]:
        """Return the item of the oldest session; there must be one."""
        items = self.oldest_by_user().values()
        return next(iter(items)) if len(items) == 1 else min(items)

    def pop(self, user: Hashable) -> QueueItem[Payload]:
        """Take the first item of a user, which must wait."""
        item = heapq.heappop(self.per_user[user])
        item.taken = True
        self.count -= 1
        return item
