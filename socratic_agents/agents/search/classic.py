"""The predecessor's search: every image has noise of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.agents.search.rounds import RoundSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.core.history import History

__all__ = ("ClassicSearch",)


class ClassicSearch(RoundSearch):
    """Draws rewrites from fresh seeds alone."""

    def first_seed(self, history: History, bank: Iterator[int]) -> int:  # noqa: ARG002 - other searches look back
        """Return a seed that was not drawn before."""
        return next(bank)
