"""Judges: is the incumbent what was asked for, and what is missing?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from socratic_agents.agents.attempts import attempt, attempts
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import History, Verdict
from socratic_agents.llm.structured import StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = (
    "Judgement",
    "ask_verdict",
    "caption_judge",
    "earlier_verdict",
    "never",
    "score_judge",
)


class Judgement(BaseModel):
    """Whether the image shows what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # The reason comes first: who explains before answering answers better.
    reason: str = Field(description="One sentence: what decided it.")
    missing: list[str] = Field(
        description=(
            "What was asked for and is not seen, one short phrase each, the most "
            "important first; empty if nothing is missing."
        )
    )
    satisfied: bool = Field(description="True only if nothing is missing.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Refuse a verdict that contradicts itself."""
        if self.satisfied and self.missing:
            message = "satisfied is true although missing is not empty"
            raise ValueError(message)
        return self


def caption_judge(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[History], Awaitable[Verdict]]:
    """Return the judge that lets a language model compare prompt and caption.

    An incumbent that was judged in an earlier round keeps its verdict, without a
    call; one without a caption stays unjudged.

    The template may use these variables: ``user_prompt``; ``incumbent`` with
    ``prompt``, ``caption`` and ``score``; ``history``, a list with ``prompt``,
    ``caption`` and ``score``, the best last. What is unknown is empty.

    Args:
        llm: Any LangChain chat model.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no judge's template, or one that shows the image.
    """
    template.expect("judge", lacks=("image",))
    ask = StructuredCaller(llm, Judgement, retries=retries)

    async def judge(history: History) -> Verdict:
        incumbent = history.incumbent
        if incumbent is None or not (incumbent.caption or "").strip():
            return Verdict.unjudged("the incumbent has no caption to judge by")
        earlier = earlier_verdict(history)
        if earlier is not None:
            return earlier
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "incumbent": attempt(incumbent),
            "history": attempts(history),
        }
        return await ask_verdict(ask, template.filled(offer))

    return judge


def score_judge(threshold: float) -> Callable[[History], Awaitable[Verdict]]:
    """Return the judge that is satisfied from a score on.

    Args:
        threshold: The incumbent's ranking score from which on it is good enough,
            finite.

    Raises:
        ConfigurationError: If the threshold is not finite.
    """
    if not math.isfinite(threshold):
        message = f"expected a finite threshold, got {threshold}; give a number"
        raise ConfigurationError(message)

    async def judge(history: History) -> Verdict:
        score = history.incumbent.score if history.incumbent is not None else None
        if score is None or not math.isfinite(score):
            return Verdict.unjudged("the incumbent has no score; choose a scorer")
        satisfied = score >= threshold
        relation = "reaches" if satisfied else "is below"
        reason = f"the score {score:.3f} {relation} {threshold:.3f}"
        return Verdict(satisfied=satisfied, reason=reason)

    return judge


async def never(history: History) -> Verdict:  # noqa: ARG001 - a judge is given it
    """Be never satisfied, so that all rounds are run."""
    return Verdict(satisfied=False, reason="this judge lets all rounds run")


async def ask_verdict(
    ask: StructuredCaller[Judgement], messages: Sequence[BaseMessage]
) -> Verdict:
    """Ask a language model for a judgement, and return it as a verdict.

    Args:
        ask: Asks it.
        messages: What it is asked; at least one message.

    Raises:
        AnswerError: If the answer stayed wrong, or the model refused.
        CallError: If the call itself failed for good.
    """
    said = await ask(messages)
    return Verdict(
        satisfied=said.satisfied,
        missing=tuple(filter(None, map(str.strip, said.missing))),
        reason=said.reason.strip(),
    )


def earlier_verdict(history: History) -> Verdict | None:
    """Return the verdict that today's incumbent got before, if it did."""
    for number in range(len(history.rounds) - 1, 0, -1):
        past = History(user_prompt=history.user_prompt, rounds=history.rounds[:number])
        verdict = history.rounds[number - 1].verdict
        # The very candidate: an equal one may still be another image.
        if (
            verdict is not None
            and verdict.judged
            and past.incumbent is history.incumbent
        ):
            return verdict
    return None
