"""Lines: items that may share a batch, in the order in which they are served."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.scheduler.cost_curve import Curve

__all__ = ("Item", "Line")


@dataclass(eq=False, slots=True)
class Item:
    """What waits for a stage."""

    payload: Any
    number: int
    """The order of arrival, different for every item."""
    loop: int
    """The order in which loops began: the oldest goes first, so that loops end."""
    user: Hashable = None
    """Whose loop it is."""
    gone: bool = False
    """It does not wait any more: it was taken, or nobody wants it."""

    @property
    def age(self) -> tuple[int, int]:
        """The order in which items are served, different for every item."""
        return self.loop, self.number

    def __lt__(self, other: Item) -> bool:
        return self.age < other.age


@dataclass(eq=False, slots=True)
class Line:
    """Items of one stage with one key."""

    stage: Hashable
    key: Hashable
    priority: int
    """The highest goes first."""
    most: int
    """Items of one call, at least 1."""
    curve: Curve | None
    """What calls cost; ``None``: not known yet."""
    served: float
    """Seconds of the device that it got."""
    count: int = 0
    """Items that wait and are not gone."""
    passed: int = 0
    """How often it was passed over since it ran."""
    lanes: dict[Hashable, list[Item]] = field(default_factory=dict)
    """The items of each user, as a heap."""

    @property
    def full(self) -> int:
        """Items of the largest batch that is worth forming."""
        return min(self.curve.full, self.most) if self.curve else self.most

    @property
    def enough(self) -> int:
        """Items for which waiting for more does not pay; 1 where nobody knows."""
        return min(self.curve.enough, self.most) if self.curve else 1

    @property
    def ripe(self) -> bool:
        """Whether it would gain little by more items."""
        return self.curve is None or self.count >= self.enough

    def put(self, item: Item) -> bool:
        """Let an item wait, and return whether it is the only one of its user."""
        self.count += 1
        if self.first(item.user) is None:
            self.lanes[item.user] = [item]
            return True
        heapq.heappush(self.lanes[item.user], item)
        return False

    def first(self, user: Hashable) -> Item | None:
        """Return the item of a user's oldest loop; ``None``: there is none."""
        lane = self.lanes.get(user)
        while lane and lane[0].gone:
            heapq.heappop(lane)
        if lane:
            return lane[0]
        self.lanes.pop(user, None)
        return None

    def firsts(self) -> dict[Hashable, Item]:
        """Return the item of each user's oldest loop."""
        found = {user: self.first(user) for user in list(self.lanes)}
        return {user: item for user, item in found.items() if item is not None}

    def head(self) -> Item:
        """Return the item of the oldest loop; there must be one."""
        firsts = self.firsts().values()
        return next(iter(firsts)) if len(firsts) == 1 else min(firsts)

    def pop(self, user: Hashable) -> Item:
        """Take the first item of a user, which must not be gone."""
        item = heapq.heappop(self.lanes[user])
        item.gone = True
        self.count -= 1
        return item
