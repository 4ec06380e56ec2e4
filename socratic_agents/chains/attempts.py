"""What was tried, in the form in which templates show it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socratic_agents.history import Candidate, History

__all__ = ("attempt", "attempts", "one_line")


def attempt(candidate: Candidate) -> dict[str, str]:
    """Return a candidate's prompt, caption and score; empty where there is none."""
    # Every key is always there: mustache looks for a missing one further out.
    score = candidate.score
    known = score is not None and math.isfinite(score)
    return {
        "prompt": candidate.prompt,
        "caption": candidate.caption or "",
        "score": f"{score:.3f}" if known else "",
    }


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
    ranked: dict[str, tuple[tuple[bool, float, int], Candidate]] = {}
    latest = None
    for number, candidate in enumerate(history.candidates):
        if not candidate.usable:
            continue
        score, name = candidate.score, one_line(candidate.prompt).casefold()
        # Of two equal scores the earlier is the incumbent, so it ranks higher.
        rank = (False, 0.0, number) if score is None else (True, score, -number)
        if name not in ranked or rank > ranked[name][0]:
            ranked[name] = (rank, candidate)
        latest = name
    names = sorted(ranked, key=lambda name: ranked[name][0])
    kept = {*names[-best:], latest}
    return [attempt(ranked[name][1]) for name in names if name in kept]


def one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())
