"""Recall: what a language model said once, it need not be asked again.

Its message is kept as it came, before anybody reads it: what was paid for outlives a
crash, and a mistake of ours in reading it costs nothing when it is mended.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import MissingError
from socratic_agents.storage.journal import key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from langchain_core.messages import AIMessage, BaseMessage

    from socratic_agents.storage.journal import Journal

__all__ = ("Recall", "current_recall", "recalling")

FACTS = (
    *("finish_reason", "stop_reason", "model_name", "system_fingerprint"),
    "socratic_made",
)
"""What is kept of all that a provider says about its answer."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Where answers are kept, and whose they are."""

    journal: Journal
    speaker: Mapping[str, Any]
    """What tells this language model's answers from another's, as JSON."""
    only: bool = False
    """Whether nobody is asked what is not known."""

    def key(self, form: str, talk: list[BaseMessage]) -> str:
        """Return the name of an answer.

        Args:
            form: What the model is held to: the schema, and the way it is given.
            talk: What it is asked.
        """
        said = [[message.type, message.content] for message in talk]
        return key_of("llm", dict(self.speaker), form, said)

    async def message(
        self,
        key: str,
        ask: Callable[[], Awaitable[AIMessage]],
        *,
        count: Callable[[], object],
    ) -> AIMessage:
        """Return the known answer, or what is said now.

        Args:
            key: As from ``key``.
            ask: Asks the model.
            count: Called in its place where the answer is known.

        Raises:
            MissingError: If it is not known, and only what is known is wanted.
        """
        journal = self.journal
        async with journal.alone(key):
            value = journal.recall("llm", key)
            if value is not None:
                count()
                journal.known["llm"] += 1
                return _message(value)
            if self.only:
                raise MissingError({"llm": 1})
            message = await ask()
            await journal.paid("llm", key, _value(message))
            return message


def _value(message: AIMessage) -> dict[str, Any]:
    told = message.response_metadata
    value = {
        "content": message.content,
        "tool_calls": message.tool_calls,
        "invalid_tool_calls": message.invalid_tool_calls,
        "usage_metadata": message.usage_metadata,
        "response_metadata": {name: told[name] for name in FACTS if name in told},
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


_RECALL: ContextVar[Recall | None] = ContextVar("socratic_recall", default=None)


def current_recall() -> Recall | None:
    """Return what answers are recalled from, if anything."""
    return _RECALL.get()


@contextmanager
def recalling(recall: Recall | None) -> Iterator[None]:
    """Take the answers to all that is asked inside from where they are known."""
    token = _RECALL.set(recall)
    try:
        yield
    finally:
        _RECALL.reset(token)
