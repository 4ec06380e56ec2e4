"""What a failed call means: reading the exceptions of language models' clients."""

from __future__ import annotations

import json
import math
import re
import time
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from socratic_agents.core.text import one_line, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = (
    "FailureKind",
    "Unsupported",
    "advice",
    "classify",
    "describe",
    "failed_generation",
    "redact",
    "server_hint",
    "timed_out",
    "unexplained",
    "unreachable",
    "unsupported",
)

_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_ABOUT_KEYS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""Their words are about the key, and may hold it, whole or in part."""
LINE = 200
"""Characters of a server's words that are quoted."""
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_POLICY = frozenset({"content_policy_violation", "content_filter"})
# Known by name: importing their modules would load a whole client for a comparison.
_REFUSALS = frozenset({"OpenAIRefusalError", "ContentFilterFinishReasonError"})
_MISTAKES = frozenset({"LengthFinishReasonError", "OutputParserException"})
_NO_CONNECTION = frozenset({"APIConnectionError", "ConnectError", "NetworkError"})
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException"})
_UNREADABLE = frozenset({"json_validate_failed"})
"""How a server says that it could not hold the model to the schema."""
_METHOD = re.compile(
    r"response[_ ]?(?:format|schema)|json[_ -]?(?:schema|mode|object)|structured[_ -]?"
    r"output|guided[_ ](?:json|decoding)|grammar|outlines|additional ?properties|"
    r"tool[_ ]?(?:choice|use|call)|\btools\b|function[_ -]?call|requested parameters",
    re.IGNORECASE,
)
"""What a server names that does not know a method."""
_SYSTEM = re.compile(
    r"(?:system|developer)[ _-]?(?:role|message|prompt|instruction)s?\b.{0,60}?"
    r"(?:not|n't|un)[ -]?(?:\w+ )?(?:support|allow|enabled|permitted)|"
    r"(?:not|n't|un)[ -]?(?:\w+ )?support\w*.{0,40}?(?:system|developer)[ _-]?"
    r"(?:role|message|prompt|instruction)|roles must alternate|"
    r"role.{0,20}system.{0,40}(?:not|invalid|unknown|unexpected)|"
    r"role.{0,40}(?:not|invalid|unknown|unexpected).{0,20}system|"
    r"(?:invalid|unknown|unexpected|unsupported).{0,20}role.{0,20}system",
    re.IGNORECASE,
)
"""How a server says that its model knows no system messages."""
_OTHER_CAUSE = re.compile(
    r"\bcontext\b|\btokens?\b|\bmodels?\b|too long|\bkey\b|credit|billing|quota|"
    r"temperature|\bimages?\b",
    re.IGNORECASE,
)
"""What a server names where a bad request is no matter of the method."""
_BAD_REQUEST = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)


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


class Unsupported(StrEnum):
    """What of a request a server does not know."""

    METHOD = "method"
    """The structured output that it was asked for."""
    SYSTEM = "system"
    """Messages of the system."""


def classify(problem: BaseException) -> FailureKind:
    """Return what an exception means.

    LangChain's own mark ``is_retryable`` counts, but comes third: it is wrong for a
    spent quota, and absent from what a client raises when it stumbles over a reply.
    """
    names = {cls.__name__ for cls in type(problem).__mro__}
    codes = set(_codes(problem))
    if codes & _QUOTA:
        return FailureKind.FATAL
    if codes & _POLICY or names & _REFUSALS:
        return FailureKind.CONTENT
    wrong = names & _MISTAKES or codes & _UNREADABLE
    if wrong or isinstance(problem, ValidationError):
        return FailureKind.MALFORMED
    retryable = getattr(problem, "is_retryable", None)
    if retryable is not None:
        return FailureKind.RETRY if retryable else FailureKind.FATAL
    status = _status(problem)
    if status is None:
        lost = isinstance(problem, (TimeoutError, ConnectionError))
        lost = lost or "TransportError" in names or _stumbled(problem)
        # A connection that was kept from an event loop which has ended since.
        lost = lost or "Event loop is closed" in str(problem)
        return FailureKind.RETRY if lost else FailureKind.FATAL
    again = status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return FailureKind.RETRY if again else FailureKind.FATAL


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


def unsupported(
    problem: BaseException, *, method: bool, system: bool
) -> Unsupported | None:
    """Return what of the request the server says that it does not know, if it does.

    The words decide and not the status: servers say it with 400, 404, 422 and 500.

    Args:
        problem: The client's exception.
        method: Whether the request asked for structured output.
        system: Whether it may have held a message of the system.
    """
    status = _status(problem)
    kinds = {FailureKind.RETRY, FailureKind.FATAL}
    if status is None or status in _ABOUT_KEYS or classify(problem) not in kinds:
        return None
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return None
    words = words_of(_body(problem)) or str(problem)
    if system and _SYSTEM.search(words):
        return Unsupported.SYSTEM
    return Unsupported.METHOD if method and _METHOD.search(words) else None


