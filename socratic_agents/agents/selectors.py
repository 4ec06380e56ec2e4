"""Selectors: which of all candidates is returned?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.core.errors import AnswerError
from socratic_agents.llm.structured import StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.core.history import History
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = ("Choice", "caption_selector", "checklist", "clip", "first", "last")


class Choice(BaseModel):
    """The candidate that comes closest to what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # The reason comes first: who explains before answering answers better.
    reason: str = Field(description="One sentence: what decided it.")
    choice: int = Field(description="The number of one candidate.")


def caption_selector(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[History], Awaitable[int]]:
    """Return the selector that lets a language model choose by the captions.

    Only usable candidates with a caption can be chosen; a single one is chosen
    without a call.

    The template may use these variables: ``user_prompt``; ``candidates``, a list
    with ``number``, counted from 1, ``prompt`` and ``caption``.

    Args:
        llm: Any LangChain chat model.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no selector's template, or one that compares two images.
    """
    template.expect("selector", uses=("candidates",), lacks=("first", "second"))
    ask = StructuredCaller(llm, Choice, retries=retries)

    async def select(history: History) -> int:
        indices = [
            index
            for index, candidate in enumerate(history.candidates)
            if candidate.usable and (candidate.caption or "").strip()
        ]
        if not indices:
            message = "expected a captioned candidate, got none; see the causes"
            raise AnswerError(message)
        if len(indices) == 1:
            return indices[0]
        chosen = [history.candidates[index] for index in indices]
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "candidates": [
                {"number": str(number), "prompt": c.prompt, "caption": c.caption or ""}
                for number, c in enumerate(chosen, start=1)
            ],
        }

        def known(said: Choice) -> None:
            if not 1 <= said.choice <= len(indices):
                message = (
                    f"choice: expected a number from 1 to {len(indices)}, got "
                    f"{said.choice}"
                )
                raise ValueError(message)

        said = await ask(template.filled(offer), check=known)
        return indices[said.choice - 1]

    return select


async def clip(history: History) -> int:
    """Select the highest score; the earlier candidate wins a tie.

    Raises:
        AnswerError: If nothing is scored.
    """
    scores = {
        index: candidate.score
        for index, candidate in enumerate(history.candidates)
        if candidate.usable
        and candidate.score is not None
        and math.isfinite(candidate.score)
    }
    if not scores:
        message = "expected a scored candidate, got none; choose a scorer"
        raise AnswerError(message)
    return max(scores, key=scores.__getitem__)


async def checklist(history: History) -> int:
    """Select by the share of questions passed; the further scores break its ties.

    Raises:
        AnswerError: If nothing is scored.
    """
    ranked = history.ranked()
    if not ranked or history.candidates[ranked[0]].score is None:
        message = "expected a scored candidate, got none; see the causes"
        raise AnswerError(message)
    return ranked[0]


async def first(history: History) -> int:
    """Select the first usable candidate: an image of the user prompt itself.

    Raises:
        AnswerError: If no candidate is usable.
    """
    return _usable(history)[0]


async def last(history: History) -> int:
    """Select the last usable candidate, as loops without a memory do.

    Raises:
        AnswerError: If no candidate is usable.
    """
    return _usable(history)[-1]


def _usable(history: History) -> list[int]:
    indices = [i for i, candidate in enumerate(history.candidates) if candidate.usable]
    if not indices:
        message = "expected a usable candidate, got none; see the causes"
        raise AnswerError(message)
    return indices
