"""Baselines: other policies to share a device, each written once for both benches.

A policy decides what a free device does next. The simulated bench asks it in virtual
time, the device bench in real time; neither decides anything itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

__all__ = ("BASELINES", "Arrival", "LockStep", "Policy", "Serial", "TimedBatcher")


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrival:
    """An item that waits for the device."""

    stage: Hashable
    """Only items of one stage may share a batch."""
    loop: Hashable
    """Which of the loops in flight it belongs to."""
    largest: int
    """Items of the largest batch of its stage."""
    payload: Any = None
    """Whatever the driver needs to run and answer it."""


class Policy(Protocol):
    """Decides what a free device does next."""

    loops: int
    """In flight; fewer when a simulation comes to its end."""

    def arrive(self, arrival: Arrival, *, now: float) -> None:
        """Add an item to those that wait."""

    def decide(self, now: float) -> Sequence[Arrival] | float | None:
        """Return the next batch, when to ask again at the latest, or nothing to do."""


class Serial:
    """Every call under one lock: first come, first served, one item each.

    Args:
        loops: In flight.
    """

    def __init__(self, *, loops: int) -> None:
        self.loops = loops
        self._waiting = deque[Arrival]()

    def arrive(self, arrival: Arrival, *, now: float) -> None:  # noqa: ARG002 - the protocol
        """Queue."""
        self._waiting.append(arrival)

    def decide(self, now: float) -> Sequence[Arrival] | float | None:  # noqa: ARG002 - the protocol
        """Serve the first."""
        return [self._waiting.popleft()] if self._waiting else None


class LockStep:
    """All loops at once: no stage begins before every loop waits for one.

    Args:
        loops: In flight, all of which must wait before anything is run.
    """

    def __init__(self, *, loops: int) -> None:
        self.loops = loops
        self._groups: dict[Hashable, list[Arrival]] = {}
        self._waiting: set[Hashable] = set()
        self._batches = deque[list[Arrival]]()

    def arrive(self, arrival: Arrival, *, now: float) -> None:  # noqa: ARG002 - the protocol
        """Wait for the others."""
        self._groups.setdefault(arrival.stage, []).append(arrival)
        self._waiting.add(arrival.loop)

    def decide(self, now: float) -> Sequence[Arrival] | float | None:  # noqa: ARG002 - the protocol
        """Serve all that wait once everybody does, in the largest batches."""
        if not self._batches and len(self._waiting) == self.loops:
            for group in self._groups.values():
                size = group[0].largest
                starts = range(0, len(group), size)
                self._batches.extend(group[start : start + size] for start in starts)
            self._groups, self._waiting = {}, set()
        return self._batches.popleft() if self._batches else None


class TimedBatcher:
    """As Ray Serve batches: closed by a timer, whether the device is free or not.

    Args:
        loops: In flight.
        wait: Seconds that a batch stays open after its first item, if it is not full.

    Source:
        ``@serve.batch`` of Ray 2.60: its batch is taken out of the queue when it is
        full or its first item has waited long enough, and waits for the device then.
    """

    def __init__(self, *, loops: int, wait: float = 0.01) -> None:
        self.loops = loops
        self._wait = wait
        self._open: dict[Hashable, tuple[float, list[Arrival]]] = {}
        self._closed = deque[list[Arrival]]()

    def arrive(self, arrival: Arrival, *, now: float) -> None:
        """Join the batch that is open, and close it when it is full."""
        self._close_due(now)
        _, batch = self._open.setdefault(arrival.stage, (now + self._wait, []))
        batch.append(arrival)
        if len(batch) == arrival.largest:
            self._closed.append(self._open.pop(arrival.stage)[1])

    def decide(self, now: float) -> Sequence[Arrival] | float | None:
        """Serve the batches in the order in which they were closed."""
        self._close_due(now)
        if self._closed:
            return self._closed.popleft()
        return min((due for due, _ in self._open.values()), default=None)

    def _close_due(self, now: float) -> None:
        """Close the batches whose time is up, in the order in which it was."""
        due = [stage for stage, (at, _) in self._open.items() if at <= now]
        for stage in sorted(due, key=lambda stage: self._open[stage][0]):
            self._closed.append(self._open.pop(stage)[1])


BASELINES: Mapping[str, Callable[..., Policy]] = {
    "sequential": Serial,
    "lock": Serial,
    "lockstep": LockStep,
    "ray_default": TimedBatcher,
    "ray_tuned": TimedBatcher,
    "langgraph": Serial,
}
"""By the contender's name; ``sequential`` has one loop in flight, ``ray_tuned`` its best
wait, and ``langgraph`` runs its loops as graphs."""
