"""Structured calls of a language model: the only place where one is called.

Two remedies with two names. A wrong answer is a validation retry: it is shown to the
model together with what is wrong with it, here. A network error is the matter of
``retry``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from socratic_agents.core.errors import (
    AnswerError,
    BudgetError,
    CallError,
    SocraticError,
)
from socratic_agents.llm.cache import current_cache
from socratic_agents.llm.failures import FailureKind, classify, describe
from socratic_agents.llm.methods import (
    SHOWN,
    Reply,
    StructuredMethod,
    in_one_line,
    json_in_prompt,
    with_schema,
)
from socratic_agents.llm.retry import RetryPolicy, single_attempt
from socratic_agents.llm.usage import current_meter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = ("StructuredCaller", "ask_structured")

AnswerT = TypeVar("AnswerT", bound=BaseModel)

VALIDATION_RETRIES = 2
"""How often a wrong answer is shown to the model again."""
CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""How providers say that an answer was cut off."""


class StructuredCaller(Generic[AnswerT]):
    """Calls a language model for answers of one type; made once, called often.

    A model with structured output is given the JSON schema; any other one reads it
    in the last message. A client that retries on its own is kept from doing so.

    Args:
        llm: Any LangChain chat model.
        answer: The pydantic model of the answer. Its JSON schema is sent, so it has
            no defaults and forbids extra fields.
        validation_retries: How often, at least 0, a wrong answer is shown to the model with
            what is wrong, and asked for again.
        retries: How often a failed request is sent again, and at what rate.
    """

    def __init__(
        self,
        llm: BaseChatModel,
        answer: type[AnswerT],
        *,
        validation_retries: int = VALIDATION_RETRIES,
        retries: RetryPolicy | None = None,
    ) -> None:
        self._given, self._answer = llm, answer
        self._validation_retries, self._retries = (
            validation_retries,
            retries or RetryPolicy(),
        )
        self._refused = False  # whether the server turned the schema down

    async def __call__(
        self,
        messages: Sequence[BaseMessage],
        *,
        check: Callable[[AnswerT], object] | None = None,
    ) -> AnswerT:
        """Ask, and return the answer, validated.

        Args:
            messages: What the model is asked; at least one message.
            check: Further conditions on a valid answer; raises ``ValueError`` with
                words for the model.

        Raises:
            AnswerError: If the answer stayed wrong, or the model refused; ``raw`` is
                what it wrote last.
            CallError: If the call itself failed for good.
            BudgetError: If the budget of the meter in force has no room for a
                request, be it the first one, a validation retry or a repetition; it is
                not sent.

        Source:
            Showing a model its own output with the error is what the retrying chat
            model of magentic does.
        """
        from langchain_core.messages import AIMessage, HumanMessage

        sent, left = list(messages), self._validation_retries
        while True:
            reply = await self._reply(sent)
            try:
                return _read(reply, self._answer, check)
            except _Mistake as mistake:
                if left <= 0:
                    message = (
                        f"expected {self._answer.__name__} of the language model, got "
                        f"an answer that stayed wrong ({mistake}); use a more capable "
                        "model or a simpler template"
                    )
                    raise AnswerError(message, raw=reply.text) from mistake
                left -= 1
                sent += [
                    # Some providers refuse a message without text.
                    AIMessage(reply.text[:SHOWN] or "(empty)"),
                    HumanMessage(
                        f"That answer cannot be used: {mistake}. Answer again, in "
                        "full, in the form that was asked for."
                    ),
                ]

    async def _reply(self, messages: list[BaseMessage]) -> Reply:
        """Return the reply, by the method that this server supports."""
        structured = None if self._refused else self._structured
        if structured is not None:
            try:
                return await _sent(structured, messages, self._retries)
            except CallError as problem:
                if not _schema_refused(problem):
                    raise
                # The client knows schemas, but the server behind it does not.
                self._refused = True
        return await _sent(self._plain, messages, self._retries)

    # Built when first asked: a schema takes longer than all else that we do for a call.

    @cached_property
    def _llm(self) -> BaseChatModel:
        return single_attempt(self._given)

    @cached_property
    def _structured(self) -> StructuredMethod | None:
        return with_schema(self._llm, self._answer)

    @cached_property
    def _plain(self) -> StructuredMethod:
        return json_in_prompt(self._llm, self._answer)


