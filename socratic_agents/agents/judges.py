"""Judges: is the incumbent what was asked for, and what is missing?"""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.agents.attempts import attempt, attempts, shorter_offers
from socratic_agents.agents.images import BELOW, as_png, with_pngs
from socratic_agents.agents.second_opinion import confirmed_judge
from socratic_agents.agents.spec import JudgeSpec
from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import AgentError, CandidateError, ConfigurationError
from socratic_agents.core.history import History, Verdict
from socratic_agents.core.text import printable_line
from socratic_agents.llm.structured import MOST_REQUESTS, StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from PIL.Image import Image

    from socratic_agents.core.checklist import Question
    from socratic_agents.core.history import Candidate
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = (
    "JUDGES",
    "Judgement",
    "caption_judge",
    "checklist_judge",
    "never",
    "score_judge",
    "vision_judge",
)

_YES_OR_NO = re.compile(
    r"(?:\W*answer\b)?\W*(yes|no)\b(?!\W*(?:or\W+)?(?:yes|no)\b)(?![-'\u2019]\w)(.*)",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")


class Judgement(BaseModel):
    """Whether the image shows what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "reason": "There is a chair, but no table.",
        "missing": ["a round table"],
        "satisfied": False,
    }

    # The reason comes first: who explains before answering answers better.
    reason: str = Field(
        description="One sentence: what decided it.",
        json_schema_extra={"maxLength": 400},
    )
    missing: list[Annotated[str, Field(json_schema_extra={"maxLength": 120})]] = Field(
        description="One short phrase each; empty if nothing is missing.",
        json_schema_extra={"maxItems": 10},
    )
    satisfied: bool = Field(description="True only if nothing is missing.")

    @classmethod
    def from_text(cls, text: str) -> Judgement:
        """Read a plain yes or no: the first word counts, and not one inside another.

        Args:
            text: The answer; what follows the word is the reason.

        Raises:
            ValueError: If the first word is neither, or both are offered.
        """
        found = _YES_OR_NO.match(text)
        if found is None:
            message = "expected yes or no as the first word"
            raise ValueError(message)
        word, rest = found[1].casefold(), printable_line(found[2]).strip(" ,.;:*-—")
        return cls(
            reason=rest or f"it says {word}", missing=[], satisfied=word == "yes"
        )


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
    ask = StructuredCaller(llm, Judgement, retries=retries, stop=template.stop)

    async def judge(history: History) -> Verdict:
        incumbent = history.incumbent
        if incumbent is None or not (incumbent.caption or "").strip():
            return Verdict.unjudged("the incumbent has no caption to judge by")
        earlier = _earlier_verdict(history)
        if earlier is not None:
            return earlier
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "incumbent": attempt(incumbent),
            "history": attempts(history),
        }
        shorter = shorter_offers(offer, {"history": offer["history"]})
        return await _ask_verdict(
            ask, template.filled(offer), map(template.filled, shorter)
        )

    return judge


def vision_judge(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[History], Awaitable[Verdict]]:
    """Return the judge that lets a language model look at the image.

    An incumbent that was judged in an earlier round keeps its verdict, without a
    call; one whose image is not in memory stays unjudged.

    The template uses ``image``, which says where the image is, and may use the
    variables of ``caption_judge``.

    Args:
        llm: A LangChain chat model that takes images; see ``accepts_images``.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no judge's template, or one that shows no image.
    """
    template.expect("judge", uses=("image",))
    ask = StructuredCaller(llm, Judgement, retries=retries, stop=template.stop)

    async def judge(history: History) -> Verdict:
        incumbent = history.incumbent
        if incumbent is None or incumbent.image is None:
            return Verdict.unjudged("the incumbent has no image in memory to judge by")
        earlier = _earlier_verdict(history)
        if earlier is not None:
            return earlier
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "incumbent": attempt(incumbent),
            "image": BELOW,
            "history": attempts(history),
        }
        # In a thread: encoding takes long enough to hold up the other loops.
        png = await asyncio.to_thread(as_png, incumbent.image)

        def written(offer: Mapping[str, Value]) -> list[BaseMessage]:
            return with_pngs(template.filled(offer), [("The image:", png)])

        shorter = shorter_offers(offer, {"history": offer["history"]})
        return await _ask_verdict(ask, written(offer), map(written, shorter))

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
        score = history.incumbent.score if history.incumbent else None
        if score is None or not math.isfinite(score):
            return Verdict.unjudged("the incumbent has no score; choose a scorer")
        satisfied = score >= threshold
        relation = "reaches" if satisfied else "is below"
        said = f"the score {score:.3f} {relation} {threshold:.3f}"
        return Verdict(satisfied=satisfied, reason=said)

    return judge


async def never(history: History) -> Verdict:  # noqa: ARG001 - a judge is given it
    """Be never satisfied."""
    return Verdict(satisfied=False, reason="this judge lets all rounds run")


def checklist_judge(
    answer_open: Callable[[Image, str], Awaitable[str]] | None = None,
) -> Callable[[History], Awaitable[Verdict]]:
    """Return the judge that is satisfied when every question passes.

    What fails is what is missing, each with what is seen instead where an open
    question can tell. A question that nobody could answer has not failed, but as long
    as one is open, an incumbent that fails in nothing stays unjudged. An incumbent that
    was judged in an earlier round keeps its verdict.

    Args:
        answer_open: Image, open question -> answer; ``None``: nobody is asked.
    """

    async def judge(history: History) -> Verdict:
        checklist, incumbent = history.checklist, history.incumbent
        if checklist is None or not checklist.questions:
            cause = checklist.error if checklist else None
            return Verdict.unjudged(cause or "there is no checklist to judge by")
        if incumbent is None or not incumbent.answers:
            cause = incumbent.error if incumbent else None
            return Verdict.unjudged(cause or "nobody answered about the incumbent")
        earlier = _earlier_verdict(history)
        if earlier is not None:
            return earlier
        count, answers = len(checklist.questions), incumbent.answers
        failed = checklist.failed(answers)
        unknown = count - len(failed) - len(checklist.met(answers))
        if not failed and unknown:
            cause = f"{unknown} of {count} questions could not be answered"
            return Verdict.unjudged(cause)
        orphans = {p for p, answer in enumerate(answers) if answer.passed is False}
        asked = [
            (question, answer.seen)
            for question, answer in zip(checklist.questions, answers, strict=True)
            if answer.passed is False and not orphans.intersection(question.parents)
        ]
        missing = await asyncio.gather(
            *(_missing(q, seen, incumbent, answer_open) for q, seen in asked)
        )
        reason = f"{count - len(failed) - unknown} of {count} questions passed"
        return Verdict(satisfied=not failed, missing=tuple(missing), reason=reason)

    return judge


async def _ask_verdict(
    ask: StructuredCaller[Judgement],
    messages: Sequence[BaseMessage],
    shorter: Iterable[Sequence[BaseMessage]],
) -> Verdict:
    """Ask a language model for a judgement, and return it as a verdict.

    Args:
        ask: Asks it.
        messages: What it is asked; at least one message.
        shorter: The same in ever fewer words.

    Raises:
        AnswerError: If the answer stayed wrong, or the model refused.
        CallError: If the call itself failed for good.
    """
    said = await ask(messages, shorter=shorter)
    missing, reason = tuple(filter(None, map(str.strip, said.missing))), said.reason
    if said.satisfied and missing:
        # Small models say so in most of their verdicts; what they name is what they saw.
        reason = f"{reason.strip()} (called satisfied, with something missing)"
    return Verdict(
        satisfied=said.satisfied and not missing,
        missing=missing,
        reason=reason.strip(),
    )


def _earlier_verdict(history: History) -> Verdict | None:
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


async def _missing(
    question: Question,
    seen: str,
    candidate: Candidate,
    answer_open: Callable[[Image, str], Awaitable[str]] | None,
) -> str:
    """Return what is missing, and what is seen instead where that is known."""
    if seen:
        return f"{question.requirement} ({seen})"
    if answer_open is None or not question.instead or candidate.image is None:
        return question.requirement
    try:
        seen = printable_line(await answer_open(candidate.image, question.instead))
    except (CandidateError, AgentError):
        seen = ""  # it is a hint, and the verdict stands without it
    if not seen or seen.casefold() in {"yes", "no"}:
        return question.requirement
    return f"{question.requirement} (seen instead: {seen})"


def _threshold(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        message = f"expected a number after 'score:', such as 0.8, got 'score:{text}'"
        raise ValueError(message)
    return float(text)


JUDGES: Registry[JudgeSpec] = Registry(
    "a judge",
    (
        JudgeSpec(
            name="checklist",
            title="Every question of the checklist passes.",
            build=lambda context: checklist_judge(context.answer_open),
            uses_checklist=True,
        ),
        JudgeSpec(
            name="confirmed",
            title="Every question passes, and a language model finds the caption to agree.",
            build=lambda context: confirmed_judge(
                checklist_judge(context.answer_open),
                caption_judge(*context.asked(), retries=context.retries),
            ),
            uses_checklist=True,
            requests=MOST_REQUESTS,
            template="default",
        ),
        JudgeSpec(
            name="caption",
            title="A language model compares prompt and caption.",
            build=lambda context: caption_judge(
                *context.asked(), retries=context.retries
            ),
            requests=MOST_REQUESTS,
            template="default",
        ),
        JudgeSpec(
            name="vision",
            title="A language model looks at the image.",
            build=lambda context: vision_judge(
                *context.asked(), retries=context.retries
            ),
            requests=MOST_REQUESTS,
            template="vision",
            needs_image=True,
        ),
        JudgeSpec(
            name="score",
            title="The score reaches a threshold: score:0.8.",
            build=lambda context: score_judge(cast("float", context.argument)),
            read_argument=_threshold,
            needs_score=True,
        ),
        JudgeSpec(
            name="never",
            title="Nobody stops before the last round.",
            build=lambda _: never,
        ),
    ),
    spec=JudgeSpec,
    group="socratic_agents.judges",
)
"""Who says when to stop, by name."""
