"""View models: what a page shows of an outcome, for templates and scripts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.core.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.core.checklist import Answer, Checklist
    from socratic_agents.core.history import Candidate, CandidateRef, History
    from socratic_agents.core.outcome import Receipt, Refinement

    ImageSource = Callable[[Candidate], str | None]

__all__ = ("Change", "outcome_view", "receipt_view", "round_views", "word_changes")

MOST_PAIRS = 250_000
"""Of words of two prompts; comparing more would take seconds, and nobody reads it."""


@dataclass(frozen=True)
class Change:
    """Words that two prompts share, or that one of them has alone."""

    kind: str
    """``same``, ``del`` (only in the old prompt) or ``ins`` (only in the new one)."""
    words: str


def word_changes(old: str, new: str) -> tuple[Change, ...]:
    """Return what became of the words of one prompt in another.

    Two very long prompts are compared as a whole.
    """
    before, after = old.split(), new.split()
    if before == after:
        return (Change("same", " ".join(after)),) if after else ()
    if len(before) * len(after) > MOST_PAIRS:
        return (Change("del", " ".join(before)), Change("ins", " ".join(after)))
    changes = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, stop, begin, end in matcher.get_opcodes():
        if kind == "equal":
            changes.append(Change("same", " ".join(after[begin:end])))
            continue
        if start < stop:
            changes.append(Change("del", " ".join(before[start:stop])))
        if begin < end:
            changes.append(Change("ins", " ".join(after[begin:end])))
    return tuple(changes)


def outcome_view(
    outcome: Refinement | Failure, *, image_src: ImageSource
) -> dict[str, Any]:
    """Return what the templates show of one outcome.

    Args:
        outcome: What came of a prompt.
        image_src: Candidate -> the address of its image, or ``None`` if there is none.
    """
    history = outcome.history
    refined = None if isinstance(outcome, Failure) else outcome
    place = refined.best_place if refined else None
    rounds = round_views(history, place=place, image_src=image_src) if history else []
    checklist = history.checklist if history else None
    answers = refined.best.answers if refined else ()
    shown = {
        "index": outcome.index,
        "user_prompt": outcome.user_prompt,
        "failed": refined is None,
        "rounds": rounds,
        "first": rounds[0]["candidates"][0] if rounds else None,
        "best": next((c for r in rounds for c in r["candidates"] if c["chosen"]), None),
        "checklist": _checks(checklist, answers),
        "checklist_error": checklist.error if checklist else None,
    }
    if isinstance(outcome, Failure):
        return shown | {"receipt": None, "error": outcome.error, "kind": outcome.kind}
    return shown | {
        "stop": outcome.stop.value,
        "usage": outcome.usage,
        "seed_spread": outcome.seed_spread,
        "selection_error": outcome.selection_error,
        "llm_error": outcome.llm_error,
        "notices": outcome.notices,
        "receipt": receipt_view(outcome.receipt, checklist, image_src),
        "settings": dict(outcome.settings),
        "templates": dict(outcome.templates),
    }


def round_views(
    history: History, *, place: CandidateRef | None, image_src: ImageSource
) -> list[dict[str, Any]]:
    """Return what is shown of each round.

    Args:
        history: The rounds.
        place: Of the candidate that was returned, if one was.
        image_src: Candidate -> the address of its image, or ``None`` if there is none.
    """
    chosen = place and (place.round, place.candidate)
    views = []
    for number, round_ in enumerate(history.rounds):
        old = _written_from(history, number)
        candidates = [
            _candidate_view(
                candidate,
                old,
                history.checklist,
                image_src,
                chosen=chosen == (number, index),
            )
            for index, candidate in enumerate(round_.candidates)
        ]
        views.append(
            {
                "number": number + 1,
                "verdict": round_.verdict,
                "error": round_.error,
                "candidates": candidates,
            }
        )
    return views


def _written_from(history: History, number: int) -> str:
    """Return the prompt that a round's optimizer started from: the best before it."""
    incumbent = replace(history, rounds=history.rounds[:number]).incumbent
    return incumbent.prompt if incumbent else history.user_prompt


def _candidate_view(
    candidate: Candidate,
    old: str,
    checklist: Checklist | None,
    image_src: ImageSource,
    *,
    chosen: bool,
) -> dict[str, Any]:
    return {
        "prompt": candidate.prompt,
        "changes": word_changes(old, candidate.prompt),
        "caption": candidate.caption,
        "scores": dict(candidate.scores),
        "seed": candidate.seed,
        "final": candidate.final,
        "status": candidate.status.value,
        "error": candidate.error,
        "truncated": candidate.truncated_tokens,
        "image": image_src(candidate),
        "checks": _checks(checklist, candidate.answers) if candidate.answers else (),
        "chosen": chosen,
    }


def _checks(
    checklist: Checklist | None, answers: Sequence[Answer]
) -> list[dict[str, Any]]:
    """Return each question with what became of it on one image."""
    checks: list[dict[str, Any]] = []
    for place, question in enumerate(checklist.questions if checklist else ()):
        answer = answers[place] if place < len(answers) else None
        # Only what stands before: a run directory may come from somebody else.
        needs = [checks[parent] for parent in question.parents if 0 <= parent < place]
        checks.append(
            {
                "number": place + 1,
                "question": question,
                "needs": [parent["number"] for parent in needs],
                "state": _state(answer, [parent["state"] for parent in needs]),
                "sure": answer and answer.probability,
                "seen": answer.seen if answer else "",
            }
        )
    return checks


def _state(answer: Answer | None, parents: Sequence[str]) -> str:
    if answer is None:
        return "unasked"
    if answer.passed is None:
        return "unknown"
    if answer.passed:
        return "passed"
    # Where there is no dog, nothing more is to be learned from its colour.
    return "void" if {"failed", "void"} & {*parents} else "failed"


def receipt_view(
    receipt: Receipt | None, checklist: Checklist | None, image_src: ImageSource
) -> dict[str, Any] | None:
    """Return what is shown of a receipt; arguments as for ``round_views``."""
    if receipt is None:
        return None
    best = receipt.best_of_n
    return {
        "facts": receipt,
        "best": _candidate_view(best, best.prompt, checklist, image_src, chosen=False),
    }
