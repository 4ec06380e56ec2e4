"""What a captioner has within that writes; opened when somebody asks for it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socratic_agents.models.eyes.placement import Placement
    from socratic_agents.models.writing.writer import Writer

__all__ = ("Writes",)


class Writes:
    """A captioner whose language model can be asked by itself."""

    _model: Any
    _processor: Any
    _placement: Placement

    @cached_property
    def writer(self) -> Writer:
        """What writes with its weights: the language model of ``llm="captioner"``.

        Raises:
            ConfigurationError: If it cannot write what it is asked for.
        """
        from socratic_agents.models.writing.writer import Writer

        return Writer(self._model, self._processor, placement=self._placement)
