"""Sending: one request to a language model, counted, cached, and repeated if need be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import AnswerError, BudgetError, SocraticError
from socratic_agents.llm.answers import mistakes_in
from socratic_agents.llm.cache import current_cache
from socratic_agents.llm.failures import (
    FailureKind,
    classify,
    describe,
    failed_generation,
)
from socratic_agents.llm.methods import (
    PLAIN,
    Reply,
    Server,
    StructuredMethod,
    read_reply,
)
from socratic_agents.llm.refusals import Unsupported, context_limit, unsupported
from socratic_agents.llm.usage import current_meter

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

    from socratic_agents.llm.retry import RetryPolicy

__all__ = ("ContextError", "Request", "UnsupportedError", "refused", "send_request")


_EVIDENCE = frozenset({"logprobs", "top_logprobs"})


class UnsupportedError(Exception):
    """The server does not know a part of the request; sending it again is no remedy."""

    def __init__(self, what: Unsupported, problem: Exception) -> None:
        super().__init__(str(problem))
        self.what = what


class ContextError(Exception):
    """The request is longer than the model's context.

    Args:
        limit: Tokens of that context; ``0``: the server does not say.
        problem: The client's exception.
    """

    def __init__(self, limit: int, problem: Exception) -> None:
        super().__init__(describe(problem))
        self.limit = limit


@dataclass(frozen=True)
class Request:
    """What is sent, and how."""

    method: StructuredMethod
    messages: list[BaseMessage]
    options: dict[str, Any]
    """The client's, for this request: how many tokens the answer may have."""
    seconds: float | None = None
    """What it may take in all; a client's own timeout begins anew with every byte."""


async def _requested(request: Request, server: Server) -> AIMessage:
    """Send one request; what the server does not know is told from other failures."""
    try:
        async with asyncio.timeout(request.seconds):
            return await request.method.send(request.messages, **request.options)
    except Exception as problem:
        limit = context_limit(problem)
        if limit is not None:
            raise ContextError(limit, problem) from problem
        structured = request.method.name not in {PLAIN, "words"}
        what = unsupported(
            problem,
            method=structured,
            system=server.takes_system,
            sizes=structured and server.takes_sizes,
            limit=bool(request.options.keys() - _EVIDENCE),
            evidence=not request.options.keys().isdisjoint(_EVIDENCE),
        )
        if what is None:
            raise
        raise UnsupportedError(what, problem) from problem


async def send_request(asked: Request, retries: RetryPolicy) -> Reply:
    """Send a request, count it, and return the reply, a wrong one included.

    One whose answer is cached is counted alike, and not sent.
    """
    meter, cache, server = current_meter(), current_cache(), retries.server
    seconds = asked.seconds or server.timeout
    asked = replace(asked, messages=server.fit(asked.messages), seconds=seconds)

    async def request() -> AIMessage:
        # Before it is sent: what fails on the way may be billed all the same.
        meter.add_call()
        async with meter.in_time("an answer of the language model"):
            return await _requested(asked, server)

    async def wait(seconds: float) -> None:
        meter.expect_room(within=seconds)
        await retries.sleep(seconds)

    async def ask() -> AIMessage:
        return await replace(retries, sleep=wait)(request)

    try:
        if cache is None:
            message = await ask()
        else:
            key = cache.key(asked.method.cache_form, asked.messages)
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
        text = text or failed_generation(problem)
        if classify(problem) is FailureKind.CONTENT:
            raise refused(describe(problem), text) from problem
        finish = "length" if "LengthFinish" in type(problem).__name__ else ""
        return Reply(text, error=mistakes_in(problem), finish=finish)
    return read_reply(message)


def refused(cause: str, raw: str) -> AnswerError:
    """Return the error of a model, or its filter, that refuses to answer."""
    message = (
        f"expected an answer of the language model, got a refusal ({cause}); reword "
        "the user prompt or use another model"
    )
    return AnswerError(message, raw=raw)
