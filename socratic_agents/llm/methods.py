"""Structured-output methods: how a language model is held to a JSON schema.

By the client's structured output where it has one, else by instructions in the prompt.
A response is parsed apart from the request, so that a cached one is parsed alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from socratic_agents.llm.usage import current_meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable
    from pydantic import BaseModel

    Send: TypeAlias = Callable[[list[BaseMessage]], Awaitable[AIMessage]]
    Read: TypeAlias = Callable[[AIMessage], "Reply"]

__all__ = (
    "SHOWN",
    "Reply",
    "StructuredMethod",
    "in_one_line",
    "json_in_prompt",
    "with_schema",
)

SHOWN = 4_000
"""Characters of a wrong answer that are shown to the model again."""
MADE = "socratic_made"
"""Under this name a message carries what a chain parsed it to."""
FILTERED = frozenset({"content_filter", "refusal", "SAFETY"})
"""How providers say that a filter withheld the answer."""


@dataclass(frozen=True)
class Reply:
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
class StructuredMethod:
    """How a request is sent, and how its response is read."""

    cache_form: str
    """Method and schema, as part of the key of a cached response."""
    send: Send
    read: Read


def with_schema(llm: BaseChatModel, answer: type[BaseModel]) -> StructuredMethod | None:
    """Return the method of a client with structured output; ``None`` if it has none."""
    # The schema and not the class: given the class, clients raise on a wrong answer
    # and lose what the model wrote.
    schema = answer.model_json_schema()
    variants: list[dict[str, Any]] = [{"method": "json_schema", "strict": True}, {}]
    for options in variants:
        try:
            chain = llm.with_structured_output(schema, **options)
            whole = llm.with_structured_output(schema, include_raw=True, **options)
        except NotImplementedError:
            return None
        except (TypeError, ValueError):
            continue  # this model takes no method, or not this one
        return _direct(chain, schema) or _through(whole, schema)
    return None


def _direct(
    chain: Runnable[Any, Any], schema: dict[str, Any]
) -> StructuredMethod | None:
    """Return a method that calls a chain's model and parser bare, if it is just these.

    LangChain's own means to keep the raw message runs five runnables and a thread, which
    takes as long as the rest of the call.
    """
    from langchain_core.output_parsers import BaseLLMOutputParser
    from langchain_core.outputs import ChatGeneration
    from langchain_core.runnables import RunnableSequence

    if not isinstance(chain, RunnableSequence):
        return None
    model, *rest = chain.steps
    parser = rest[0]
    if len(rest) > 1 or not isinstance(parser, BaseLLMOutputParser):
        return None

    async def send(messages: list[BaseMessage]) -> AIMessage:
        message: AIMessage = await model.ainvoke(messages)
        return message

    def read(raw: AIMessage) -> Reply:
        try:
            parsed, error = parser.parse_result([ChatGeneration(message=raw)]), ""
        except Exception as problem:  # noqa: BLE001 - as LangChain's: any parser's
            parsed, error = None, in_one_line(problem)
        return _reply(raw, parsed, error)

    return StructuredMethod(_cache_form("schema", schema), send, read)


def _through(chain: Runnable[Any, Any], schema: dict[str, Any]) -> StructuredMethod:
    """Return a method for a chain of any other make that keeps the raw message."""

    async def send(messages: list[BaseMessage]) -> AIMessage:
        result = await chain.ainvoke(messages)
        raw: AIMessage = result["raw"]
        error = result["parsing_error"]
        # Only this chain knows how it parses: the result goes with the message.
        made = {
            "parsed": result["parsed"],
            "error": in_one_line(error) if error else "",
        }
        return raw.model_copy(
            update={"response_metadata": {**raw.response_metadata, MADE: made}}
        )

    def read(raw: AIMessage) -> Reply:
        made = raw.response_metadata[MADE]
        return _reply(raw, made["parsed"], made["error"])

    return StructuredMethod(_cache_form("chain", schema), send, read)


def json_in_prompt(llm: BaseChatModel, answer: type[BaseModel]) -> StructuredMethod:
    """Return the method for a model without structured output: schema in the prompt."""
    from langchain_core.output_parsers import PydanticOutputParser

    parser: Any = PydanticOutputParser(pydantic_object=answer)
    instructions = parser.get_format_instructions()

    async def send(messages: list[BaseMessage]) -> AIMessage:
        *earlier, last = messages
        content = last.content
        if isinstance(content, str):
            content = f"{content}\n\n{instructions}"
        else:
            content = [*content, {"type": "text", "text": instructions}]
        last = last.model_copy(update={"content": content})
        return await llm.ainvoke([*earlier, last])

    def read(raw: AIMessage) -> Reply:
        return _reply(raw, parsed={}, error="")

    return StructuredMethod(_cache_form("text", answer.model_json_schema()), send, read)


def _cache_form(method: str, schema: dict[str, Any]) -> str:
    return json.dumps([method, schema], sort_keys=True)


def _reply(raw: AIMessage, parsed: Any, error: str) -> Reply:
    """Return what a message says, and count its tokens."""
    current_meter().add_tokens(raw.usage_metadata)
    calls = [*raw.tool_calls, *raw.invalid_tool_calls]
    written = [call["args"] for call in calls]
    parts = [args if isinstance(args, str) else json.dumps(args) for args in written]
    text = "\n".join([*filter(None, [raw.text]), *filter(None, parts)])
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
            parsed, error = None, in_one_line(problem)
    return Reply(text, parsed, error, finish, refusal)


def _whole(text: str) -> Any:
    """Return the complete JSON of a text, in a code fence or not."""
    from langchain_core.utils.json import parse_json_markdown

    return parse_json_markdown(text, parser=json.loads)


def in_one_line(problem: Exception) -> str:
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
