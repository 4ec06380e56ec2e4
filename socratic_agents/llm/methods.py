"""Ways to ask a language model, and to read what it says.

With a JSON schema where the model's client knows how, and else with the schema in
words. What comes back is read apart from the asking, so that an answer that is known
already is read like one that has just come.
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

__all__ = ("SHOWN", "Reply", "Way", "in_one_line", "in_words", "with_schema")

SHOWN = 4_000
"""Characters of a wrong answer that are shown to the model again."""
MADE = "socratic_made"
"""Under this name a message carries what a chain made of it."""
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
class Way:
    """A way to ask a model and to read what it says."""

    form: str
    """What the model is held to, for telling answers apart."""
    send: Send
    read: Read


def with_schema(llm: BaseChatModel, answer: type[BaseModel]) -> Way | None:
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


def _direct(chain: Runnable[Any, Any], schema: dict[str, Any]) -> Way | None:
    """Return how to call a chain's model and its parser bare, if it is just these.

    LangChain's own way to keep the raw message runs five runnables and a thread, which
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

    async def send(talk: list[BaseMessage]) -> AIMessage:
        message: AIMessage = await model.ainvoke(talk)
        return message

    def read(raw: AIMessage) -> Reply:
        try:
            parsed, error = parser.parse_result([ChatGeneration(message=raw)]), ""
        except Exception as problem:  # noqa: BLE001 - as LangChain's: any parser's
            parsed, error = None, in_one_line(problem)
        return _reply(raw, parsed, error)

    return Way(_form("schema", schema), send, read)


def _through(chain: Runnable[Any, Any], schema: dict[str, Any]) -> Way:
    """Return how to ask through a chain of whatever make that keeps the raw message."""

    async def send(talk: list[BaseMessage]) -> AIMessage:
        result = await chain.ainvoke(talk)
        raw: AIMessage = result["raw"]
        error = result["parsing_error"]
        # Only this chain knows how it reads: what it made of the message goes with it.
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

    return Way(_form("chain", schema), send, read)


def in_words(llm: BaseChatModel, answer: type[BaseModel]) -> Way:
    """Return how to ask a model that only writes text: the words hold the schema."""
    from langchain_core.output_parsers import PydanticOutputParser

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

    def read(raw: AIMessage) -> Reply:
        return _reply(raw, parsed={}, error="")

    return Way(_form("text", answer.model_json_schema()), send, read)


def _form(way: str, schema: dict[str, Any]) -> str:
    return json.dumps([way, schema], sort_keys=True)


def _reply(raw: AIMessage, parsed: Any, error: str) -> Reply:
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
