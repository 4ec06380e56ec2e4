"""The line was bad: the one place where a request is sent again.

A wrong answer is another matter; ``ask`` shows it to the model. Clients must not
retry by themselves: their attempts would multiply with these.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity
from pydantic import ValidationError

from socratic_agents.errors import CallError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from langchain_core.language_models import BaseChatModel

__all__ = ("Kind", "Retries", "classify", "server_hint", "single_attempt")

T = TypeVar("T")

_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_POLICY = frozenset({"content_policy_violation", "content_filter"})
# Known by name: importing their modules would load a whole client for a comparison.
_REFUSALS = frozenset({"OpenAIRefusalError", "ContentFilterFinishReasonError"})
_MISTAKES = frozenset({"LengthFinishReasonError", "OutputParserException"})


class Kind(StrEnum):
    """What an exception of a language model's client means for the next step."""

    RETRY = "retry"
    """The line was bad or the server busy: the same request may succeed."""
    FATAL = "fatal"
    """The same request will fail again."""
    CONTENT = "content"
    """The model or its filter refuses this content: asking again is no remedy."""
    MALFORMED = "malformed"
    """The model answered, but not in the form that was asked for."""


def classify(problem: BaseException) -> Kind:
    """Return what an exception means.

    LangChain's own mark ``is_retryable`` counts, but comes third: it is wrong for a
    spent quota, and absent from what a client raises when it stumbles over a reply.
    """
    names = {cls.__name__ for cls in type(problem).__mro__}
    codes = set(_codes(problem))
    if codes & _QUOTA:
        return Kind.FATAL
    if codes & _POLICY or names & _REFUSALS:
        return Kind.CONTENT
    if names & _MISTAKES or isinstance(problem, ValidationError):
        return Kind.MALFORMED
    retryable = getattr(problem, "is_retryable", None)
    if retryable is not None:
        return Kind.RETRY if retryable else Kind.FATAL
    status = _status(problem)
    if status is None:
        lost = isinstance(problem, (TimeoutError, ConnectionError))
        lost = lost or "TransportError" in names or _stumbled(problem)
        return Kind.RETRY if lost else Kind.FATAL
    again = status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Kind.RETRY if again else Kind.FATAL


def server_hint(problem: BaseException, *, now: float | None = None) -> float | None:
    """Return the seconds that the server asks to wait, or ``None`` if it does not.

    Args:
        problem: The client's exception; its response's headers are read.
        now: Seconds since 1970, against which a date is measured.
    """
    headers = getattr(getattr(problem, "response", None), "headers", None) or {}
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        seconds /= 1000
    else:
        text = headers.get("retry-after")
        seconds = _number(text)
        if seconds is None and text is not None:
            try:
                date = parsedate_to_datetime(text).timestamp()
            except (TypeError, ValueError, OverflowError):
                return None
            seconds = date - (time.time() if now is None else now)
    return seconds if seconds is not None and seconds > 0 else None


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How patiently a request is sent again. Calling it with a request does it."""

    attempts: int = 6
    """Requests at most, at least 1."""
    seconds: float = 180.0
    """No new attempt starts later than this after the first, in seconds."""
    longest_hint: float = 120.0
    """A server that asks to wait longer, in seconds, is not waited for."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits; the tests give one that does not."""

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
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._worth_it),
            wait=self._wait,
            stop=self._enough,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return await retrying(request)
        except Exception as problem:
            # Everything: a client of any make may raise anything, and no failure
            # of one call may end a run.
            if classify(problem) in {Kind.CONTENT, Kind.MALFORMED}:
                raise
            attempts = int(retrying.statistics["attempt_number"])
            message = f"expected an answer of the language model, {self._story(problem, attempts)}"
            raise CallError(message, attempts=attempts) from problem

    def _worth_it(self, problem: BaseException) -> bool:
        hint = server_hint(problem) or 0.0
        return classify(problem) is Kind.RETRY and hint <= self.longest_hint

    @staticmethod
    def _wait(state: tenacity.RetryCallState) -> float:
        problem = state.outcome and state.outcome.exception()
        hint = server_hint(problem) if problem else None
        if hint is not None:
            return hint
        return tenacity.wait_random_exponential(multiplier=1, max=30)(state)

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        # What was waited counts even where the tests let no time pass.
        passed = max(state.seconds_since_start or 0.0, state.idle_for)
        late = passed + state.upcoming_sleep > self.seconds
        return late or state.attempt_number >= self.attempts

    def _story(self, problem: Exception, attempts: int) -> str:
        """Return what came and what to do, for a call that failed for good."""
        status, what = _status(problem), _what(problem)
        if set(_codes(problem)) & _QUOTA:
            return f"got {what}: the quota is spent; add credit or use another model"
        if classify(problem) is Kind.FATAL:
            match status:
                case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                    advice = "check the API key and what it may use"
                case HTTPStatus.NOT_FOUND:
                    advice = "check the model's name and the base URL"
                case _:
                    advice = "correct the model's settings"
            return f"got {what}; {advice}"
        hint = server_hint(problem) or 0.0
        if hint > self.longest_hint:
            return (
                f"got {what} and the request to wait {hint:.0f} s, longer than "
                f"{self.longest_hint:.0f} s; try again then, or use another model"
            )
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        if _stumbled(problem):
            return (
                f"got something else from the server in {times} ({what}); check that "
                "the base URL is that of the chat API"
            )
        limit = f", the next one past {self.seconds:.0f} s" * (attempts < self.attempts)
        return (
            f"got {what} in {times}{limit}; check the network and the server, or try "
            "again later"
        )


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


def _number(text: str | None) -> float | None:
    """Return a finite number, or ``None`` where there is none."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _error(problem: BaseException) -> dict[str, Any]:
    """Return the error object that the server sent, or an empty one."""
    body = getattr(problem, "body", None)
    if body is None:
        try:
            body = problem.response.json()  # type: ignore[attr-defined]
        except (AttributeError, ValueError, RuntimeError):
            # No response, no JSON in it, or one that was never read.
            return {}
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _codes(problem: BaseException) -> Iterator[str]:
    for code in (
        getattr(problem, "code", None),
        *map(_error(problem).get, ("code", "type")),
    ):
        if isinstance(code, str):
            yield code


def _status(problem: BaseException) -> int | None:
    """Return the HTTP status of a failure, be it reported inside a success."""
    status = getattr(problem, "status_code", None)
    if not isinstance(status, int):
        status = _error(problem).get("code")
    known = isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST
    return status if known else None


def _stumbled(problem: BaseException) -> bool:
    """Return whether the client could not make sense of a reply of status 200.

    Clients answer to a page or an error object instead of a completion with
    whatever Python raises on the way. They attach the response where they can.
    """
    if isinstance(problem, json.JSONDecodeError):
        return True
    response = getattr(problem, "response", None)
    if getattr(response, "status_code", None) == HTTPStatus.OK:
        return True
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    # An empty list of choices. An IndexError of somebody's own model is a bug there.
    return isinstance(problem, IndexError) and place.startswith("langchain_core.")


def _what(problem: BaseException) -> str:
    """Return an exception in a few words on one line."""
    status = _status(problem)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        # Without the server's words: some servers repeat the key in them.
        return f"HTTP {status}"
    text = " ".join(str(_error(problem).get("message") or problem).split())
    text = text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - a line
    name = type(problem).__name__ if status is None else f"HTTP {status}"
    return f"{name} ({text})" if text else name
