"""The receipt: what the same number of images of the user prompt would have brought."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from socratic_agents.agents.judges import never
from socratic_agents.agents.registry import find_roles
from socratic_agents.agents.search.default import DefaultSearch
from socratic_agents.core.checklist import Checklist
from socratic_agents.core.errors import NothingDrawnError
from socratic_agents.core.loop import NO_LIMITS, refine_prompt
from socratic_agents.core.outcome import Receipt
from socratic_agents.core.spread import measure_spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Candidate
    from socratic_agents.core.loop import Agents, Limits
    from socratic_agents.core.outcome import Refinement

__all__ = ("draw_receipt",)


async def draw_receipt(
    refinement: Refinement,
    agents: Agents,
    settings: Settings,
    *,
    seeds: Iterator[int],
    limits: Limits = NO_LIMITS,
) -> Receipt | None:
    """Draw best-of-N of the user prompt at the refinement's number of images.

    The same selector chooses, and what the refinement drew of the user prompt itself
    is not drawn again. In the pocket world the oracle compares; elsewhere the score
    that ranks does, and the receipt says whether it took part in selecting.

    Args:
        refinement: What to compare with.
        agents: Who drew it.
        settings: What it was drawn with.
        seeds: The same seed bank from its beginning.
        limits: When to give it up.

    Returns:
        ``None`` where there is nothing to compare: no image, no score, or no time.
    """
    kept = {
        (c.prompt, c.seed): c.image
        for c in refinement.history.candidates
        if c.image is not None and not c.final and c.guidance is None
    }

    async def generate(prompt: str, seed: int) -> Image:
        return kept.get((prompt, seed)) or await agents.generate(prompt, seed)

    checklist = refinement.history.checklist

    async def inquire(_: str) -> Checklist:
        return checklist or Checklist()

    alone = replace(
        agents,
        generate=generate,
        judge=never,
        inquire=inquire if checklist else None,
    )
    try:
        drawn = await refine_prompt(
            refinement.user_prompt,
            alone,
            DefaultSearch(
                rounds=1, seeds=lambda: seeds, seeds_per_prompt=refinement.usage.images
            ),
            limits=limits,
        )
    except NothingDrawnError:
        return None  # nothing to compare with, and nothing lost
    if drawn.stop.interrupted:
        return None
    metric, measure = _metric(refinement, settings)
    fallen_back = refinement.selection_error or drawn.selection_error
    returned, compared = measure(refinement.best), measure(drawn.best)
    if returned is None or compared is None:
        return None
    return Receipt(
        images=refinement.usage.images,
        best_of_n=drawn.best,
        metric=metric,
        # Where the selector failed, the incumbent is returned: the best by score.
        independent=metric == "oracle"
        or not (fallen_back or _selects_by_score(settings, metric)),
        returned=returned,
        compared=compared,
        seed_spread=measure_spread(
            (*refinement.history.candidates, *drawn.history.candidates)
        ),
    )


def _metric(
    refinement: Refinement, settings: Settings
) -> tuple[str, Callable[[Candidate], float | None]]:
    """Return by what both are compared: its name, and how a candidate is measured."""
    if settings.generator == "pocket":
        from socratic_agents.pocket import read_scene

        def oracle(candidate: Candidate) -> float | None:
            if candidate.image is None:
                return None
            return read_scene(candidate.image).agreement(refinement.user_prompt)

        return "oracle", oracle
    name = next(iter(refinement.best.scores), "score")
    return name, lambda candidate: candidate.scores.get(name)


def _selects_by_score(settings: Settings, metric: str) -> bool:
    """Return whether a ranking score says when to stop, or what is returned."""
    roles = find_roles(settings)
    judge = roles.judge
    judges = judge.needs_score or (judge.uses_checklist and metric == "checklist")
    return roles.selector.ranks or judges
