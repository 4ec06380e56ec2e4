"""Residents: the models of one device, noted as they are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from socratic_agents.core.errors import is_out_of_memory
from socratic_agents.models.placement import free_bytes, resident_of
from socratic_agents.runtime.batching import holding
from socratic_agents.scheduler.residency import GB

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.config.settings import Settings
    from socratic_agents.scheduler.worker import Worker

__all__ = ("ROOMY", "Residents")

Opened = TypeVar("Opened")

ROOMY = 0.85
"""What of the free memory weights may take, so that there is room to compute in."""


class Residents:
    """Opens models so that those that do not fit together take turns.

    Args:
        settings: Say how much memory there is; where they do not, and the first model
            is opened on a graphics card, what that has free does.
        worker: Of the device; this runs in its thread.
    """

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self._residency = worker.residency
        self._told = settings.device_memory is not None
        if settings.device_memory is not None:
            self._residency.capacity = int(settings.device_memory * GB)

    def open(self, holds: str, load: Callable[[], Opened]) -> Opened:
        """Return a model that was opened; what is in its way makes room.

        Args:
            holds: What its stages hold.
            load: Opens it, and makes its stages.
        """
        if self._told:
            self._residency.make_room(None)
        try:
            with holding(holds):
                return load()
        except Exception as problem:
            if self._residency.capacity is None or not _lacks_memory(problem):
                raise
        # Outside of the "except", whose traceback would keep half a model there.
        self._residency.make_room(None)
        with holding(holds):
            return load()

    def note(self, holds: str, model: object) -> None:
        """Note that a model lies on the device now.

        Args:
            holds: What its stages hold.
            model: It, or what holds it.

        Raises:
            ConfigurationError: If it is larger than the settings allow.
        """
        resident = resident_of(holds, model, on_cpu=self._told)
        if resident is None:
            return
        if not self._told:
            known = self._residency.capacity
            if known is None:
                free = free_bytes(model)
                known = None if free is None else int(ROOMY * (free + resident.size))
            if known is None:
                return
            # It is there, so it fits.
            self._residency.capacity = max(known, resident.size)
        self._residency.add(resident)


def _lacks_memory(problem: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is a lack of memory."""
    while problem is not None:
        if is_out_of_memory(problem):
            return True
        problem = problem.__cause__
    return False
