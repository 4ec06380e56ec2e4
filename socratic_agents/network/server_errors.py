"""What a server says in an error: its body, its status, its wishes, without our keys."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = (
    "ABOUT_KEYS",
    "body_of",
    "codes_of",
    "error_of",
    "keys_of",
    "server_hint",
    "status_of",
    "without_keys",
)

ABOUT_KEYS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""Their words are about the key, and may hold it, whole or in part."""
NO_KEYS = frozenset({"", "none"})
"""What is sent where a client asks for a key and the server does not."""
PART = 6
"""Characters of a key in a row that are no coincidence."""
_MASKED = r"(?:[*•]{2,}|\.{3,}|…|[xX]{4,})[\w\-+/=]{0,12}"
"""What servers write after the first characters of a key that they show in part."""
_WAIT = re.compile(
    r"(?:try|retry|again|wait|available|resets?)\b[^.\d]{0,40}?"
    r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|"
    r"h|hours?)(?![a-z])\s*)+)",
    re.IGNORECASE,
)
"""How a server says in words when to come back: "try again in 1m30.5s"."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([msh][a-z]*)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "milli": 0.001, "m": 60.0, "s": 1.0, "h": 3600.0}
"""Of time, in seconds, by how they begin; the first that fits."""
_WISHES = {"retry_after_ms": 0.001, "retry_after": 1.0, "retryAfter": 1.0}
"""Members of a body that say when to come back, each with its unit in seconds."""


def body_of(problem: BaseException) -> Any:
    """Return the body that the server sent, as JSON says it; ``None`` if there is none."""
    body = getattr(problem, "body", None)
    if body is None:
        try:
            body = problem.response.json()  # type: ignore[attr-defined]
        except (AttributeError, ValueError, RuntimeError):
            # No response, no JSON in it, or one that was never read.
            return None
    return body


def error_of(problem: BaseException) -> dict[str, Any]:
    """Return the error object that the server sent, or an empty one."""
    body = body_of(problem)
    if isinstance(body, list) and body:
        body = body[0]  # as Google's servers wrap it
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def codes_of(problem: BaseException) -> Iterator[str]:
    """Return the words by which programs know the error."""
    error = error_of(problem)
    codes = (getattr(problem, "code", None), error.get("code"), error.get("type"))
    yield from (code for code in codes if isinstance(code, str))


def status_of(problem: BaseException) -> int | None:
    """Return the HTTP status of a failure, be it reported inside a success."""
    status = getattr(problem, "status_code", None)
    if not isinstance(status, int):
        status = error_of(problem).get("code")
    known = isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST
    return status if known else None


def server_hint(problem: BaseException, *, now: float | None = None) -> float | None:
    """Return the seconds that the server asks to wait, or ``None`` if it does not.

    Args:
        problem: The client's exception; its response's headers are read, and where
            they say nothing, its body.
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
                date = -math.inf
            seconds = date - (time.time() if now is None else now)
        if text is None and status_of(problem) in _BUSY:
            seconds = next(_wishes(body_of(problem), depth=4), None)
    found = seconds is not None and 0 < seconds < math.inf
    return seconds if found else None


_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def _wishes(body: Any, *, depth: int) -> Iterator[float]:
    """Return what a body says, in any of its members, of when to come back."""
    if isinstance(body, str):
        yield from map(_seconds, _WAIT.findall(body[:2000]))
    members: list[Any] = body[:10] if isinstance(body, list) else []
    if isinstance(body, dict):
        numbers = ((_number(body.get(name)), unit) for name, unit in _WISHES.items())
        yield from (number * unit for number, unit in numbers if number is not None)
        if isinstance(delay := body.get("retryDelay"), str):  # as Google says it
            yield _seconds(delay)
        members = list(body.values())[:20]
    if depth:
        for one in members:
            yield from _wishes(one, depth=depth - 1)


def _seconds(said: str) -> float:
    return sum(
        float(number) * next(s for u, s in _UNITS.items() if unit.lower().startswith(u))
        for number, unit in _SPAN.findall(said)
    )


def _number(given: Any) -> float | None:
    """Return a finite number, or ``None`` where there is none."""
    try:
        number = float(given) if isinstance(given, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def keys_of(problem: BaseException) -> list[str]:
    """Return the secrets that the failed request carried."""
    names = ("authorization", "api-key", "x-api-key")
    try:
        request = getattr(problem, "request", None) or problem.response.request  # type: ignore[attr-defined]
        sent = [request.headers.get(name, "") for name in names]
    except (AttributeError, RuntimeError):
        return []  # no request, or one that was never attached
    return [key for value in sent if (key := value.removeprefix("Bearer "))]


def without_keys(keys: Iterable[str], text: str) -> str:
    """Return a text without keys: whole or in part, plain, quoted or encoded."""
    for key in keys:
        if key in NO_KEYS:
            continue
        text = _without(key, text) if len(key) > PART else text.replace(key, "[key]")
        # Even less is shown of some: the first characters, and what hides the others.
        starts = "|".join(re.escape(key[:n]) for n in range(PART - 1, 1, -1))
        text = re.sub(rf"(?:{starts}){_MASKED}", "[key]", text)
    return re.sub(rf"(?:\[key\])+(?:{_MASKED})?", "[key]", text)


def _without(key: str, text: str) -> str:
    """Mark whatever stands in some form of the key for ``PART`` characters or more."""
    parts = {
        form[n : n + PART]
        for form in _forms(key)
        for n in range(len(form) - PART + 1)
        if len(set(form[n : n + PART])) > 1  # a ruler of dashes is no key
    }
    told, end = [], 0
    for n in range(len(text)):
        if text[n : n + PART] in parts:
            if n >= end:
                told.append("[key]")
            end = n + PART
        elif n >= end:
            told.append(text[n])
    return "".join(told)


def _forms(key: str) -> Iterator[str]:
    """Return how a key may be written down."""
    yield from (key, json.dumps(key)[1:-1], repr(key)[1:-1], html.escape(key))
    yield from (quote(key), quote(key, safe=""), key[::-1])
    data = key.encode()
    yield from (data.hex(), data.hex().upper())
    for before in range(3):  # wherever it stands in a longer text
        whole = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        form = whole[4 if before else 0 : -1]
        yield from (form, form.replace("+", "-").replace("/", "_"))
