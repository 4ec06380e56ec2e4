"""The language model as the captioner: it captions images, and answers about them.

It is asked in plain words, as any captioner is. Where its server tells how sure it was of
the first word, that is the evidence of a yes or a no; elsewhere the word has to do.
"""

from __future__ import annotations

import asyncio
import math
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, TypeVar

from langchain_core.messages import HumanMessage
from pydantic import BaseModel, PrivateAttr

from socratic_agents.agents.images import as_png, with_pngs
from socratic_agents.core.checklist import Answer, YesNo, read_answer
from socratic_agents.core.counts import Count, read_number
from socratic_agents.core.errors import (
    AnswerError,
    CallError,
    CandidateError,
    ServerDownError,
)
from socratic_agents.core.history import Status
from socratic_agents.core.image_map import WeakImageMap
from socratic_agents.core.text import one_line
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.models.validation import caption_fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models import BaseChatModel
    from PIL.Image import Image

    from socratic_agents.llm.retry import RetryPolicy

__all__ = ("Caption", "Counted", "Decided", "LLMCaptioner", "Said")

CAPTION = "Describe this image in one sentence."
YES_OR_NO = "{question} Answer with one word: yes, no, or unknown if it cannot be seen."
FEW_WORDS = "{question} Answer in a few words."
A_NUMBER = "{question} Answer with one number in digits."
AS_WRITTEN = "{question} Answer with the exact text alone, letter by letter."
VALIDATION_RETRIES = 1
"""How often an answer of no use is shown to the model again."""
HEARD = 0.02
"""Least share of all words that "yes" and "no" must have together to be evidence."""

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class Caption(BaseModel):
    """What an image shows."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read it, or raise what is wrong with it."""
        caption = one_line(text)
        if fault := caption_fault(caption, CAPTION):
            message = f"expected a caption that describes the image, but {fault}"
            raise ValueError(message)
        return cls(text=caption)


class Said(BaseModel):
    """What was answered to an open question."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read it; an empty one means that there was none."""
        return cls(text=one_line(text))


class Decided(BaseModel):
    """What was answered to a yes/no question, with its evidence."""

    said: YesNo
    probability: float | None

    @classmethod
    def from_text(
        cls, text: str, first_word: Mapping[str, float] | None = None
    ) -> Self:
        """Read it.

        Args:
            text: What was said.
            first_word: Words that it might have begun with, and their shares.
        """
        shares = {"yes": 0.0, "no": 0.0}
        for word, share in (first_word or {}).items():
            if (plain := word.strip(" \n*\"'.").lower()) in shares:
                shares[plain] += share
        heard = math.fsum(shares.values())
        said = read_answer(text).said
        if heard < HEARD or said is YesNo.UNKNOWN:
            return cls(said=said, probability=None)
        probability = shares["yes"] / heard
        likelier = YesNo.YES if probability >= 0.5 else YesNo.NO  # noqa: PLR2004 - even odds
        return cls(said=likelier, probability=probability)


class Counted(BaseModel):
    """What was answered to "how many", with its evidence."""

    number: int | None
    _count: Count = PrivateAttr(default=Count(number=None))

    @property
    def count(self) -> Count:
        """What was counted."""
        return self._count

    @classmethod
    def from_text(
        cls, text: str, first_word: Mapping[str, float] | None = None
    ) -> Self:
        """Read it; arguments as of ``Decided``."""
        number, heard = read_number(text), dict[int, float]()
        for word, share in (first_word or {}).items():
            one = read_number(word)
            if one is not None:
                heard[one] = heard.get(one, 0.0) + share
        # What was said counts, and not the first figure of a longer number.
        said = number is not None and heard.get(number, 0.0) >= HEARD
        counted = cls(number=number)
        counted._count = Count.of(heard) if said else Count(number=number)
        return counted


class LLMCaptioner:
    """Captions and answers through a language model that sees.

    What fails for good fails one image or one question, as with other captioners.

    Args:
        llm: A LangChain chat model that takes images.
        retries: How often a failed request is sent again, and at what rate.
    """

    def __init__(self, llm: BaseChatModel, *, retries: RetryPolicy) -> None:
        def caller(answer: type[AnswerT], **options: Any) -> StructuredCaller[AnswerT]:
            return StructuredCaller(
                llm,
                answer,
                validation_retries=VALIDATION_RETRIES,
                retries=retries,
                stop=(),
                **options,
            )

        self._caption, self._say = caller(Caption), caller(Said)
        self._decide = caller(Decided, evidence=True)
        self._count = caller(Counted, evidence=True)
        self._files: WeakImageMap[str] = WeakImageMap()
        self._encoding = Lock()

    async def caption(self, image: Image) -> str:
        """Say what an image shows.

        Raises:
            CandidateError: If there is no caption of use.
        """
        said = await self._ask(self._caption, image, CAPTION, Status.CAPTION_FAILED)
        return said.text

    async def answer_open(self, image: Image, question: str) -> str:
        """Answer a question about an image.

        Raises:
            CandidateError: If there is no answer.
        """
        words = FEW_WORDS.replace("{question}", one_line(question))
        return (await self._ask(self._say, image, words, Status.OK)).text

    async def answer_yes_no(self, image: Image, question: str) -> Answer:
        """Answer a question about an image by yes, no or unknown.

        Raises:
            CandidateError: If there is no answer.
        """
        words = YES_OR_NO.replace("{question}", one_line(question))
        decided = await self._ask(self._decide, image, words, Status.OK)
        return Answer(said=decided.said, probability=decided.probability)

    async def answer_count(self, image: Image, question: str) -> Count:
        """Say how many of something an image shows.

        Raises:
            CandidateError: If there is no answer.
        """
        words = A_NUMBER.replace("{question}", one_line(question))
        return (await self._ask(self._count, image, words, Status.OK)).count

    async def read_text(self, image: Image, question: str) -> str:
        """Say what is written on an image.

        Raises:
            CandidateError: If there is no answer.
        """
        words = AS_WRITTEN.replace("{question}", one_line(question))
        return (await self._ask(self._say, image, words, Status.OK)).text

    async def _ask(
        self,
        caller: StructuredCaller[AnswerT],
        image: Image,
        words: str,
        failure: Status,
    ) -> AnswerT:
        file = await asyncio.to_thread(self._file, image)
        messages = with_pngs([HumanMessage(words)], [("The image:", file)])
        try:
            return await caller(messages)
        except ServerDownError:
            raise  # the same happens to all others
        except (AnswerError, CallError) as problem:
            raise CandidateError(failure, str(problem)) from problem

    def _file(self, image: Image) -> str:
        """Return an image as it is sent, encoded once for all that is asked of it."""
        with self._encoding:
            file = self._files.get(image)
            if file is None:
                file = self._files[image] = as_png(image)
        return file
