"""Answers: who looks at an image and answers the questions of its checklist."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.agents.checklist_kinds import count_asked, text_asked
from socratic_agents.agents.checklist_writer import VALIDATION_RETRIES
from socratic_agents.agents.images import BELOW, with_images
from socratic_agents.agents.spec import AnswererSpec
from socratic_agents.config.registry import Registry
from socratic_agents.core.checklist import Answer, Checklist, YesNo
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.llm.structured import StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel
    from PIL.Image import Image

    from socratic_agents.agents.spec import Answerer, BuildContext
    from socratic_agents.core.checklist import Question
    from socratic_agents.core.counts import Count
    from socratic_agents.core.history import Candidate
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = ("ANSWERERS", "Answers", "captioner_answers", "vision_answers")


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    number: int = Field(description="Of the question.")
    answer: Literal["yes", "no", "unknown"] = Field(
        description="What the image says; unknown if it cannot be seen."
    )


class Answers(BaseModel):
    """What the image answers to every question."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "answers": [{"number": 1, "answer": "yes"}, {"number": 2, "answer": "no"}]
    }

    answers: list[_Said] = Field(
        description="One for each question.", json_schema_extra={"maxItems": 64}
    )


def captioner_answers(
    answer_yes_no: Callable[[Image, str], Awaitable[Answer]],
    *,
    answer_count: Callable[[Image, str], Awaitable[Count]] | None = None,
    read_text: Callable[[Image, str], Awaitable[str]] | None = None,
) -> Callable[[Checklist, Candidate], Awaitable[tuple[Answer, ...]]]:
    """Return the answerer that puts each question to the captioner.

    What is asked of a number is counted, and what is asked of a text is read, by who
    can; where nothing is heard of a number or a text, yes or no must do.

    Args:
        answer_yes_no: Image, question -> answer.
        answer_count: Image, "how many …?" -> count; ``None``: nobody counts.
        read_text: Image, "what is written …?" -> text; ``None``: nobody reads.
    """

    async def one(image: Image, question: Question) -> Answer:
        counted = count_asked(question) if answer_count else None
        if answer_count and counted:
            count = await answer_count(image, counted.question)
            if count.number is not None:
                return counted.answer(count)
        written = text_asked(question) if read_text else None
        if read_text and written:
            read = written.answer(await read_text(image, written.question))
            if read.said is not YesNo.UNKNOWN:
                return read
        return await answer_yes_no(image, question.text)

    async def answer(checklist: Checklist, candidate: Candidate) -> tuple[Answer, ...]:
        image = _image(candidate)
        asked = [
            asyncio.ensure_future(one(image, question))
            for question in checklist.questions
        ]
        try:
            return checklist.resolved(await asyncio.gather(*asked))
        finally:
            for task in asked:  # where one fails, nobody reads the others
                task.cancel()

    return answer


def vision_answers(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[Checklist, Candidate], Awaitable[tuple[Answer, ...]]]:
    """Return the answerer that lets a language model look, once for all questions.

    The template may use these variables: ``questions``, a list with ``number``,
    counted from 1, and ``question``; ``image``, words for where the image stands.

    Args:
        llm: A LangChain chat model that takes images.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no answerer's template.
    """
    template.expect("answerer")
    ask = StructuredCaller(
        llm, Answers, validation_retries=VALIDATION_RETRIES, retries=retries
    )

    async def answer(checklist: Checklist, candidate: Candidate) -> tuple[Answer, ...]:
        image, count = _image(candidate), len(checklist.questions)

        def complete(said: Answers) -> None:
            numbers = sorted(one.number for one in said.answers)
            if numbers != list(range(1, count + 1)):
                message = (
                    f"answers: expected one for each question from 1 to {count}, got "
                    f"numbers {numbers}"
                )
                raise ValueError(message)

        offer: dict[str, Value] = {
            "questions": [
                {"number": str(number), "question": question.text}
                for number, question in enumerate(checklist.questions, start=1)
            ],
            "image": BELOW,
        }
        # In a thread: encoding takes long enough to hold up the other loops.
        messages = await asyncio.to_thread(
            with_images, template.filled(offer), [("The image:", image)]
        )
        said = await ask(messages, check=complete)
        by_number = {one.number: YesNo(one.answer) for one in said.answers}
        answers = [Answer(said=by_number[number]) for number in range(1, count + 1)]
        return checklist.resolved(answers)

    return answer


def _image(candidate: Candidate) -> Image:
    if candidate.image is None:
        message = "expected an image in memory to ask about, got none; draw it again"
        raise CandidateError(Status.OK, message)
    return candidate.image


def _captioner(context: BuildContext) -> Answerer:
    if context.answer_yes_no is None:
        message = (
            "expected a captioner that answers questions for the checklist, got one "
            "that only captions; set answerer='llm', or choose judge 'caption' and "
            "selector 'clip'"
        )
        raise ConfigurationError(message)
    return captioner_answers(
        context.answer_yes_no,
        answer_count=context.answer_count,
        read_text=context.read_text,
    )


ANSWERERS: Registry[AnswererSpec] = Registry(
    "an answerer",
    (
        AnswererSpec(
            name="captioner",
            title="The captioner answers each question, counts and reads.",
            build=_captioner,
            needs_captioner=True,
        ),
        AnswererSpec(
            name="llm",
            title="A language model looks at the image.",
            build=lambda context: vision_answers(
                *context.asked(), retries=context.retries
            ),
            requests=1 + VALIDATION_RETRIES,
            template="default",
            needs_image=True,
        ),
    ),
    spec=AnswererSpec,
    group="socratic_agents.answerers",
)
"""Who answers the checklist about an image, by name."""
