"""Structured-output methods: how a language model is held to the form of an answer.

A ladder, from a schema that the server enforces down to words alone. Which rung holds is
learned from what a server says, and from what it does.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.llm.refusals import Unsupported
from socratic_agents.llm.schemas import json_schema, untitled, with_sizes, without_sizes
from socratic_agents.llm.usage import current_meter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from pydantic import BaseModel

    class Send(Protocol):
        """Sends messages, with options of the client's for this call."""

        async def __call__(
            self, messages: list[BaseMessage], /, **options: Any
        ) -> AIMessage: ...


__all__ = (
    "IN_PROMPT",
    "METHODS",
    "MOST_DELIBERATION",
    "PLAIN",
    "Reply",
    "Server",
    "StructuredMethod",
    "below",
    "open_method",
    "read_reply",
)

METHODS: dict[str, dict[str, Any]] = {
    "json_schema": {"method": "json_schema", "strict": True},
    "tools": {"method": "function_calling"},
    "json_object": {"method": "json_mode"},
    "words": {},
}
"""The rungs, the strictest first, and what LangChain's clients call them."""
PLAIN = "plain"
"""Beside the rungs: the answer is plain text, and its form stands in the template."""
IN_PROMPT = frozenset({"json_object", "words"})
"""The rungs on which the form stands in the prompt."""
_CACHE_NAMES = {"json_schema": "schema", "words": "text"}
"""What cached responses call a rung, where that is another name."""
DELIBERATION = 2048
"""Tokens of an answer's limit that are there for deliberation, at first."""
MOST_DELIBERATION = 8192
"""And at most, where a model was seen to run out of them."""
FILTERED = frozenset({"content_filter", "refusal", "SAFETY"})
"""How providers say that a filter withheld the answer."""


@dataclass(frozen=True)
class Reply:
    """What came back from one call."""

    text: str
    """What the model says."""
    calls: tuple[Any, ...] = ()
    """The arguments of its tool calls, as objects, or as text where it is no JSON."""
    error: str = ""
    """What the client or the server found wrong with it."""
    finish: str = ""
    """Why the model stopped writing, if it says so."""
    refusal: str = ""
    """What it says instead of an answer, if it refuses."""

    first_word: Mapping[str, float] = field(default_factory=dict)
    """Words that it might have begun with, and their probabilities, where it tells."""

    @property
    def written(self) -> str:
        """All that the model wrote, the arguments of tool calls included."""
        calls = [c if isinstance(c, str) else json.dumps(c) for c in self.calls]
        return "\n".join(filter(None, [self.text, *calls]))


@dataclass(frozen=True)
class StructuredMethod:
    """How a request for one kind of answer is sent."""

    name: str
    """Its rung of the ladder."""
    cache_form: str
    """Method and schema, as part of the key of a cached response."""
    send: Send


