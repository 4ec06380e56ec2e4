"""Network errors: the one place where a request is sent again.

A wrong answer is another matter; see ``structured``. Clients must not
retry by themselves: their attempts would multiply with these.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import tenacity

from socratic_agents.core.errors import (
    CallError,
    ConfigurationError,
    ServerDownError,
    SocraticError,
)
from socratic_agents.llm.circuit_breaker import CircuitBreaker
from socratic_agents.llm.failures import (
    FailureKind,
    advice,
    classify,
    describe,
    redact,
    timed_out,
    unreachable,
)
from socratic_agents.llm.methods import Server
from socratic_agents.network.server_errors import server_hint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.network.rate_limit import RateLimiter

__all__ = ("RetryPolicy", "single_attempt")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a request is sent again. Calling it with a request sends it."""

    attempts: int = 6
    """Requests at most, at least 1."""
    seconds: float = 180.0
    """No new attempt starts later than this after the first, in seconds."""
    longest_hint: float = 120.0
    """A server that asks to wait longer, in seconds, is not waited for."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits; the tests give one that does not."""
    rate_limiter: RateLimiter | None = None
    """Where each attempt waits its turn, which is no part of ``seconds``."""
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    """Holds requests back while the server is down; one for all that ask it."""
    server: Server = field(default_factory=Server)
    """What is known of who answers; one for all that ask the same model."""

    def __post_init__(self) -> None:
        """Refuse numbers under which nothing would ever be sent."""
        if self.attempts < 1:
            message = (
                f"expected at least 1 attempt, got {self.attempts}; give 1 or more"
            )
            raise ConfigurationError(message)

    async def __call__(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send a request, again if need be, and return its result.

        The server's own hint decides how long to wait; without one, the wait is
        random between nothing and a limit that doubles from 1 s to 30 s.

        Raises:
            CallError: If it failed for good. What is ``CONTENT`` or ``MALFORMED``
                is raised as it came: sending it again is no remedy.

        Source:
            M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
            2015 (full jitter).
        """
        waited = 0.0

        async def attempt() -> T:
            nonlocal waited
            await self.breaker.pass_through(self.sleep)
            if self.rate_limiter is None:
                return await self._noted(request)
            async with self.rate_limiter.turn() as seconds:
                waited += seconds
                sent = self.rate_limiter.now()
                try:
                    return await self._noted(request)
                except Exception as problem:
                    if timed_out(problem):
                        self.rate_limiter.timed_out(sent)
                    raise

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._worth_it),
            wait=self._wait,
            stop=lambda state: self._enough(state, waited),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except Exception as problem:
            # Everything: a client of any make may raise anything, and no failure
            # of one call may end a run.
            redact(problem)
            if classify(problem) in {FailureKind.CONTENT, FailureKind.MALFORMED}:
                raise
            attempts = int(retrying.statistics["attempt_number"])
            message = f"expected an answer of the language model, {self._story(problem, attempts)}"
            down = self.breaker.given_up and unreachable(problem)
            kind = ServerDownError if down else CallError
            raise kind(message, attempts=attempts) from problem

    async def _noted(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send a request, and note whether it reached the server."""
        sent = self.breaker.openings
        try:
            result = await request()
        except BaseException as problem:
            if unreachable(problem):
                self.breaker.failed(sent)
            elif not isinstance(problem, Exception) or _shows_nothing(problem):
                self.breaker.abandoned(sent)
            else:
                self.breaker.answered(sent)
            raise
        self.breaker.answered(sent)
        return result

    def _worth_it(self, problem: BaseException) -> bool:
        hint = server_hint(problem) or 0.0
        return classify(problem) is FailureKind.RETRY and hint <= self.longest_hint

    def _wait(self, state: tenacity.RetryCallState) -> float:
        if self.breaker.open:
            return 0.0  # the wait is there
        problem = state.outcome and state.outcome.exception()
        hint = server_hint(problem) if problem else None
        if hint is not None:
            return hint
        return tenacity.wait_random_exponential(multiplier=1, max=30)(state)

    def _enough(self, state: tenacity.RetryCallState, waited: float) -> bool:
        problem = state.outcome and state.outcome.exception()
        if (
            self.breaker.open
            and isinstance(problem, Exception)
            and unreachable(problem)
        ):
            return self.breaker.given_up
        # What was slept counts even where the tests let no time pass.
        passed = max((state.seconds_since_start or 0.0) - waited, state.idle_for)
        late = passed + state.upcoming_sleep > self.seconds
        return late or state.attempt_number >= self.attempts

    def _story(self, problem: Exception, attempts: int) -> str:
        """Return what came and what to do, for a call that failed for good."""
        what, remedy = describe(problem), advice(problem)
        if classify(problem) is FailureKind.FATAL:
            return f"got {what}; {remedy}"
        if self.breaker.given_up and unreachable(problem):
            return (
                f"got {what} for {self.breaker.seconds:.0f} s; start the server, and run "
                "the same command again"
            )
        hint = server_hint(problem) or 0.0
        if hint > self.longest_hint:
            return (
                f"got {what} and the request to wait {hint:.0f} s, longer than "
                f"{self.longest_hint:.0f} s; try again then, or use another model"
            )
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        limit = f", the next one past {self.seconds:.0f} s" * (attempts < self.attempts)
        return f"got {what} in {times}{limit}; {remedy}"


def _shows_nothing(problem: Exception) -> bool:
    """Return whether a failure tells nothing of the server: it was never asked, or slow."""
    return isinstance(problem, SocraticError) or timed_out(problem)


def single_attempt(llm: BaseChatModel) -> BaseChatModel:
    """Return the model with its client's own retries turned off.

    Clients retry on their own (OpenAI's twice), unseen and on top of ours. A model
    that has a field ``max_retries`` is copied with 0; the given one stays as it is.
    """
    if getattr(llm, "max_retries", 0) == 0:
        return llm
    copy = llm.model_copy(update={"max_retries": 0})
    # The clients were built with the old number. They share the connections.
    for name, client in list(vars(copy).items()):
        if hasattr(client, "with_options"):
            vars(copy)[name] = client.with_options(max_retries=0)
    for name, root in (
        ("client", "root_client"),
        ("async_client", "root_async_client"),
    ):
        if name in vars(copy) and getattr(copy, root, None) is not None:
            vars(copy)[name] = getattr(copy, root).chat.completions
    return copy
