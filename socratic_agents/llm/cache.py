"""The response cache: what a language model answered once is not asked again.

A message is journaled as it came, before it is parsed: what was paid for outlives a
crash, and fixing a bug in our parser costs no further request.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import MissingStepError
from socratic_agents.storage.journal import key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from langchain_core.messages import AIMessage, BaseMessage

    from socratic_agents.storage.journal import Journal

__all__ = ("ResponseCache", "current_cache", "using_cache")

FACTS = (
    *("finish_reason", "stop_reason", "model_name", "system_fingerprint"),
    "socratic_made",
)
"""What is kept of all that a provider says about its response."""


@dataclass(frozen=True, kw_only=True)
class ResponseCache:
    """Responses in a journal, and which model they are of."""

    journal: Journal
    model_identity: Mapping[str, Any]
    """What tells this language model's responses from another's, as JSON."""
    replay_only: bool = False
    """Refuse what is not cached instead of asking."""

    def key(self, form: str, messages: list[BaseMessage]) -> str:
        """Return the journal's key of a response.

        Args:
            form: Method and schema, as of a ``StructuredMethod``.
            messages: What the model is asked.
        """
        asked = [[message.type, message.content] for message in messages]
        return key_of("llm", dict(self.model_identity), form, asked)

    def knows(self, key: str) -> bool:
        """Return whether a response is cached."""
        return self.journal.get_or_copy_from_cache("llm", key) is not None

    async def message(
        self,
        key: str,
        ask: Callable[[], Awaitable[AIMessage]],
        *,
        count: Callable[[], object],
    ) -> AIMessage:
        """Return the cached response, or ask for it and cache it.

        Args:
            key: As from ``key``.
            ask: Asks the model.
            count: Called in its place where the response is cached.

        Raises:
            MissingStepError: If it is not cached, with ``replay_only``.
        """
        journal = self.journal
        async with journal.single_flight(key):
            value = journal.get_or_copy_from_cache("llm", key)
            if value is not None:
                count()
                journal.reused["llm"] += 1
                return _message(value)
            if self.replay_only:
                raise MissingStepError({"llm": 1})
            message = await ask()
            await journal.put_durable("llm", key, _value(message))
            return message


def _value(message: AIMessage) -> dict[str, Any]:
    facts = message.response_metadata
    kept = {name: facts[name] for name in FACTS if name in facts}
    if isinstance(told := facts.get("logprobs"), dict) and told.get("content"):
        kept["logprobs"] = {"content": told["content"][:1]}  # of the first word
    value = {
        "content": message.content,
        "tool_calls": message.tool_calls,
        "invalid_tool_calls": message.invalid_tool_calls,
        "usage_metadata": message.usage_metadata,
        "response_metadata": kept,
        "refusal": message.additional_kwargs.get("refusal"),
    }
    # Whatever a provider's client puts into its messages.
    plain: dict[str, Any] = json.loads(json.dumps(value, default=str))
    return plain


def _message(value: Mapping[str, Any]) -> AIMessage:
    from langchain_core.messages import AIMessage

    fields = {name: given for name, given in value.items() if name != "refusal"}
    refusal = {"refusal": value["refusal"]} if value["refusal"] else {}
    return AIMessage(**fields, additional_kwargs=refusal)


_CACHE: ContextVar[ResponseCache | None] = ContextVar("socratic_cache", default=None)


def current_cache() -> ResponseCache | None:
    """Return the response cache in force, if any."""
    return _CACHE.get()


@contextmanager
def using_cache(cache: ResponseCache | None) -> Iterator[None]:
    """Take the responses to all requests inside from a cache, where it has them."""
    token = _CACHE.set(cache)
    try:
        yield
    finally:
        _CACHE.reset(token)