@dataclass
class Server:
    """What a run has learned about the server of its language model; shared by all roles."""

    rung: str = next(iter(METHODS))
    """The strictest method that it was not seen to lack."""
    proven: set[str] = field(default_factory=set)
    """The methods by which a right answer has come."""
    takes_system: bool = True
    """Whether it takes system messages."""
    takes_sizes: bool = True
    """Whether its schemas may say how long texts and lists are."""
    takes_limit: bool = True
    """Whether it may be told how many tokens an answer has at most."""
    takes_evidence: bool = True
    """Whether it may be asked how likely other first words were."""
    max_tokens: int | None = None
    """Tokens of an answer at most, deliberation included; ``None``: by the schema."""
    deliberation: int = DELIBERATION
    """Tokens that an answer may have beside what its schema takes."""
    context: int | None = None
    """Tokens that a request and its answer may have together, if it is known."""
    timeout: float | None = None
    """Seconds that a request may take, whose client was told of none; ``None``: any."""

    def step_down(self, name: str, *, to: str | None = None) -> None:
        """Leave a rung for the next one, unless another call has left it already.

        Args:
            name: The rung that does not hold.
            to: The rung to go to; ``None``: the next one.
        """
        if self.rung == name:
            self.rung = to or below(name)

    def lack(self, what: Unsupported, name: str) -> str:
        """Note what it does not know of a request, and return the method to go on by.

        Args:
            what: The part that it refused.
            name: The method by which it was sent.
        """
        match what:
            case Unsupported.SYSTEM:
                self.takes_system = False
            case Unsupported.SIZES:
                self.takes_sizes = False
            case Unsupported.LIMIT:
                self.takes_limit = False
            case Unsupported.EVIDENCE:
                self.takes_evidence = False
            case Unsupported.METHOD:
                # It may have meant the sizes: further down, they shall not be to blame.
                self.takes_sizes = False
                self.step_down(name)
                return below(name)
        return name

    def fit(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """Return messages as this server takes them.

        Where it knows no system message, its words come first in the first message of
        a human.
        """
        if self.takes_system:
            return list(messages)
        system = [message.text for message in messages if message.type == "system"]
        others = [message for message in messages if message.type != "system"]
        if not system or not others:
            return list(messages)
        words, first = "\n\n".join(system), others[0]
        content: Any = first.content
        content = (
            f"{words}\n\n{content}"
            if isinstance(content, str)
            else [{"type": "text", "text": words}, *content]
        )
        return [first.model_copy(update={"content": content}), *others[1:]]


def below(name: str) -> str:
    """Return the method that is tried where another one is not known."""
    rungs = list(METHODS)
    return rungs[rungs.index(name) + 1]


def open_method(
    llm: BaseChatModel,
    answer: type[BaseModel],
    name: str,
    schema: dict[str, Any] | None = None,
) -> StructuredMethod | None:
    """Return one method of a client for one kind of answer; ``None`` if it lacks it.

    Args:
        llm: Any LangChain chat model.
        answer: What is asked for.
        name: A rung of ``METHODS``, or ``PLAIN``.
        schema: What is sent of the answer's form; ``None``: all but sizes.
    """
    plain = without_sizes(json_schema(answer))
    schema = untitled(schema or plain)
    if getattr(llm, "enforces_sizes", False):
        schema = with_sizes(schema)
    free = name in {PLAIN, "words"}
    send: Any = llm.ainvoke if free else _bound(llm, schema, METHODS[name])
    if send is None and name == "json_schema":
        send = _bound(llm, schema, {})  # it chooses the method by itself
    if send is None:
        return None
    form = json.dumps([_CACHE_NAMES.get(name, name), plain], sort_keys=True)
    sender: Send = _with_form(send, answer) if name in IN_PROMPT else send
    return StructuredMethod(name, form, sender)


def _bound(
    llm: BaseChatModel, schema: dict[str, Any], options: dict[str, Any]
) -> Send | None:
    """Return how a client asks with structured output; ``None`` if it does not."""
    from langchain_core.output_parsers import BaseLLMOutputParser
    from langchain_core.runnables import RunnableSequence

    try:
        # The schema and not the class: given the class, clients raise on a wrong
        # answer and lose what the model wrote.
        chain = llm.with_structured_output(schema, **options)
        whole = llm.with_structured_output(schema, include_raw=True, **options)
    except (NotImplementedError, TypeError, ValueError):
        return None
    if isinstance(chain, RunnableSequence):
        model, *rest = chain.steps
        if len(rest) == 1 and isinstance(rest[0], BaseLLMOutputParser):
            # Bare: LangChain's own means to keep the raw message runs five runnables
            # and a thread, which takes as long as the rest of the call.
            bare: Any = model.ainvoke
            return cast("Send", bare)

    async def send(messages: list[BaseMessage], /, **_: Any) -> AIMessage:
        result: Any = await whole.ainvoke(messages)
        raw: AIMessage = result["raw"]
        return raw

    return send


def _with_form(send: Send, answer: type[BaseModel]) -> Send:
    """Return how to ask with the form of the answer in the last message."""
    form = _form(answer)

    async def asking(messages: list[BaseMessage], /, **options: Any) -> AIMessage:
        *earlier, last = messages
        content: Any = last.content
        content = (
            f"{content}\n\n{form}"
            if isinstance(content, str)
            else [*content, {"type": "text", "text": form}]
        )
        last = last.model_copy(update={"content": content})
        return await send([*earlier, last], **options)

    return asking


def _form(answer: type[BaseModel]) -> str:
    """Return the form of an answer in words, with an example where there is one."""
    schema = untitled(without_sizes(json_schema(answer)))
    schema = {key: value for key, value in schema.items() if key != "title"}
    example = getattr(answer, "EXAMPLE", None)
    shown = f"\nFor example:\n{json.dumps(example)}" if example else ""
    return (
        "Answer with one JSON object and nothing else, no words around it. "
        f"It must fit this JSON schema:\n{json.dumps(_open(schema))}{shown}"
    )


def _open(schema: Any) -> Any:
    """Return a schema without what only a server that enforces it must know."""
    if isinstance(schema, dict):
        return {k: _open(v) for k, v in schema.items() if k != "additionalProperties"}
    return [_open(one) for one in schema] if isinstance(schema, list) else schema


def read_reply(raw: AIMessage) -> Reply:
    """Return what a message says, and count its tokens."""
    current_meter().add_tokens(raw.usage_metadata)
    calls = [*raw.tool_calls, *raw.invalid_tool_calls]
    facts = raw.response_metadata
    finish = str(facts.get("finish_reason") or facts.get("stop_reason") or "")
    refusal = str(raw.additional_kwargs.get("refusal") or "")
    if finish in FILTERED:
        refusal = refusal or finish
    return Reply(
        text=raw.text,
        calls=tuple(call["args"] for call in calls),
        finish=finish,
        refusal=refusal,
        first_word=_first_word(facts.get("logprobs")),
    )


def _first_word(told: Any) -> dict[str, float]:
    """Return the probabilities of first words, as OpenAI's protocol tells them."""
    try:
        return {
            str(one["token"]): math.exp(min(float(one["logprob"]), 0.0))
            for one in told["content"][0]["top_logprobs"]
        }
    except (TypeError, LookupError, ValueError):
        return {}
