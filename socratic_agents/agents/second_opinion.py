"""The judge that asks a second one before it is satisfied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from socratic_agents.core.history import History, Verdict

__all__ = ("confirmed_judge",)


def confirmed_judge(
    by_checklist: Callable[[History], Awaitable[Verdict]],
    by_caption: Callable[[History], Awaitable[Verdict]],
) -> Callable[[History], Awaitable[Verdict]]:
    """Return the judge that is satisfied only where two are.

    Who answers questions may say yes to what is not there, and a loop that believes it
    stops with a wrong image. Who reads the caption has not heard the questions; it is
    asked once of each image that passes, since what was judged keeps its verdict.

    Args:
        by_checklist: As from ``checklist_judge``; asked first.
        by_caption: As from ``caption_judge``.
    """

    async def judge(history: History) -> Verdict:
        passes = await by_checklist(history)
        if not passes.satisfied:
            return passes
        seen = await by_caption(history)
        reason = f"{passes.reason}, but by its caption: {seen.reason}"
        return passes if seen.satisfied else replace(seen, reason=reason)

    return judge
