"""What a failed call means: reading the exceptions of language models' clients."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from http import HTTPStatus

from pydantic import ValidationError

from socratic_agents.core.text import one_line, words_of
from socratic_agents.network.server_errors import (
    ABOUT_KEYS,
    body_of,
    codes_of,
    error_of,
    keys_of,
    status_of,
    without_keys,
)

__all__ = (
    "FailureKind",
    "advice",
    "classify",
    "describe",
    "failed_generation",
    "redact",
    "timed_out",
    "unreachable",
)

_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
LINE = 200
"""Characters of a server's words that are quoted."""
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_POLICY = frozenset({"content_policy_violation", "content_filter"})
# Known by name: importing their modules would load a whole client for a comparison.
_REFUSALS = frozenset({"OpenAIRefusalError", "ContentFilterFinishReasonError"})
_MISTAKES = frozenset({"LengthFinishReasonError", "OutputParserException"})
_NO_CONNECTION = frozenset({"ConnectError"})
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException"})
_UNREADABLE = frozenset({"json_validate_failed"})
"""How a server says that it could not hold the model to the schema."""
_BLIND = re.compile(
    r"(?:not|n't|un)[ -]?(?:\w+ )?support\w*.{0,30}?\b(?:image|vision|multi-?modal)|"
    r"\b(?:image|vision|multi-?modal)\b.{0,30}?(?:not|n't|un)[ -]?(?:\w+ )?support|"
    r"no endpoints.{0,30} support image|is not a multi-?modal model|\bmmproj\b",
    re.IGNORECASE,
)
"""How a server says that its model sees no images."""


class FailureKind(StrEnum):
    """What an exception of a language model's client means for the next step."""

    RETRY = "retry"
    """A network error or a busy server: the same request may succeed."""
    FATAL = "fatal"
    """The same request will fail again."""
    CONTENT = "content"
    """The model or its filter refuses this content: asking again is no remedy."""
    MALFORMED = "malformed"
    """The model answered, but not in the form that was asked for."""


def classify(problem: BaseException) -> FailureKind:
    """Return what an exception means.

    LangChain's own mark ``is_retryable`` counts, but comes third: it is wrong for a
    spent quota, and absent from what a client raises when it stumbles over a reply.
    """
    names = {cls.__name__ for cls in type(problem).__mro__}
    codes = set(codes_of(problem))
    if codes & _QUOTA:
        return FailureKind.FATAL
    if codes & _POLICY or names & _REFUSALS:
        return FailureKind.CONTENT
    wrong = names & _MISTAKES or codes & _UNREADABLE
    if wrong or isinstance(problem, ValidationError):
        return FailureKind.MALFORMED
    retryable = getattr(problem, "is_retryable", None)
    if retryable is not None:
        retryable = retryable and not _blind(problem)
        return FailureKind.RETRY if retryable else FailureKind.FATAL
    status = status_of(problem)
    if status is None:
        lost = isinstance(problem, (TimeoutError, ConnectionError))
        lost = lost or "TransportError" in names or _stumbled(problem)
        # A connection that was kept from an event loop which has ended since.
        lost = lost or "Event loop is closed" in str(problem)
        return FailureKind.RETRY if lost else FailureKind.FATAL
    again = status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    again = again and not _blind(problem)
    return FailureKind.RETRY if again else FailureKind.FATAL


def unreachable(problem: BaseException) -> bool:
    """Return whether a request found no server at its address.

    One that hangs up has been found: it may do so because of this one request.
    """
    left: BaseException | None = problem
    for _ in range(8):  # clients wrap each other's errors
        if left is None:
            return False
        names = {cls.__name__ for cls in type(left).__mro__}
        if isinstance(left, ConnectionRefusedError) or names & _NO_CONNECTION:
            return not timed_out(problem)
        left = left.__cause__ or left.__context__
    return False


def timed_out(problem: BaseException) -> bool:
    """Return whether the server was too slow."""
    names = {cls.__name__ for cls in type(problem).__mro__}
    return isinstance(problem, TimeoutError) or bool(names & _TIMEOUTS)


def failed_generation(problem: BaseException) -> str:
    """Return what the model wrote where a server refuses it as no valid JSON."""
    return str(error_of(problem).get("failed_generation") or "")


def describe(problem: BaseException) -> str:
    """Return an exception in a few words on one line, without the key it was sent with.

    Some servers repeat the request's key in what they complain of, and messages end
    up in logs and reports.
    """
    status = status_of(problem)
    # A completion that was withheld is a body too, but no complaint.
    said = words_of(body_of(problem), anywhere=status is not None)
    text = said or one_line(problem)
    text = without_keys(keys_of(problem), text)
    if status in ABOUT_KEYS and _OF_KEYS.search(text):
        return f"HTTP {status}"
    text = text if len(text) <= LINE else f"{text[:LINE]}…"
    name = type(problem).__name__ if status is None else f"HTTP {status}"
    return f"{name} ({text})" if text else name


_OF_KEYS = re.compile(
    r"key|token|bearer|credential|secret|password|authori[sz]|authenticat|[*•…]|\.\.\.|x{4}",
    re.IGNORECASE,
)
"""Words that may hold a key in a form that nobody would recognize."""


def redact(problem: BaseException) -> None:
    """Take the key out of an exception and of all that led to it, in place.

    Whoever prints a traceback prints their words too.
    """
    keys, left, seen = keys_of(problem), [problem], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if status_of(one) in ABOUT_KEYS:
            one.args = (describe(one),)
        one.args = tuple(
            without_keys(keys, arg) if isinstance(arg, str) else arg for arg in one.args
        )
        left += [each for each in (one.__cause__, one.__context__) if each is not None]


def advice(problem: BaseException) -> str:
    """Return what a person can do about a call that failed for good."""
    if set(codes_of(problem)) & _QUOTA:
        return "the quota is spent: add credit or use another model"
    if _blind(problem):
        return "choose a model that sees images, or templates that show none"
    if classify(problem) is FailureKind.FATAL:
        return _CURES.get(status_of(problem), "correct the model's settings")
    if timed_out(problem):
        return "a slow server needs a higher timeout, or a lower llm_concurrency"
    if _stumbled(problem):
        return "check that the base URL is that of the chat API"
    return "check the network and the server, or try again later"


def _blind(problem: BaseException) -> bool:
    """Return whether a server says, by whatever status, that its model sees nothing."""
    words = words_of(body_of(problem), anywhere=True)
    return status_of(problem) is not None and bool(_BLIND.search(words or str(problem)))


_CURES: dict[int | None, str] = {
    HTTPStatus.UNAUTHORIZED: "check the API key and what it may use",
    HTTPStatus.FORBIDDEN: "check the API key and what it may use",
    HTTPStatus.NOT_FOUND: "check the model's name and the base URL",
}


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