def unexplained(problem: BaseException | None) -> bool:
    """Return whether a server calls a request bad, and does not say why.

    Any part of it may be the cause, the structured output that it asks for too.
    """
    if problem is None or _status(problem) not in _BAD_REQUEST:
        return False
    return not _OTHER_CAUSE.search(words_of(_body(problem)) or str(problem))


def unreachable(problem: BaseException) -> bool:
    """Return whether a request found no server at its address."""
    names = {cls.__name__ for cls in type(problem).__mro__}
    lost = isinstance(problem, ConnectionError) or bool(names & _NO_CONNECTION)
    return lost and not timed_out(problem)


def timed_out(problem: BaseException) -> bool:
    """Return whether the server was too slow."""
    names = {cls.__name__ for cls in type(problem).__mro__}
    return isinstance(problem, TimeoutError) or bool(names & _TIMEOUTS)


def failed_generation(problem: BaseException) -> str:
    """Return what the model wrote where a server refuses it as no valid JSON."""
    return str(_error(problem).get("failed_generation") or "")


def describe(problem: BaseException) -> str:
    """Return an exception in a few words on one line, without the key it was sent with.

    Some servers repeat the request's key in what they complain of, and messages end
    up in logs and reports.
    """
    status = _status(problem)
    if status in _ABOUT_KEYS:
        return f"HTTP {status}"
    text = words_of(_body(problem)) or one_line(problem)
    text = _without(_keys(problem), text)
    text = text if len(text) <= LINE else f"{text[:LINE]}…"
    name = type(problem).__name__ if status is None else f"HTTP {status}"
    return f"{name} ({text})" if text else name


def redact(problem: BaseException) -> None:
    """Take the key out of an exception and of all that led to it, in place.

    Whoever prints a traceback prints their words too.
    """
    keys, left, seen = _keys(problem), [problem], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if _status(one) in _ABOUT_KEYS:
            one.args = (describe(one),)
        one.args = tuple(
            _without(keys, arg) if isinstance(arg, str) else arg for arg in one.args
        )
        left += [each for each in (one.__cause__, one.__context__) if each is not None]


def advice(problem: BaseException) -> str:
    """Return what a person can do about a call that failed for good."""
    if set(_codes(problem)) & _QUOTA:
        return "the quota is spent: add credit or use another model"
    if classify(problem) is FailureKind.FATAL:
        return _CURES.get(_status(problem), "correct the model's settings")
    if timed_out(problem):
        return "a slow server needs a higher timeout, or a lower llm_concurrency"
    if _stumbled(problem):
        return "check that the base URL is that of the chat API"
    return "check the network and the server, or try again later"


_CURES: dict[int | None, str] = {
    HTTPStatus.UNAUTHORIZED: "check the API key and what it may use",
    HTTPStatus.FORBIDDEN: "check the API key and what it may use",
    HTTPStatus.NOT_FOUND: "check the model's name and the base URL",
}


def _number(text: str | None) -> float | None:
    """Return a finite number, or ``None`` where there is none."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _body(problem: BaseException) -> Any:
    """Return the body that the server sent, as JSON says it; ``None`` if there is none."""
    body = getattr(problem, "body", None)
    if body is None:
        try:
            body = problem.response.json()  # type: ignore[attr-defined]
        except (AttributeError, ValueError, RuntimeError):
            # No response, no JSON in it, or one that was never read.
            return None
    return body


def _error(problem: BaseException) -> dict[str, Any]:
    """Return the error object that the server sent, or an empty one."""
    body = _body(problem)
    if isinstance(body, list) and body:
        body = body[0]  # as Google's servers wrap it
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _keys(problem: BaseException) -> list[str]:
    """Return the secrets that the failed request carried."""
    names = ("authorization", "api-key", "x-api-key")
    try:
        request = getattr(problem, "request", None) or problem.response.request  # type: ignore[attr-defined]
        sent = [request.headers.get(name, "") for name in names]
    except (AttributeError, RuntimeError):
        return []  # no request, or one that was never attached
    return [key for value in sent if (key := value.removeprefix("Bearer "))]


def _without(keys: Iterable[str], text: str) -> str:
    """Return a text without keys, be they quoted in JSON or as Python does."""
    for key in keys:
        for written in (key, json.dumps(key)[1:-1], repr(key)[1:-1]):
            text = text.replace(written, "[key]")
    return text


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
