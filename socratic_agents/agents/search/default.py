"""The default search: rewrites are compared under the noise of the best image so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.agents.search.rounds import RoundSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.core.history import History

__all__ = ("DefaultSearch",)


class DefaultSearch(RoundSearch):
    """Draws the first image of each rewrite from the incumbent's seed."""

    def first_seed(self, history: History, bank: Iterator[int]) -> int:  # noqa: ARG002 - other searches take one
        """Return the incumbent's seed, so that only the prompt makes the difference."""
        return (history.incumbent or history.candidates[0]).seed
