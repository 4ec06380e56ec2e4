"""Residency: which models lie on a device on which not all of them fit together.

A model is brought when a batch of it is about to run, and others make room. Which batch
is next is the policy's choice (see ``policy``): it drains what runs with the models that
are there before it has others brought. Where everything fits, nothing is ever moved.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError, is_out_of_memory
from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ("GB", "Residency", "Resident")

GB = 10**9


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A model with a place on the device, at least for a while."""

    name: str
    """What the stages that run it hold."""
    size: int
    """Bytes that it takes there."""
    load: Callable[[], object] = lambda: None
    """Brings it to the device; blocks."""
    unload: Callable[[], object] | None = None
    """Takes it away and gives its memory back; blocks. ``None``: it stays for good."""


class Residency:
    """The models of one device; used in its worker's thread alone.

    Args:
        capacity: Bytes that models may take there together; ``None``: any number.
        clock: Tells the time, in seconds.
        tuning: What it depends on.
    """

    def __init__(
        self,
        capacity: int | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        tuning: SchedulerTuning = DEFAULT_TUNING,
    ) -> None:
        self.capacity = capacity
        self.swaps = 0
        """How often a model was brought."""
        self.swap_seconds = 0.0
        """How long that took, the others' way out included."""
        self._clock, self._tuning = clock, tuning
        self._known: dict[str, Resident] = {}
        self._here: dict[str, Resident] = {}
        """What lies on the device, the one that was used last at the end."""
        self._measured: dict[str, float] = {}

    @property
    def here(self) -> frozenset[str]:
        """The names of the models that lie on the device."""
        return frozenset(self._here)

    def add(self, resident: Resident) -> None:
        """Take note of a model that was just opened, and lies on the device.

        Raises:
            ConfigurationError: If it does not fit, even alone.
        """
        if self.capacity is not None:
            others = self._known.values()
            fixed = sum(one.size for one in others if one.unload is None)
            if fixed + resident.size > self.capacity:
                message = (
                    f"expected models of at most {self.capacity / GB:.3g} GB in the "
                    f"memory of the device, got {resident.name} of "
                    f"{resident.size / GB:.3g} GB"
                    + (f" beside {fixed / GB:.3g} GB that must stay" if fixed else "")
                    + "; take a smaller model, quantization='4bit', offload='model', "
                    "or a larger device_memory"
                )
                raise ConfigurationError(message)
        self._known[resident.name] = self._here[resident.name] = resident
        self._make_room(0, keep=(resident.name,))

    def make_room(self, size: int | None) -> None:
        """Take away what is in the way of a model that is about to be opened.

        Args:
            size: Bytes that it will take; ``None``: nobody knows, so all make room.
        """
        if self.capacity is not None:
            self._make_room(self.capacity if size is None else size)

    def settle(self) -> None:
        """Bring all models that were opened, if they fit together; it is no swap."""
        if self.capacity is None or _together(self._known.values()) > self.capacity:
            return
        for name, resident in self._known.items():
            if name not in self._here:
                resident.load()
                self._here[name] = resident

    def seconds(self, holds: str | None) -> float:
        """Return how long a batch has to wait until its model is there; 0: it is.

        It is what it took the last time, and reckoned from its size before; what is
        negligible counts as nothing.

        Args:
            holds: Name of what the batch runs on; one that nobody knows is there.
        """
        resident = self._known.get(holds) if holds is not None else None
        if resident is None or resident.name in self._here:
            return 0.0
        reckoned = resident.size / (self._tuning.swap_rate * GB)
        seconds = self._measured.get(resident.name, reckoned)
        return seconds if seconds >= self._tuning.negligible_seconds else 0.0

    def bring(self, holds: str | None, *, wanted: Collection[str | None] = ()) -> None:
        """Bring a model to the device, if it is not there; others make room.

        Args:
            holds: Its name.
            wanted: What else is waited for: it goes last.

        Raises:
            Exception: Whatever loading raises, after all others have made room.
        """
        resident = self._known.get(holds) if holds is not None else None
        if resident is None:
            return
        if resident.name not in self._here:
            start = self._clock()
            self._make_room(resident.size, wanted=wanted)
            self._load(resident)
            took = self._clock() - start
            self._measured[resident.name] = took
            self.swaps, self.swap_seconds = self.swaps + 1, self.swap_seconds + took
        self._here[resident.name] = self._here.pop(resident.name, resident)

    def _load(self, resident: Resident) -> None:
        try:
            resident.load()
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
        else:
            return
        # Outside of the "except", whose traceback would keep half a model there.
        if resident.unload is not None:
            with suppress(Exception):
                resident.unload()
        self.make_room(None)
        resident.load()

    def _make_room(
        self,
        size: int,
        *,
        wanted: Collection[str | None] = (),
        keep: Collection[str] = (),
    ) -> None:
        """Take models away until so many bytes are free: those that nobody wants first.

        Of equals, the one goes that was not used for longest; none goes in vain.
        """
        if self.capacity is None:
            return
        lacking = sum(one.size for one in self._here.values()) + size - self.capacity
        movable = [one for one in self._here.values() if one.name not in keep]
        leaving: list[Resident] = []
        for one in sorted(movable, key=lambda one: one.name in wanted):
            if one.unload is not None and _together(leaving) < lacking:
                leaving.append(one)
        for one in leaving[::-1]:
            if _together(leaving) - one.size >= lacking:
                leaving.remove(one)
        for one in leaving:
            if one.unload is not None:  # as of all that leave
                one.unload()
            del self._here[one.name]


def _together(residents: Iterable[Resident]) -> int:
    return sum(one.size for one in residents)
