"""Rewrites that are compared under the noise of the best image so far."""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING

from socratic_agents.agents.search.rounds import RoundSearch, best_prompt
from socratic_agents.core.search import Draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.core.history import History

__all__ = ("PairedSearch", "under_same_noise")


class PairedSearch(RoundSearch):
    """Draws the first image of each rewrite from the incumbent's seed.

    Only the words make the difference then. Where the noise decides what fails, each
    rewrite inherits the failure.
    """

    def draws(
        self, history: History, prompts: tuple[str, ...], bank: Iterator[int]
    ) -> tuple[Draw, ...]:
        """Return each prompt under the incumbent's noise, and others that are fresh."""
        seed = (history.incumbent or history.candidates[0]).seed
        return under_same_noise(self, history, prompts, bank, first=seed)


def under_same_noise(
    search: RoundSearch,
    history: History,
    prompts: tuple[str, ...],
    bank: Iterator[int],
    *,
    first: int | None,
) -> tuple[Draw, ...]:
    """Return draws of all prompts from the same seeds.

    Args:
        search: Says how many seeds.
        history: All rounds before this one.
        prompts: Without any, the best one so far is drawn from fresh seeds.
        bank: Seeds that were not drawn before.
        first: The first seed; ``None``: a fresh one.
    """
    if not prompts:
        count = search.seeds_per_prompt
        return search.again(history, best_prompt(history), count, bank)
    seeds = [] if first is None else [first]
    seeds += islice(bank, search.seeds_per_prompt - len(seeds))
    return tuple(Draw(*pair) for pair in product(prompts, seeds))
