"""Structured calls of a language model: the only place where one is called.

Two remedies with two names. A wrong answer is a validation retry: it is shown to the
model together with what is wrong with it, here. A network error is the matter of
``retry``.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from socratic_agents.core.errors import AnswerError, CallError
from socratic_agents.core.text import printable_line
from socratic_agents.llm.answers import (
    SHOWN,
    UnreadableError,
    after_deliberation,
    mistakes_in,
    read_answer,
)
from socratic_agents.llm.cache import current_cache
from socratic_agents.llm.context import (
    ContextFit,
    Conversation,
    answer_options,
    enforces_sizes,
    evidence_options,
    takes_sizes,
)
from socratic_agents.llm.methods import (
    IN_PROMPT,
    METHODS,
    MOST_DELIBERATION,
    PLAIN,
    Reply,
    Server,
    StructuredMethod,
    below,
    open_method,
)
from socratic_agents.llm.refusals import unexplained
from socratic_agents.llm.retry import RetryPolicy, single_attempt
from socratic_agents.llm.schemas import largest_answer, schema_of
from socratic_agents.llm.sending import (
    ContextError,
    Request,
    UnsupportedError,
    refused,
    send_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

__all__ = ("StructuredCaller",)

_log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT", bound=BaseModel)

VALIDATION_RETRIES = 2
"""How often a wrong answer is shown to the model again."""
MOST_REQUESTS = 1 + VALIDATION_RETRIES
"""Of one call, without those that are repeated after network errors."""
MOST_FAILURES = 3
"""Answers in a row that stayed wrong, after which wrong ones are not shown again."""
MOST_LETTERS = 6000
"""Tokens of an answer that is written letter by letter."""
QUOTED = 200
"""Characters of the model's own words in the log."""
CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""How providers say that an answer was cut off."""


class StructuredCaller(Generic[AnswerT]):
    """Calls a language model for answers of one type; made once, called often.

    It is held to the answer's form by the strictest method that client and server know,
    and asked in words alone where they know none. A client that retries on its own is
    kept from doing so.

    Args:
        llm: Any LangChain chat model.
        answer: The pydantic model of the answer. Its JSON schema is sent, so it has
            no defaults and forbids extra fields.
        validation_retries: How often, at least 0, a wrong answer is shown to the model with
            what is wrong, and asked for again.
        retries: How often a failed request is sent again, and at what rate.
        most: List in the answer to how many items it holds at most.
        stop: What ends an answer in plain text, which the answer's ``from_text`` reads;
            ``None``: it is asked for JSON.
        evidence: Ask how likely other first words were; ``from_text`` is given them as
            a second argument where the server tells.
    """

    def __init__(
        self,
        llm: BaseChatModel,
        answer: type[AnswerT],
        *,
        validation_retries: int = VALIDATION_RETRIES,
        retries: RetryPolicy | None = None,
        most: Mapping[str, int] | None = None,
        stop: Sequence[str] | None = None,
        evidence: bool = False,
    ) -> None:
        self._given, self._answer, self._most = llm, answer, most or {}
        self._validation_retries, self._retries = (
            validation_retries,
            retries or RetryPolicy(),
        )
        self._stop, self._evidence = stop, evidence
        self._methods: dict[tuple[str, bool], StructuredMethod | None] = {}
        self._failures = 0

    async def __call__(
        self,
        messages: Sequence[BaseMessage],
        *,
        check: Callable[[AnswerT], object] | None = None,
        shorter: Iterable[Sequence[BaseMessage]] = (),
    ) -> AnswerT:
        """Ask, and return the answer, validated.

        Args:
            messages: What the model is asked; at least one message.
            check: Further conditions on a valid answer; raises ``ValueError`` with
                words for the model.
            shorter: The messages in fewer words, each time fewer, for a model whose
                context they do not fit.

        Raises:
            AnswerError: If the answer stayed wrong, the model refused, or the request
                does not fit its context; ``raw`` is what it wrote last.
            CallError: If the call itself failed for good.
            BudgetError: If the budget of the meter in force has no room for a
                request, be it the first one, a validation retry or a repetition; it is
                not sent.

        Source:
            Showing a model its own output with the error is what the retrying chat
            model of magentic does.
        """
        from langchain_core.messages import AIMessage, HumanMessage

        sent, left = Conversation(messages, shorter), self._validation_retries
        if self._failures >= MOST_FAILURES or self._continues:
            left = 0  # it was never of any use, or the model knows no conversations
        before = ""
        while True:
            method, reply = await self._reply(sent)
            try:
                answer = self._read(method, reply, check)
            except _Mistake as mistake:
                if left <= 0 or reply.written == before != "":
                    self._note_failure(reply)
                    message = (
                        f"expected {self._answer.__name__} of the language model, got "
                        f"an answer that stayed wrong ({mistake}); use a more capable "
                        "model or a simpler template"
                    )
                    raise AnswerError(message, raw=reply.written) from mistake
                left, before = left - 1, reply.written
                sent.add(
                    # Some providers refuse a message without text.
                    AIMessage(reply.written[:SHOWN] or "(empty)"),
                    HumanMessage(
                        f"That answer cannot be used: {mistake}. Answer again, in "
                        "full, in the form that was asked for."
                    ),
                )
            else:
                self._failures = 0
                return answer

    def _note_failure(self, reply: Reply) -> None:
        """Count an answer that stayed wrong; say once what the model writes."""
        self._failures += 1
        if self._failures == MOST_FAILURES:
            _log.warning(
                "%d answers in a row stayed wrong as %s; the next ones are not shown to "
                "the language model again. It wrote: %s",
                MOST_FAILURES,
                self._answer.__name__,
                printable_line(reply.written)[:QUOTED] or "(nothing)",
            )

    async def _reply(self, sent: Conversation) -> tuple[str, Reply]:
        """Return a method and the reply to it, by the strictest that the server knows.

        A server says in its own words what it does not know, and often not which part
        of the request it means. Only what answers proves anything about the ones above.
        """
        server, first = self._retries.server, None
        fit = ContextFit(sent, server, self._largest)
        name = self._cached(sent) or self._names[0]
        while True:
            fit.shorten()
            method = self._method(name)
            if method is None:
                name = below(name)
                continue
            limit = fit.answer_limit() if self._limited(server) else None
            options = answer_options(self._llm, limit) | self._ending
            if self._evidence and server.takes_evidence:
                options |= evidence_options(self._llm)
            request = Request(method, sent.messages, options, self._seconds)
            try:
                reply = await send_request(request, self._retries)
            except CallError as problem:
                cause = problem.__cause__
                if isinstance(cause, UnsupportedError):
                    name = server.lack(cause.what, name)
                elif isinstance(cause, ContextError):
                    fit.tighten(cause, limited=limit is not None)
                elif first is not None:
                    server.takes_limit = True
                    first.attempts += problem.attempts
                    raise first from first.__cause__
                elif self._may_be_the_method(name) and unexplained(cause):
                    # Whether the method was to blame, the words alone will show.
                    first, name = problem, "words"
                    server.takes_limit = False
                else:
                    raise
                continue
            if first is not None:
                server.rung = name
            return name, reply if self._evidence else replace(reply, first_word={})

    def _read(
        self, method: str, reply: Reply, check: Callable[[AnswerT], object] | None
    ) -> AnswerT:
        """Return the validated answer, or raise what is wrong with it."""
        server = self._retries.server
        try:
            answer = _read(reply, self._answer, self._stop)
            if method in IN_PROMPT:
                _expect_own(answer)
        except _Mistake:
            if reply.finish in CUT and "{" not in reply.written:
                server.deliberation = min(2 * server.deliberation, MOST_DELIBERATION)
            elif reply.finish not in CUT and method not in server.proven:
                # Nothing right ever came this way: the server may take a schema and
                # pass it over, so that the model has never seen it.
                server.step_down(method, to="words")
            raise
        server.proven.add(method)
        if check is not None:
            try:
                check(answer)
            except ValueError as problem:
                raise _Mistake(mistakes_in(problem)) from problem
        return answer

    def _cached(self, sent: Conversation) -> str | None:
        """Return the method by which a request was answered before, if it was.

        In a replay, a request that had to be made shorter is made so again.
        """
        cache, server = current_cache(), self._retries.server
        if cache is None:
            return None
        while True:
            asked = server.fit(sent.messages)
            for name in self._names:
                method = self._method(name)
                if method and cache.knows(cache.key(method.cache_form, asked)):
                    return name
            if not cache.replay_only or not sent.shorten():
                return None

    @property
    def _names(self) -> list[str]:
        """The methods by which it may be asked, the one that is thought to hold first."""
        if self._stop is not None:
            return [PLAIN]
        rung = self._retries.server.rung
        return [rung, *(name for name in METHODS if name != rung)]

    def _may_be_the_method(self, name: str) -> bool:
        """Return whether a refusal without a cause may mean how it was asked."""
        return name not in {PLAIN, "words"} and not self._retries.server.proven

    @property
    def _continues(self) -> bool:
        """Whether it is a base model, of ``completion``, which is loaded with it alone."""
        return type(self._given).__name__ == "CompletionModel"

    @property
    def _ending(self) -> dict[str, Any]:
        """How a base model is told where to stop; chat models do by themselves."""
        return {"stop": list(self._stop)} if self._continues and self._stop else {}

    # Built when first asked: a schema takes longer than all else that we do for a call.

    @cached_property
    def _llm(self) -> BaseChatModel:
        return single_attempt(self._given)

    @cached_property
    def _takes_sizes(self) -> bool:
        return takes_sizes(self._llm)

    @cached_property
    def _seconds(self) -> float | None:
        """What its client was told that a request may take."""
        names = ("request_timeout", "default_request_timeout", "timeout")
        told = (getattr(self._llm, name, None) for name in names)
        # A moment more: the client's own error says more, where it comes at all.
        return next((s + 0.2 for s in told if isinstance(s, int | float) and s), None)

    @cached_property
    def _schema(self) -> dict[str, Any]:
        return schema_of(self._answer, self._most)

    @cached_property
    def _largest(self) -> int:
        most = largest_answer(self._schema)
        if not enforces_sizes(self._llm):
            return most
        # It writes no words around it, but each letter may take a token of its own.
        return min(largest_answer(self._schema, per_token=1), max(most, MOST_LETTERS))

    def _limited(self, server: Server) -> bool:
        """Return whether a request says how many tokens its answer may have.

        OpenAI's own models deliberate within that limit, for as long as they see fit:
        they get none, unless somebody sets it.
        """
        return server.takes_limit and bool(server.max_tokens or self._takes_sizes)

    def _method(self, name: str) -> StructuredMethod | None:
        sized = self._takes_sizes and self._retries.server.takes_sizes
        key = (name, sized)
        if key not in self._methods:
            schema = self._schema if sized else None
            self._methods[key] = open_method(self._llm, self._answer, name, schema)
        return self._methods[key]


class _Mistake(Exception):  # noqa: N818 - the model's, not ours
    """What is wrong with an answer, in words for the model that wrote it."""


def _read(reply: Reply, answer: type[AnswerT], stop: Sequence[str] | None) -> AnswerT:
    """Return the answer that a reply holds, or raise what is wrong with it."""
    if reply.refusal:
        raise refused(reply.refusal, reply.written)
    if reply.finish in CUT and stop is None:
        message = "it was cut off at the length limit; be shorter"
        raise _Mistake(message)
    try:
        return read_answer(
            reply.text,
            answer,
            calls=reply.calls,
            example=getattr(answer, "EXAMPLE", None),
        )
    except UnreadableError as problem:
        if stop is not None:
            plain: AnswerT = _from_text(reply, answer, stop)
            return plain
        empty = not reply.written.strip()
        raise _Mistake((empty and reply.error) or str(problem)) from problem


def _from_text(reply: Reply, answer: Any, stop: Sequence[str]) -> Any:
    """Return the answer that plain text is, up to where it runs on or breaks off."""
    try:
        said = whole = after_deliberation(reply.text, "").strip()
        if whole.startswith(("{", "[")):
            message = "it is JSON that cannot be read; answer in plain text"
            raise _Mistake(message)
        for end in stop:
            said = said.partition(end)[0]
        if reply.finish in CUT and said == whole:
            said = said.rpartition("\n")[0] or said
        first_word = [reply.first_word] if reply.first_word else []
        return answer.from_text(said, *first_word)
    except ValueError as problem:
        raise _Mistake(mistakes_in(problem)) from problem


def _expect_own(answer: BaseModel) -> None:
    """Refuse the example that was shown, if it holds a phrase: it is about nothing here."""
    example = getattr(answer, "EXAMPLE", None)
    holds_phrase = " " in json.dumps(example, separators=(",", ":"))
    if holds_phrase and answer == type(answer).model_validate(example):
        message = "it repeats the example; give your own answer"
        raise _Mistake(message)