async def ask_structured(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    answer: type[AnswerT],
    *,
    check: Callable[[AnswerT], object] | None = None,
    validation_retries: int = VALIDATION_RETRIES,
    retries: RetryPolicy | None = None,
) -> AnswerT:
    """Ask a language model once for a typed answer; see ``StructuredCaller``."""
    asker = StructuredCaller(
        llm, answer, validation_retries=validation_retries, retries=retries
    )
    return await asker(messages, check=check)


class _Mistake(Exception):  # noqa: N818 - the model's, not ours
    """What is wrong with an answer, in words for the model that wrote it."""


async def _sent(
    method: StructuredMethod, messages: list[BaseMessage], retries: RetryPolicy
) -> Reply:
    """Send a request, count it, and return the reply, a wrong one included.

    One whose answer is cached is counted alike, and not sent.
    """
    meter, cache = current_meter(), current_cache()

    async def request() -> AIMessage:
        # Before it is sent: what fails on the way may be billed all the same.
        meter.add_call()
        return await method.send(messages)

    async def wait(seconds: float) -> None:
        meter.expect_room(within=seconds)
        await retries.sleep(seconds)

    async def ask() -> AIMessage:
        return await replace(retries, sleep=wait)(request)

    try:
        if cache is None:
            message = await ask()
        else:
            key = cache.key(method.cache_form, messages)
            message = await cache.message(key, ask, count=meter.add_call)
    except SocraticError as problem:
        if isinstance(problem.__cause__, BudgetError):
            # The retries take it for a failed call, but nothing was sent.
            raise problem.__cause__ from None
        raise
    except Exception as problem:
        completion = getattr(problem, "completion", None)
        usage = getattr(completion, "usage", None)
        if usage is not None:
            tokens = {
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
            }
            meter.add_tokens(tokens)
        choices = getattr(completion, "choices", None)
        written = choices[0].message.content if choices else None
        text = written or getattr(problem, "llm_output", None) or ""
        if classify(problem) is FailureKind.CONTENT:
            raise _refused(describe(problem), text) from problem
        finish = "length" if "LengthFinish" in type(problem).__name__ else ""
        return Reply(text, error=in_one_line(problem), finish=finish)
    return method.read(message)


def _read(
    reply: Reply, answer: type[AnswerT], check: Callable[[AnswerT], object] | None
) -> AnswerT:
    """Return the validated answer, or raise what is wrong with it."""
    if reply.refusal:
        raise _refused(reply.refusal, reply.text)
    if reply.finish in CUT:
        message = "it was cut off at the length limit; be shorter"
        raise _Mistake(message)
    if reply.parsed is None:
        cause = reply.error or "it is not in the form of the JSON schema"
        raise _Mistake(cause if reply.text else "it is empty")
    try:
        value = answer.model_validate(reply.parsed)
        if check is not None:
            check(value)
    except ValueError as problem:  # pydantic's error is one too
        raise _Mistake(in_one_line(problem)) from problem
    return value


def _refused(cause: str, raw: str) -> AnswerError:
    message = (
        f"expected an answer of the language model, got a refusal ({cause}); reword "
        "the user prompt or use another model"
    )
    return AnswerError(message, raw=raw)


def _schema_refused(problem: CallError) -> bool:
    """Return whether the server turned down the schema and not the question."""
    status = getattr(problem.__cause__, "status_code", None)
    text = str(problem.__cause__)
    named = "response_format" in text or "json_schema" in text
    return status in {400, 422} and named
