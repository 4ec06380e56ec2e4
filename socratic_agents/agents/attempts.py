"""What was tried, in the form in which templates show it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from socratic_agents.core.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from socratic_agents.core.checklist import Answer, Checklist, Question
    from socratic_agents.core.history import Candidate, History
    from socratic_agents.llm.templates import Value

__all__ = ("attempt", "attempts", "shorter_offers")


def attempt(candidate: Candidate, checklist: Checklist | None = None) -> dict[str, str]:
    """Return a candidate as templates show it; what is not known is empty.

    Args:
        candidate: What was drawn.
        checklist: What it was held to, if it was.
    """
    # Every key is always there: mustache looks for a missing one further out.
    score, answers = candidate.score, candidate.answers
    known = score is not None and math.isfinite(score)
    return {
        "prompt": candidate.prompt,
        "caption": candidate.caption or "",
        "score": f"{score:.3f}" if known else "",
        "guidance": "" if candidate.guidance is None else f"{candidate.guidance:g}",
        "passed": _requirements(checklist.met(answers)) if checklist else "",
        "failed": _failed(checklist, answers) if checklist else "",
    }


def _requirements(questions: Iterable[Question]) -> str:
    return "; ".join(question.requirement for question in questions)


def _failed(checklist: Checklist, answers: Sequence[Answer]) -> str:
    """Return what an image misses, each with how it differs where that is known."""
    pairs = zip(checklist.questions, answers, strict=bool(answers))
    return "; ".join(
        f"{question.requirement} ({answer.seen})"
        if answer.seen
        else question.requirement
        for question, answer in pairs
        if answer.passed is False
    )


def attempts(history: History, *, best: int = 5) -> list[dict[str, str]]:
    """Return the best attempts and the latest one, from the worst to the best.

    A prompt that was drawn several times counts once, with its best image. Where
    nothing is scored, the later attempt is the better one, as for the incumbent.

    Args:
        history: Everything that was tried.
        best: How many to keep at most, at least 1, besides the latest.

    Source:
        Ascending order: C. Yang et al., "Large Language Models as Optimizers",
        ICLR 2024, section 4.2.
    """
    candidates, ranked = history.candidates, history.ranked()
    best_of: dict[str, Candidate] = {}
    for index in reversed(ranked):  # the best image of a prompt comes last, and stays
        name = printable_line(candidates[index].prompt).casefold()
        best_of.pop(name, None)
        best_of[name] = candidates[index]
    latest = (
        printable_line(candidates[max(ranked)].prompt).casefold() if ranked else None
    )
    kept = {*list(best_of)[-best:], latest}
    return [
        attempt(candidate, history.checklist)
        for name, candidate in best_of.items()
        if name in kept
    ]


def shorter_offers(
    offer: Mapping[str, Value], leaving: Mapping[str, Value]
) -> Iterator[dict[str, Value]]:
    """Yield what a template is offered with ever less of it, for a short context.

    Args:
        offer: Variable to value.
        leaving: Variable to those of its items that may be left out, the first one first.
    """
    left = dict(offer)
    for name, items in leaving.items():
        for item in items or ():
            rest: Any = [one for one in left[name] or () if one is not item]
            left[name] = rest
            yield dict(left)
