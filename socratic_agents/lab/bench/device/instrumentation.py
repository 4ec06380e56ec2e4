"""Instrumentation: what is seen of a device, of its items, and of the event loop beside it."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.lab.bench.device.memory import Memory
    from socratic_agents.scheduler.worker import Stage

__all__ = (
    "OFTEN",
    "CallLog",
    "EventLoopLag",
    "TracedCall",
    "TracedItem",
    "TracedOutput",
    "current_loop_id",
)

OFTEN = 0.005
"""Seconds between two looks at the event loop."""
SAMPLES = 16
"""Items of each stage that are kept."""
SELDOM = 20
"""Looks at the event loop for each look at the memory."""

current_loop_id: ContextVar[tuple[str, int]] = ContextVar(
    "current_seat", default=("", 0)
)
"""The user whose loop this task belongs to, and its number among those in flight."""


@dataclass(eq=False)
class TracedItem:
    """An item in flight, and whose it is."""

    item: Any
    key: Hashable
    user: str
    runs: int = 0
    """How often it was run and answered."""


@dataclass(frozen=True, eq=False)
class TracedOutput:
    """An output, with the item that it is for."""

    traced: TracedItem
    output: Any


@dataclass(frozen=True, kw_only=True)
class TracedCall:
    """One call of a model."""

    stage: str
    key: Hashable
    began: float
    ended: float
    cpu: float
    """Seconds of a processor that the device's thread took."""
    users: tuple[str, ...]
    """Whose items were in it, copies left out."""
    most: int
    """Items of the largest call."""

    def share(self, start: float, end: float) -> float:
        """Return which share of it lies between two moments."""
        inside = min(self.ended, end) - max(self.began, start)
        return max(inside, 0.0) / max(self.ended - self.began, 1e-9)


@dataclass(eq=False)
class CallLog:
    """What a device did for one scheduler."""

    calls: list[TracedCall] = field(default_factory=list)
    traced_items: list[TracedItem] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    """Items that are not answered, by stage."""
    widest: dict[str, int] = field(default_factory=dict)
    """How many there were at most."""
    submitted: dict[tuple[Stage[Any, Any], Hashable], int] = field(default_factory=dict)
    """How many items there were, by stage and key."""
    samples: dict[tuple[Stage[Any, Any], Hashable], list[Any]] = field(
        default_factory=dict
    )
    """The first of them."""

    def enter(self, stage: Stage[Any, Any], traced: TracedItem) -> None:
        """Note that an item is submitted."""
        place, name = (stage, traced.key), stage.name
        self.traced_items.append(traced)
        self.submitted[place] = self.submitted.get(place, 0) + 1
        samples = self.samples.setdefault(place, [])
        if len(samples) < SAMPLES:
            samples.append(traced.item)
        self.waiting[name] = self.waiting.get(name, 0) + 1
        self.widest[name] = max(self.widest.get(name, 0), self.waiting[name])

    def leave(
        self, stage: Stage[Any, Any], traced: TracedItem, *, answered: bool
    ) -> None:
        """Note that an item is answered, or not wanted any more."""
        self.waiting[stage.name] -= 1
        if answered:
            traced.item = None  # or all images would be kept

    def check(self) -> None:
        """Check that every item was answered once, or is not wanted any more.

        Raises:
            BatchError: If one was lost, or run twice.
        """
        lost = sum(self.waiting.values())
        doubled = sum(traced.runs > 1 for traced in self.traced_items)
        if lost or doubled:
            message = (
                f"expected every item to be run and answered once, got {lost} lost "
                f"and {doubled} doubled; fix the scheduler"
            )
            raise BatchError(message)


class EventLoopLag:
    """How late the event loop is, and how much memory is in use meanwhile.

    Args:
        memory: Says how much it is.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.peak = 0
        """Bytes, at most."""
        self.seconds: list[tuple[float, float]] = []
        """Moments, and how late the event loop was."""

    async def watch(self) -> None:
        """Look now and then, until it is cancelled."""
        self._memory.reset()
        looks = 0
        while True:
            if looks % SELDOM == 0:
                self.peak = max(self.peak, self._memory.peak())
            looks += 1
            asked = time.perf_counter()
            await asyncio.sleep(OFTEN)
            now = time.perf_counter()
            self.seconds.append((now, max(now - asked - OFTEN, 0.0)))
