"""The predecessor's search: every image has noise of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.agents.search.paired import under_same_noise
from socratic_agents.agents.search.rounds import RoundSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.core.history import History
    from socratic_agents.core.search import Draw

__all__ = ("ClassicSearch",)


class ClassicSearch(RoundSearch):
    """Draws the rewrites of a round from the same fresh seeds."""

    def draws(
        self, history: History, prompts: tuple[str, ...], bank: Iterator[int]
    ) -> tuple[Draw, ...]:
        """Return each prompt under the same noise, which was not drawn before."""
        return under_same_noise(self, history, prompts, bank, first=None)
