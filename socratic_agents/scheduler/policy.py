"""Dispatch: what a free device does next, decided from what waits and what it costs.

No threads and no clock: whoever owns the device says what time it is, so the same code
decides for a real device and for a virtual one.

* A batch is formed at the moment when the device is free, never before.
* Stages that set loops free to think go first (captions, scores), unless the stage
  that keeps the device busy (images) has full batches waiting: then those run, and the
  captions pile up to a full batch of their own.
* An idle device waits for loops that think only where that pays; see ``gathering``.
* The oldest loop goes first; users share the device evenly, and so do keys.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.scheduler.group_wait import Gathering
from socratic_agents.scheduler.queues import Item, Line
from socratic_agents.scheduler.think_time import Thinking

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.scheduler.cost_curve import Curve

__all__ = ("Dispatcher", "Run", "Wait")

SLACK = 0.25
"""Seconds of the device that a key may be ahead of another before it has to wait."""
PILED = 2
"""Full batches of images that go before captions; one where captions dominate."""
DOMINANT = 0.4
"""Captions and scores dominate when they are more than this share of the work."""
UNKNOWN = 1e-3
"""Seconds of an item whose cost nobody knows, for sharing between users."""
ADMITTED = 3
"""Full batches of loops in flight, beside those that think."""
SINGLE = 16
"""Batches with one key, until loops are expected to come back with that key."""
PROMPT = 0.02
"""Loops that were just answered are waited for, for this share of what a good batch of
the stage takes that keeps the device busy."""
USERS = 1024
"""So many users are remembered, if fewer have something waiting."""


@dataclass(frozen=True)
class Run:
    """Run these items in one call, now."""

    line: Line
    items: list[Item]


@dataclass(frozen=True)
class Wait:
    """Leave the device idle until then at most; decide again when something comes."""

    until: float


class Dispatcher:
    """What waits for one device, and what it is to do next."""

    def __init__(self) -> None:
        self.thinking = Thinking()
        self._gathering = Gathering(self.thinking)
        self._lines: dict[Hashable, Line] = {}
        self._costs: dict[Hashable, tuple[int, Curve]] = {}
        self._taken: Counter[Hashable] = Counter()
        self._keys: dict[Hashable, tuple[Hashable, int]] = {}
        self._users: dict[Hashable, float] = {}
        self._floor = 0.0

    def __len__(self) -> int:
        return sum(line.count for line in self._lines.values())

    def add(
        self,
        item: Item,
        *,
        stage: Hashable,
        key: Hashable = None,
        priority: int = 0,
        most: int = 8,
        curve: Curve | None = None,
    ) -> None:
        """Let an item wait.

        Args:
            item: What waits.
            stage: What is to be done with it.
            key: Only items with equal keys come into one batch.
            priority: The highest goes first; the lowest keeps the device busy.
            most: Items of one call, at least 1.
            curve: What calls cost, where that is known.
        """
        line = self._lines.get((stage, key))
        if line is None:
            served = [o.served for o in self._lines.values() if o.stage == stage]
            line = Line(stage, key, priority, most, curve, min(served, default=0.0))
            self._lines[stage, key] = line
        if curve is not None:
            line.curve, self._costs[stage] = curve, (priority, curve)
        line.most = most
        if line.put(item):
            # Who comes anew has no claim to what he did not ask for earlier.
            past = self._users.get(item.user, 0.0)
            self._users[item.user] = max(past, self._floor)

    def discard(self, item: Item, *, stage: Hashable, key: Hashable = None) -> None:
        """Let an item go that nobody wants; one that was taken already is ignored."""
        if item.gone:
            return
        line = self._lines[stage, key]
        item.gone = True
        line.count -= 1
        if not line.count:
            del self._lines[stage, key]

    def clear(self) -> list[Item]:
        """Take out all that waits, and return it."""
        lanes = [lane for line in self._lines.values() for lane in line.lanes.values()]
        self._lines.clear()
        items = [item for lane in lanes for item in lane if not item.gone]
        for item in items:
            item.gone = True
        return items

    def decide(self, now: float) -> Run | Wait | None:
        """Return what a free device does next; ``None``: nothing waits.

        Args:
            now: The time, in seconds from any moment on.
        """
        if not self._lines:
            return None
        line = self._choose()
        size = min(line.count, line.full)
        if line.curve is not None and self._may_gather(line):
            size, until = self._gathering.plan(
                line,
                line.curve,
                lambda items: self._others(line, items),
                brought=self._brought(line),
                now=now,
            )
            if until is not None:
                return Wait(until)
        if line.curve is not None:
            size = line.curve.worth(size)
        self._gathering.ran(size)
        return Run(line, self._take(line, size))

    def worth_admitting(self) -> int | None:
        """Return how many loops keep the device busy; ``None``: not known yet.

        By Little's law as many as think while the device works through a round of
        the others, and some batches beside, so that each can be formed in full.
        """
        heavy = min(self._costs.items(), key=lambda cost: cost[1][0], default=None)
        thought, taken = self.thinking.mean, 0
        if heavy is not None:
            taken = self._taken[heavy[0]]
        if heavy is None or thought is None or not taken:
            return None
        lowest, curve = heavy[1]
        item = curve.best + sum(
            other.best * self._taken[name] / taken
            for name, (priority, other) in self._costs.items()
            if priority > lowest
        )
        brought = max(taken / max(self.thinking.begun, 1), 1.0)
        batches = ADMITTED * curve.full / brought
        return math.ceil(batches + thought / (item * brought))

    def grace(self) -> float:
        """Return how many seconds to wait for loops that were answered a moment ago.

        What they want next is nearly there: captions of the images that were just
        drawn would else wait until the next images are.
        """
        heavy = min(self._costs.values(), key=lambda cost: cost[0], default=None)
        return PROMPT * heavy[1].at(heavy[1].enough) if heavy else 0.0

    def _choose(self) -> Line:
        """Return the line whose turn it is."""
        if len(self._lines) == 1:
            return next(iter(self._lines.values()))
        ranked = sorted(
            self._lines.values(), key=lambda line: (-line.priority, *line.head().age)
        )
        lowest = [line for line in ranked if line.priority == ranked[-1].priority]
        heavy = max(lowest, key=lambda line: line.count / line.full)
        chosen = ranked[0]
        if heavy.curve and heavy.count >= self._pile(heavy) * heavy.full:
            for line in ranked:
                chosen = line
                # No longer than it takes until as many captions as fit are there.
                most = line.enough // heavy.full + 1
                if line in lowest or line.ripe or line.passed > most:
                    break
                line.passed += 1
        same = [line for line in ranked if line.stage == chosen.stage]
        least = min(same, key=lambda line: line.served)
        return least if least.served < chosen.served - SLACK else chosen

    def _pile(self, heavy: Line) -> int:
        """Return for how many full batches of images captions are passed over."""
        size = heavy.full
        others = self._others(heavy, size, best=True)
        images = heavy.curve.best * size if heavy.curve else 0.0
        return 1 if others > DOMINANT * (others + images) else PILED

    def _others(self, heavy: Line, items: int, *, best: bool = False) -> float:
        """Return the seconds that other stages take for so many items of this one."""
        taken, seconds = self._taken[heavy.stage], 0.0
        for stage, (priority, curve) in self._costs.items():
            if priority > heavy.priority:
                share = self._taken[stage] / taken if taken else 1.0
                follow = items * share
                seconds += curve.best * follow if best else curve.at(math.ceil(follow))
        return seconds

    def _may_gather(self, line: Line) -> bool:
        """Return whether loops that think will come to this line, and no other waits."""
        return (
            len(self._lines) == 1
            and len(self.thinking) > 0
            and all(priority >= line.priority for priority, _ in self._costs.values())
            and self._keys.get(line.stage, (line.key, 0)) == (line.key, 0)
        )

    def _brought(self, line: Line) -> int:
        """Return how many items a loop brings, as a rule, when it is back."""
        return max(round(self._taken[line.stage] / max(self.thinking.begun, 1)), 1)

    def _take(self, line: Line, size: int) -> list[Item]:
        """Return the next items of a line: the oldest of whoever got least."""
        cost = line.curve.at(size) if line.curve else 0.0
        each, items = cost / size or UNKNOWN, list[Item]()
        turns = [(self._users[u], *first.age, u) for u, first in line.firsts().items()]
        heapq.heapify(turns)
        while len(items) < size:
            used, *_, user = heapq.heappop(turns)
            items.append(line.pop(user))
            self._floor = max(self._floor, used)
            self._users[user] = used + each
            following = line.first(user)
            if following is not None:
                heapq.heappush(turns, (used + each, *following.age, user))
        line.served, line.passed = line.served + cost, 0
        if line.curve:
            self._taken[line.stage] += size
            key, batches = self._keys.get(line.stage, (line.key, 0))
            batches = max(batches - 1, 0) if key == line.key else SINGLE
            self._keys[line.stage] = line.key, batches
        if not line.count:
            del self._lines[line.stage, line.key]
        if len(self._users) > USERS:
            self._forget_users()
        return items

    def _forget_users(self) -> None:
        """Forget those who have nothing waiting, who used least first, down to half."""
        here = {user for line in self._lines.values() for user in line.lanes}
        away = sorted(self._users.keys() - here, key=self._users.__getitem__)
        for user in away[: len(self._users) - USERS // 2]:
            del self._users[user]
