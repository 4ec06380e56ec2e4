"""The default search: new words on new noise, until the images are spent.

A wording that failed is worth no second image while another one can be tried: leaving
an arm at its first failure is what is best where there are more arms than pulls. Each
wording has noise of its own, for the incumbent's may be what failed. ``docs/search.md``
has the measurements.

Source: D. Berry et al., "Bandit problems with infinitely many arms", Annals of
Statistics 1997 (leave an arm at its first failure).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from socratic_agents.agents.search.rounds import RoundSearch, best_prompt
from socratic_agents.core.search import proposed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.core.history import History
    from socratic_agents.core.search import Draw

__all__ = ("DefaultSearch", "best_wording")


@dataclass(frozen=True, kw_only=True)
class DefaultSearch(RoundSearch):
    """Draws each rewrite from fresh seeds of its own, and spends all its images.

    Where fewer rewrites come than a round has room for, fresh seeds of the best wording
    fill it. Where an image passes the whole checklist and the judge is not satisfied all
    the same, the words are taken as found, and only the noise is changed.
    """

    prompts_per_round: int = 1
    """What a round after the first has room for, at least 1."""

    def draws(
        self, history: History, prompts: tuple[str, ...], bank: Iterator[int]
    ) -> tuple[Draw, ...]:
        """Return each prompt under noise of its own, and the best one to fill up."""
        fill = best_prompt(history) if self.settled(history) else best_wording(history)
        short = max(0, self.prompts_per_round - len(prompts)) * self.seeds_per_prompt
        draws = self.redrawn(prompts, bank)
        return (*draws, *self.again(history, fill, short, bank))

    def settled(self, history: History) -> bool:
        """Return whether the best image passes the whole checklist."""
        best, checklist = history.incumbent, history.checklist
        if best is None or checklist is None or not best.answers:
            return False
        return len(checklist.met(best.answers)) == len(checklist.questions)


def best_wording(history: History) -> str:
    """Return the prompt whose images are best on average.

    The mean of each is drawn towards that of all images as by one more image, so that
    one lucky image does not outweigh several good ones. Of equals it is the incumbent's,
    and where nothing is scored, too.
    """
    scores = defaultdict[str, list[float]](list)
    for one in history.candidates:
        if one.usable and one.score is not None:
            scores[proposed(one)].append(one.score)
    if not scores:
        return best_prompt(history)
    overall = fmean(score for own in scores.values() for score in own)

    def worth(prompt: str) -> tuple[float, bool]:
        return fmean([*scores[prompt], overall]), prompt == best_prompt(history)

    return max(scores, key=worth)
