"""Draft, then final: search with a quick generator, draw the winner with a better one.

The better one draws the prompt that the search has found. Its image is looked at like any
other, and is returned only if it keeps all that the draft has; so it is never worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from socratic_agents.core.concurrency import run_together
from socratic_agents.core.history import Candidate, Round, Verdict
from socratic_agents.core.loop import (
    NO_LIMITS,
    Event,
    EventKind,
    assessed,
    draw_candidate,
    interruptible,
    refine_prompt,
)
from socratic_agents.core.search import Draw, seed_bank

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from PIL.Image import Image

    from socratic_agents.core.history import History
    from socratic_agents.core.loop import Agents, Limits
    from socratic_agents.core.outcome import Refinement
    from socratic_agents.core.search import Search

__all__ = ("Final", "refine_with_final", "with_finals")


@dataclass(frozen=True, kw_only=True)
class Final:
    """Who draws the end of a refinement, and how often."""

    generate: Callable[[str, int], Awaitable[Image]]
    """prompt, seed -> image (RGB)"""
    images: int = 1
    """How many images of the best prompt, at least 1; the search leaves room for them."""


async def refine_with_final(
    user_prompt: str,
    agents: Agents,
    search: Search,
    *,
    final: Final | None,
    limits: Limits = NO_LIMITS,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Refinement:
    """Refine one user prompt, and draw the winner again, in a round of its own.

    Args:
        user_prompt: What the person asked for.
        agents: Who plays the roles of the loop; ``generate`` draws the drafts.
        search: Says what is tried next.
        final: Who draws the winner again; ``None``: nobody.
        limits: Of drafts and finals together. Where they leave no room, or the
            refinement is interrupted, the draft is returned.
        on_event: Called, in order, for every candidate and every verdict.

    Raises:
        SocraticError: As ``refine_prompt`` does.
    """
    if final is None:
        return await refine_prompt(
            user_prompt, agents, search, limits=limits, on_event=on_event
        )
    most = limits.max_images
    room = most and max(1, most - final.images)
    refinement = await refine_prompt(
        user_prompt,
        agents,
        search,
        limits=replace(limits, max_images=room),
        on_event=on_event,
    )
    left = limits.left(refinement.history)
    images = final.images if left is None else min(final.images, left)
    if images < 1 or refinement.stop.interrupted:
        return refinement
    finals = await _drawn(
        refinement,
        replace(agents, generate=final.generate),
        images=images,
        limits=limits,
        on_event=on_event,
    )
    refinement = with_finals(refinement, finals)
    if finals:
        on_event(Event(EventKind.JUDGED, refinement.history))
    return refinement


async def _drawn(
    refinement: Refinement,
    agents: Agents,
    *,
    images: int,
    limits: Limits,
    on_event: Callable[[Event], None],
) -> list[Candidate]:
    """Draw the winner's prompt, from its own seed first; return what there was time for."""
    draft, history = refinement.best, refinement.history
    finals = dict[int, Candidate]()

    async def draw(place: int, seed: int) -> None:
        candidate = await draw_candidate(Draw(draft.prompt, seed), history, agents)
        candidate = await assessed(
            history.user_prompt, candidate, history.checklist, agents
        )
        finals[place] = replace(candidate, final=True)
        on_event(Event(EventKind.DRAWN, history, finals[place]))

    async with interruptible(limits):
        seeds = enumerate(islice(seed_bank(draft.seed), images))
        await run_together([draw(place, seed) for place, seed in seeds])
    return [finals[place] for place in sorted(finals)]


def with_finals(refinement: Refinement, finals: Sequence[Candidate]) -> Refinement:
    """Return a refinement with a round of finals; the best that loses nothing is its best.

    Args:
        refinement: Its best candidate is the draft.
        finals: Of the same prompt, looked at as the draft was; none changes nothing.
    """
    if not finals:
        return refinement
    draft, history = refinement.best, refinement.history
    lost = [_lost(draft, final, history) for final in finals]
    kept = [final for final, why in zip(finals, lost, strict=True) if why is None]
    # As among candidates of a round: the highest score, and of equals the earlier one.
    round_ = Round(candidates=tuple(finals))
    best = replace(history, rounds=(Round(candidates=tuple(kept)),)).incumbent
    said = "; ".join(dict.fromkeys(why for why in lost if why is not None))
    before = history.verdict or Verdict.unjudged("nobody judged the draft")
    reason = (
        f"the draft is returned: {said}"
        if best is None
        else "the final image keeps all that the draft has"
        if draft.answers or draft.scores
        else "the final image is returned, though nobody could compare it with the draft"
    )
    history = (history + round_).judged(replace(before, reason=reason))
    place = refinement.best_place
    if best is not None:
        index = next(n for n, one in enumerate(finals) if one is best)
        place = replace(place, round=len(history.rounds) - 1, candidate=index)
    images = refinement.usage.images + len(finals)
    return replace(
        refinement,
        history=history,
        best_place=place,
        usage=replace(refinement.usage, images=images),
    )


def _lost(draft: Candidate, final: Candidate, history: History) -> str | None:
    """Return what the draft has and a final image has not; ``None``: nothing.

    Questions decide where there are any; else the score must not be lower.
    """
    if not final.usable:
        return f"the final image is unusable ({final.error})"
    if draft.answers and history.checklist:
        if len(final.answers) < len(draft.answers):
            return f"nobody could answer what the final image shows ({final.error})"
        asked = zip(
            history.checklist.questions, draft.answers, final.answers, strict=False
        )
        failed = [
            question.requirement
            for question, before, now in asked
            if before.passed and not now.passed
        ]
        lost = ", ".join(failed)
        return f"the final image fails what the draft passes ({lost})" if lost else None
    shared = [name for name in draft.scores if name in final.scores]
    if len(shared) < len(draft.scores):
        return f"the final image has no score ({final.error})"
    before, now = ([one.scores[n] for n in shared] for one in (draft, final))
    if now[:1] < before[:1]:
        return f"the final image scores less ({now[0]:.3f}, the draft {before[0]:.3f})"
    return None
