"""Answer checks: what an agent returned, held to what its role promises.

Agents may be anybody's functions. What they return instead of an answer is an
``AnswerError``: the round is not judged, the incumbent stays, the loop goes on. An
exception of another kind is a bug of theirs, and fails the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from socratic_agents.core.checklist import Answer
from socratic_agents.core.concurrency import is_cancelled
from socratic_agents.core.errors import AnswerError, PromptError
from socratic_agents.core.history import Verdict
from socratic_agents.core.prompts import validate_prompt
from socratic_agents.core.search import Proposal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("held_to_its_role",)


def held_to_its_role(
    role: str, agent: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Return an agent whose wrong answers are errors of that answer alone.

    Args:
        role: ``judge``, ``optimizer``, ``selector``, ``guard`` or ``answerer``.
        agent: Who plays it.
    """
    check = _CHECKS[role]

    async def ask(*inputs: Any) -> Any:
        try:
            return check(await agent(*inputs))
        except asyncio.CancelledError as problem:
            if is_cancelled():
                raise
            message = (
                f"expected an answer of the {role}, but it was cancelled, and nobody "
                "asked for that"
            )
            raise AnswerError(message) from problem
        except _WrongError as problem:
            message = f"expected the {role} to return {problem}"
            raise AnswerError(message) from problem

    return ask


class _WrongError(Exception):
    """What was expected, and what came."""

    def __init__(self, expected: str, given: object) -> None:
        shown = repr(given)[:100] if isinstance(given, str) else type(given).__name__
        super().__init__(f"{expected}, got {shown}")


_TEXTS = "a Verdict whose missing is a tuple of texts"
_ANSWERS = "a tuple of Answers, each with a probability from 0 to 1 or None"


def _verdict(given: Any) -> Verdict:
    said = "a Verdict whose satisfied is True, False or None, and whose reason is text"
    if not isinstance(given, Verdict) or not isinstance(given.reason, str):
        raise _WrongError(said, given)
    if not (given.satisfied is None or isinstance(given.satisfied, bool)):
        raise _WrongError(said, given.satisfied)
    for one in _several(given.missing, _TEXTS):
        if not isinstance(one, str):
            raise _WrongError(_TEXTS, one)
    return given


def _prompts(given: Any) -> tuple[str, ...]:
    try:
        prompts = _several(given, "a tuple of prompts")
        return tuple(Proposal.like(validate_prompt(one), one) for one in prompts)
    except PromptError as problem:
        message = f"expected prompts that can be drawn, but one is none: {problem}"
        raise AnswerError(message) from problem


def _index(given: Any) -> int:
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        expected = "the index of a candidate"
        raise _WrongError(expected, given)
    return int(given)


def _answers(given: Any) -> tuple[Answer, ...]:
    answers = _several(given, _ANSWERS)
    for one in answers:
        if not isinstance(one, Answer):
            raise _WrongError(_ANSWERS, one)
        if one.probability is not None and not 0 <= one.probability <= 1:
            raise _WrongError(_ANSWERS, str(one.probability))
    return answers


def _several(given: Any, expected: str) -> tuple[Any, ...]:
    # A text is a sequence, too: of letters.
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise _WrongError(expected, given)
    return tuple(given)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "judge": _verdict,
    "optimizer": _prompts,
    "selector": _index,
    "guard": _prompts,
    "answerer": _answers,
}
