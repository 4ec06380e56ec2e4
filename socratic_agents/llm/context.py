"""The context: how much of a request fits what a model can read, its answer included.

Tokens are estimated from characters, since every model has a tokenizer of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socratic_agents.core.errors import AnswerError
from socratic_agents.llm.schemas import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from socratic_agents.llm.methods import Server
    from socratic_agents.llm.sending import ContextError

__all__ = (
    "ContextFit",
    "Conversation",
    "answer_options",
    "enforces_sizes",
    "estimate_tokens",
    "evidence_options",
    "has_own_server",
    "takes_sizes",
)

_NO_SIZES = ("api.openai.com", ".openai.azure.com")
"""Strict servers that refuse such keywords, wholly or for some of their models."""
_SHOWN_AGAIN = 300
"""Characters of a wrong answer that are left where the context is short."""

MOST_OVERFLOWS = 4
"""How often one call is made shorter after an error of its server."""
TIGHTER = 0.75
"""Of what was thought to fit, after a server says that it does not."""
ALTERNATIVES = 5
"""First words that a server is asked for: all of them tell so many."""
LEAST_LIMIT = 64
"""Tokens that an answer gets in a context that is all but full."""


def has_own_server(llm: BaseChatModel) -> bool:
    """Return whether a client speaks OpenAI's protocol with another server than OpenAI's."""
    client = getattr(llm, "root_async_client", None)
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
    return bool(host) and not host.endswith(_NO_SIZES)


def takes_sizes(llm: BaseChatModel) -> bool:
    """Return whether schemas may say sizes, and requests how long an answer may be.

    So it is with servers of one's own, and with models in this process that say so.
    """
    return has_own_server(llm) or enforces_sizes(llm)


def enforces_sizes(llm: BaseChatModel) -> bool:
    """Return whether a model in this process keeps to the sizes in a schema, come what may."""
    return bool(getattr(llm, "enforces_sizes", False))


def answer_options(llm: BaseChatModel, limit: int | None) -> dict[str, Any]:
    """Return how a client says how many tokens an answer has at most.

    Args:
        llm: The chat model.
        limit: The tokens; ``None``: nothing is said.
    """
    if limit is None:
        return {}
    if has_own_server(llm):
        # Not by the client's own name for it, which other servers do not know.
        given = getattr(llm, "extra_body", None) or {}
        return {"extra_body": {**given, "max_tokens": limit}}
    return {"max_tokens": limit} if "max_tokens" in type(llm).model_fields else {}


def evidence_options(llm: BaseChatModel) -> dict[str, Any]:
    """Return how a client asks how likely other first words were; none: it cannot."""
    options = {"logprobs": True, "top_logprobs": ALTERNATIVES}
    return options if options.keys() <= type(llm).model_fields.keys() else {}


def estimate_tokens(messages: Iterable[BaseMessage]) -> int:
    """Return how many tokens messages have, roughly; images are not counted."""
    return int(sum(len(one.text) for one in messages) / CHARACTERS_PER_TOKEN)


class Conversation:
    """What a model is asked, with the wrong answers that it was shown again.

    Args:
        messages: What it is asked.
        shorter: The same in fewer words, each one shorter than the one before.
    """

    def __init__(
        self,
        messages: Sequence[BaseMessage],
        shorter: Iterable[Sequence[BaseMessage]] = (),
    ) -> None:
        self._asked = list(messages)
        self._repairs: list[BaseMessage] = []
        self._shorter: Iterator[Sequence[BaseMessage]] = iter(shorter)

    @property
    def messages(self) -> list[BaseMessage]:
        """All that is sent."""
        return [*self._asked, *self._repairs]

    def add(self, *messages: BaseMessage) -> None:
        """Add a wrong answer, and what is wrong with it."""
        self._repairs += messages

    def shorten(self) -> bool:
        """Leave something out; return whether there was anything left to leave out."""
        long = [
            n for n, m in enumerate(self._repairs) if len(m.text) > _SHOWN_AGAIN + 1
        ]
        if long:
            for n in long:
                old = self._repairs[n]
                cut = f"{old.text[:_SHOWN_AGAIN]}…"
                self._repairs[n] = old.model_copy(update={"content": cut})
            return True
        shorter = next(self._shorter, None)
        if shorter is None:
            return False
        self._asked = list(shorter)
        return True

    def fit(self, tokens: float) -> None:
        """Leave out what can be, until the rest has at most so many tokens."""
        while estimate_tokens(self.messages) > tokens and self.shorten():
            pass


class ContextFit:
    """Keeps one conversation within what its model can read.

    Args:
        sent: The conversation.
        server: What is known of who answers, and what is learned here.
        largest: Tokens of the largest answer.
    """

    def __init__(self, sent: Conversation, server: Server, largest: int) -> None:
        self._sent, self._server, self._largest = sent, server, largest
        self._overflows = 0
        self._room = self._known()

    def _known(self) -> float:
        """Return how many tokens a request may have, by what is known of the context."""
        context = self._server.context
        # The largest answer is rare, and a quarter is enough for an ordinary one.
        spared = min(self._largest, (context or 0) // 4)
        return math.inf if context is None else context - spared

    def shorten(self) -> None:
        """Leave out of the conversation what does not fit."""
        self._sent.fit(self._room)

    def tighten(self, cause: ContextError, *, limited: bool) -> None:
        """Learn from a request that was too long, and make the next one shorter.

        Args:
            cause: What the server said.
            limited: Whether the request said how many tokens its answer may have, which
                some servers add to what it has.

        Raises:
            AnswerError: If there is nothing left to leave out.
        """
        server, sent = self._server, estimate_tokens(self._sent.messages)
        self._overflows += 1
        if cause.limit:
            server.context = min(cause.limit, server.context or cause.limit)
        self._room = self._known()
        answer_to_blame = limited and self._overflows == 1 and cause.limit > 0
        if not (answer_to_blame and self._room >= sent):
            self._room = min(self._room, TIGHTER * sent)
        self.shorten()
        shorter = estimate_tokens(self._sent.messages) < sent
        if self._overflows > MOST_OVERFLOWS or not (shorter or answer_to_blame):
            whole = f" of {server.context:,} tokens" if server.context else ""
            message = (
                f"expected a request that fits the language model's context{whole}, got "
                f"about {sent:,} tokens, of which nothing is left to leave out "
                f"({cause}); start its server with a longer context, or use a shorter "
                "template"
            )
            raise AnswerError(message) from cause

    def answer_limit(self) -> int:
        """Return how many tokens the answer may have at most, deliberation included."""
        server = self._server
        limit = server.max_tokens or self._largest + server.deliberation
        if server.context is None:
            return limit
        used = estimate_tokens(self._sent.messages) / TIGHTER
        return min(limit, max(int(server.context - used), LEAST_LIMIT))
