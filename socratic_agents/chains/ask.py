"""Asking a language model for a typed answer: the only place where one is called.

Two remedies with two names. A wrong answer is shown to the model together with what
is wrong with it; that is done here. A bad line is the matter of ``retries``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from socratic_agents.chains.failures import Kind, classify, describe
from socratic_agents.chains.meter import current_meter
from socratic_agents.chains.retries import Retries, single_attempt
from socratic_agents.errors import AgentError, AnswerError, BudgetError, CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

    Send: TypeAlias = Callable[[list[BaseMessage]], Awaitable["_Reply"]]

__all__ = ("ask",)

AnswerT = TypeVar("AnswerT", bound=BaseModel)

REPAIRS = 2
"""How often a wrong answer is shown to the model again."""
SHOWN = 4_000
"""Characters of a wrong answer that are shown to the model again."""
CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""How providers say that an answer was cut off."""
FILTERED = frozenset({"content_filter", "refusal", "SAFETY"})
"""How providers say that a filter withheld the answer."""


async def ask(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    answer: type[AnswerT],
    *,
    check: Callable[[AnswerT], object] | None = None,
    repairs: int = REPAIRS,
    retries: Retries | None = None,
) -> AnswerT:
    """Ask a language model and return its answer, validated.

    A model with structured output is given the JSON schema; any other one reads it
    in the last message. A client that retries on its own is kept from doing so.

    Args:
        llm: Any LangChain chat model.
        messages: What it is asked; at least one message.
        answer: The pydantic model of the answer. Its JSON schema is sent, so it has
            no defaults and forbids extra fields.
        check: Further conditions on a valid answer; raises ``ValueError`` with
            words for the model.
        repairs: How often, at least 0, a wrong answer is shown to the model with
            what is wrong, and asked for again.
        retries: How patiently a failed request is sent again.

    Raises:
        AnswerError: If the answer stayed wrong, or the model refused; ``raw`` is
            what it wrote last.
        CallError: If the call itself failed for good.
        BudgetError: If the budget of the meter in force has no room for a request,
            be it the first one, a repair or a repetition; it is not sent.

    Source:
        Showing a model its own output with the error is what the retrying chat
        model of magentic does.
    """
    from langchain_core.messages import AIMessage, HumanMessage  # noqa: PLC0415

    llm, retries = single_attempt(llm), retries or Retries()
    talk, plain = list(messages), _plain(llm, answer)
    send = _structured(llm, answer) or plain
    while True:
        try:
            reply = await _sent(send, talk, retries)
        except CallError as problem:
            if send is plain or not _schema_refused(problem):
                raise
            # The client knows schemas, but the server behind it does not.
            send = plain
            continue
        try:
            return _read(reply, answer, check)
        except _Mistake as mistake:
            if repairs <= 0:
                message = (
                    f"expected {answer.__name__} of the language model, got an answer "
                    f"that stayed wrong ({mistake}); use a more capable model or a "
                    "simpler template"
                )
                raise AnswerError(message, raw=reply.text) from mistake
            repairs -= 1
            talk += [
                # Some providers refuse a message without text.
                AIMessage(reply.text[:SHOWN] or "(empty)"),
                HumanMessage(
                    f"That answer cannot be used: {mistake}. Answer again, in full, "
                    "in the form that was asked for."
                ),
            ]


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


class _Mistake(Exception):  # noqa: N818 - the model's, not ours
    """What is wrong with an answer, in words for the model that wrote it."""


def _structured(llm: BaseChatModel, answer: type[BaseModel]) -> Send | None:
    """Return how to ask a model with structured output; ``None`` if it has none."""
    # The schema and not the class: given the class, clients raise on a wrong answer
    # and lose what the model wrote.
    schema = answer.model_json_schema()
    options: dict[str, Any]
    for options in ({"method": "json_schema", "strict": True}, {}):
        try:
            chain = llm.with_structured_output(schema, include_raw=True, **options)
        except NotImplementedError:
            return None
        except (TypeError, ValueError):
            continue  # this model takes no method, or not this one
        break
    else:
        return None

    async def send(talk: list[BaseMessage]) -> _Reply:
        result: Any = await chain.ainvoke(talk)
        raw, parsed, error = (result[k] for k in ("raw", "parsed", "parsing_error"))
        return _reply(raw, parsed, _line(error) if error else "")

    return send


def _plain(llm: BaseChatModel, answer: type[BaseModel]) -> Send:
    """Return how to ask a model that only writes text: the words hold the schema."""
    from langchain_core.output_parsers import PydanticOutputParser  # noqa: PLC0415

    parser: Any = PydanticOutputParser(pydantic_object=answer)
    instructions = parser.get_format_instructions()

    async def send(talk: list[BaseMessage]) -> _Reply:
        *earlier, last = talk
        content = last.content
        if isinstance(content, str):
            content = f"{content}\n\n{instructions}"
        else:
            content = [*content, {"type": "text", "text": instructions}]
        last = last.model_copy(update={"content": content})
        return _reply(await llm.ainvoke([*earlier, last]), parsed={}, error="")

    return send


async def _sent(send: Send, talk: list[BaseMessage], retries: Retries) -> _Reply:
    """Send a request, count it, and return the reply, a wrong one included."""
    meter = current_meter()

    async def request() -> _Reply:
        # Before it is sent: what fails on the way may be billed all the same.
        meter.add_call()
        return await send(talk)

    async def wait(seconds: float) -> None:
        meter.expect_room(within=seconds)
        await retries.sleep(seconds)

    try:
        return await replace(retries, sleep=wait)(request)
    except AgentError as problem:
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
