"""Asking a language model for a typed answer: the only place where one is called.

Two remedies with two names. A wrong answer is shown to the model together with what
is wrong with it; that is done here. A bad line is the matter of ``retries``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from socratic_agents.chains.failures import Kind, classify, describe
from socratic_agents.chains.meter import current_meter
from socratic_agents.chains.recall import current_recall
from socratic_agents.chains.retries import Retries, single_attempt
from socratic_agents.errors import AnswerError, BudgetError, CallError, SocraticError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable

    Send: TypeAlias = Callable[[list[BaseMessage]], Awaitable[AIMessage]]
    Read: TypeAlias = Callable[[AIMessage], "_Reply"]

__all__ = ("Asker", "ask")

AnswerT = TypeVar("AnswerT", bound=BaseModel)

REPAIRS = 2
"""How often a wrong answer is shown to the model again."""
SHOWN = 4_000
"""Characters of a wrong answer that are shown to the model again."""
CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""How providers say that an answer was cut off."""
MADE = "socratic_made"
"""Under this name a message carries what a chain made of it."""
FILTERED = frozenset({"content_filter", "refusal", "SAFETY"})
"""How providers say that a filter withheld the answer."""


class Asker(Generic[AnswerT]):
    """Asks a language model for answers of one kind; made once, asked often.

    A model with structured output is given the JSON schema; any other one reads it
    in the last message. A client that retries on its own is kept from doing so.

    Args:
        llm: Any LangChain chat model.
        answer: The pydantic model of the answer. Its JSON schema is sent, so it has
            no defaults and forbids extra fields.
        repairs: How often, at least 0, a wrong answer is shown to the model with
            what is wrong, and asked for again.
        retries: How patiently a failed request is sent again, and at what pace.
    """

    def __init__(
        self,
        llm: BaseChatModel,
        answer: type[AnswerT],
        *,
        repairs: int = REPAIRS,
        retries: Retries | None = None,
    ) -> None:
        self._given, self._answer = llm, answer
        self._repairs, self._retries = repairs, retries or Retries()
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
                request, be it the first one, a repair or a repetition; it is not
                sent.

        Source:
            Showing a model its own output with the error is what the retrying chat
            model of magentic does.
        """
        from langchain_core.messages import AIMessage, HumanMessage  # noqa: PLC0415

        talk, repairs = list(messages), self._repairs
        while True:
            reply = await self._reply(talk)
            try:
                return _read(reply, self._answer, check)
            except _Mistake as mistake:
                if repairs <= 0:
                    message = (
                        f"expected {self._answer.__name__} of the language model, got "
                        f"an answer that stayed wrong ({mistake}); use a more capable "
                        "model or a simpler template"
                    )
                    raise AnswerError(message, raw=reply.text) from mistake
                repairs -= 1
                talk += [
                    # Some providers refuse a message without text.
                    AIMessage(reply.text[:SHOWN] or "(empty)"),
                    HumanMessage(
                        f"That answer cannot be used: {mistake}. Answer again, in "
                        "full, in the form that was asked for."
                    ),
                ]

    async def _reply(self, talk: list[BaseMessage]) -> _Reply:
        """Return what comes back, by the means that this server knows."""
        structured = None if self._refused else self._structured
        if structured is not None:
            try:
                return await _sent(structured, talk, self._retries)
            except CallError as problem:
                if not _schema_refused(problem):
                    raise
                # The client knows schemas, but the server behind it does not.
                self._refused = True
        return await _sent(self._plain, talk, self._retries)

    # Built when first asked: a schema takes longer than all else that we do for a call.

    @cached_property
    def _llm(self) -> BaseChatModel:
        return single_attempt(self._given)

    @cached_property
    def _structured(self) -> _Way | None:
        return _structured(self._llm, self._answer)

    @cached_property
    def _plain(self) -> _Way:
        return _plain(self._llm, self._answer)


async def ask(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    answer: type[AnswerT],
    *,
    check: Callable[[AnswerT], object] | None = None,
    repairs: int = REPAIRS,
    retries: Retries | None = None,
) -> AnswerT:
    """Ask a language model once and return its answer; see ``Asker`` for the terms."""
    asker = Asker(llm, answer, repairs=repairs, retries=retries)
    return await asker(messages, check=check)


@dataclass(frozen=True)
class _Reply:
    """What came back from one call."""

    text: str
    """As the model wrote it, the arguments of a tool call included."""
    parsed: Any = None
    """What the client made of it; ``None`` if nothing."""
    error: str = ""
    """Why the client could not read it, if it says so."""
    finish: str = ""
    """Why the model stopped writing, if it says so."""
    refusal: str = ""
    """What it says instead of an answer, if it refuses."""


@dataclass(frozen=True)
class _Way:
    """A way to ask a model and to read what it says."""

    form: str
    """What the model is held to, for telling answers apart."""
    send: Send
    read: Read


class _Mistake(Exception):  # noqa: N818 - the model's, not ours
    """What is wrong with an answer, in words for the model that wrote it."""


def _structured(llm: BaseChatModel, answer: type[BaseModel]) -> _Way | None:
    """Return how to ask a model with structured output; ``None`` if it has none."""
    # The schema and not the class: given the class, clients raise on a wrong answer
    # and lose what the model wrote.
    schema = answer.model_json_schema()
    ways: list[dict[str, Any]] = [{"method": "json_schema", "strict": True}, {}]
    for options in ways:
        try:
            chain = llm.with_structured_output(schema, **options)
            whole = llm.with_structured_output(schema, include_raw=True, **options)
        except NotImplementedError:
            return None
        except (TypeError, ValueError):
            continue  # this model takes no method, or not this one
        return _direct(chain, schema) or _through(whole, schema)
    return None


def _direct(chain: Runnable[Any, Any], schema: dict[str, Any]) -> _Way | None:
    """Return how to call a chain's model and its parser bare, if it is just these.

    LangChain's own way to keep the raw message runs five runnables and a thread, which
    takes as long as the rest of the call.
    """
    from langchain_core.output_parsers import BaseLLMOutputParser  # noqa: PLC0415
    from langchain_core.outputs import ChatGeneration  # noqa: PLC0415
    from langchain_core.runnables import RunnableSequence  # noqa: PLC0415

    if not isinstance(chain, RunnableSequence):
        return None
    model, *rest = chain.steps
    parser = rest[0]
    if len(rest) > 1 or not isinstance(parser, BaseLLMOutputParser):
        return None

    async def send(talk: list[BaseMessage]) -> AIMessage:
        message: AIMessage = await model.ainvoke(talk)
        return message

    def read(raw: AIMessage) -> _Reply:
        try:
            parsed, error = parser.parse_result([ChatGeneration(message=raw)]), ""
        except Exception as problem:  # noqa: BLE001 - as LangChain's: any parser's
            parsed, error = None, _line(problem)
        return _reply(raw, parsed, error)

    return _Way(_form("schema", schema), send, read)


def _through(chain: Runnable[Any, Any], schema: dict[str, Any]) -> _Way:
    """Return how to ask through a chain of whatever make that keeps the raw message."""

    async def send(talk: list[BaseMessage]) -> AIMessage:
        result = await chain.ainvoke(talk)
        raw: AIMessage = result["raw"]
        error = result["parsing_error"]
        # Only this chain knows how it reads: what it made of the message goes with it.
        made = {"parsed": result["parsed"], "error": _line(error) if error else ""}
        return raw.model_copy(
            update={"response_metadata": {**raw.response_metadata, MADE: made}}
        )

    def read(raw: AIMessage) -> _Reply:
        made = raw.response_metadata[MADE]
        return _reply(raw, made["parsed"], made["error"])

    return _Way(_form("chain", schema), send, read)


def _plain(llm: BaseChatModel, answer: type[BaseModel]) -> _Way:
    """Return how to ask a model that only writes text: the words hold the schema."""
    from langchain_core.output_parsers import PydanticOutputParser  # noqa: PLC0415

    parser: Any = PydanticOutputParser(pydantic_object=answer)
    instructions = parser.get_format_instructions()

    async def send(talk: list[BaseMessage]) -> AIMessage:
        *earlier, last = talk
        content = last.content
        if isinstance(content, str):
            content = f"{content}\n\n{instructions}"
        else:
            content = [*content, {"type": "text", "text": instructions}]
        last = last.model_copy(update={"content": content})
        return await llm.ainvoke([*earlier, last])

    def read(raw: AIMessage) -> _Reply:
        return _reply(raw, parsed={}, error="")

    return _Way(_form("text", answer.model_json_schema()), send, read)


def _form(way: str, schema: dict[str, Any]) -> str:
    return json.dumps([way, schema], sort_keys=True)


async def _sent(way: _Way, talk: list[BaseMessage], retries: Retries) -> _Reply:
    """Send a request, count it, and return the reply, a wrong one included.

    One whose answer is known is counted alike, and not sent.
    """
    meter, recall = current_meter(), current_recall()

    async def request() -> AIMessage:
        # Before it is sent: what fails on the way may be billed all the same.
        meter.add_call()
        return await way.send(talk)

    async def wait(seconds: float) -> None:
        meter.expect_room(within=seconds)
        await retries.sleep(seconds)

    async def ask() -> AIMessage:
        return await replace(retries, sleep=wait)(request)

    try:
        if recall is None:
            message = await ask()
        else:
            key = recall.key(way.form, talk)
            message = await recall.message(key, ask, count=meter.add_call)
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
        if classify(problem) is Kind.CONTENT:
            raise _refused(describe(problem), text) from problem
        finish = "length" if "LengthFinish" in type(problem).__name__ else ""
        return _Reply(text, error=_line(problem), finish=finish)
    return way.read(message)


def _reply(raw: AIMessage, parsed: Any, error: str) -> _Reply:
    """Return what a message says, with its cost counted."""
    current_meter().add_tokens(raw.usage_metadata)
    calls = [*raw.tool_calls, *raw.invalid_tool_calls]
    written = [call["args"] for call in calls]
    said = [args if isinstance(args, str) else json.dumps(args) for args in written]
    text = "\n".join([*filter(None, [raw.text]), *filter(None, said)])
    facts = raw.response_metadata
    finish = str(facts.get("finish_reason") or facts.get("stop_reason") or "")
    refusal = str(raw.additional_kwargs.get("refusal") or "")
    if finish in FILTERED:
        refusal = refusal or finish
    if not calls and parsed is not None:
        # Clients mend JSON that breaks off, and would pass half a prompt as whole.
        try:
            parsed = _whole(raw.text)
        except ValueError as problem:
            parsed, error = None, _line(problem)
    return _Reply(text, parsed, error, finish, refusal)


def _whole(text: str) -> Any:
    """Return the complete JSON of a text, in a code fence or not."""
    from langchain_core.utils.json import parse_json_markdown  # noqa: PLC0415

    return parse_json_markdown(text, parser=json.loads)


def _read(
    reply: _Reply, answer: type[AnswerT], check: Callable[[AnswerT], object] | None
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
        raise _Mistake(_line(problem)) from problem
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
    told = str(problem.__cause__)
    named = "response_format" in told or "json_schema" in told
    return status in {400, 422} and named


def _line(problem: Exception) -> str:
    """Return an exception's words on one line, without addresses of manuals."""
    if isinstance(problem, ValidationError):
        parts = []
        for error in problem.errors(include_url=False):
            place = ".".join(map(str, error["loc"]))
            parts.append(f"{place}: {error['msg']}" if place else error["msg"])
        return "; ".join(parts)
    text, _, _ = str(problem).partition("\nFor troubleshooting")
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
