"""What is known of an images server: its address, and what its errors mean."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import tenacity

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = (
    "OPENAI",
    "checked_address",
    "is_refusal",
    "is_retryable",
    "origin",
    "refused_parameters",
    "wait",
)

OPENAI = "api.openai.com"

QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
"""Codes of a 429 that waiting does not cure."""

POLICY = ("content_policy", "moderation", "content_filter", "safety system")
"""Words in an error that say that the content is the reason."""

MAX_WAIT = 60.0
"""The longest that a server may ask to wait, in seconds."""

_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)

_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


def checked_address(base_url: str) -> SplitResult:
    """Return an address's parts.

    Raises:
        ConfigurationError: If it is none, or holds a password, which is not shown.
    """
    if "@" in base_url:
        message = (
            "expected an address without a user or password, got one with them; "
            "give the key by itself"
        )
        raise ConfigurationError(message)
    try:
        address = urlsplit(base_url)
        usable = address.scheme in {"http", "https"} and bool(address.hostname)
        _ = address.port  # raises if it is no number
    except ValueError:
        usable = False
    if not usable:
        message = (
            "expected the address of an images server such as "
            f"'http://localhost:8080/v1', got {base_url!r}; give its base URL"
        )
        raise ConfigurationError(message)
    return address


def origin(address: SplitResult) -> tuple[str, str | None, int | None]:
    """Return what two addresses of one server share."""
    default = {"http": 80, "https": 443}.get(address.scheme)
    return address.scheme, address.hostname, address.port or default


def _status(error: BaseException) -> int | None:
    return getattr(error, "status_code", None)


def refused_parameters(error: Any, names: Iterable[str]) -> set[str]:
    """Return which of these parameters a server's error is about."""
    told = str(error)
    return {
        name
        for name in names
        if getattr(error, "param", None) == name
        # In quotation marks: a server may repeat the prompt, where "seed" is a word.
        or re.search(f"['\"`]{name}['\"`]", told)
    }


def is_refusal(error: BaseException) -> bool:
    """Whether a server refused to draw what was asked for."""
    told = f"{getattr(error, 'code', None)} {error}".lower()
    return _status(error) in _REFUSALS and any(word in told for word in POLICY)


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed a little later.

    Not after a timeout: the server may still be drawing, and would draw twice.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return False
    if isinstance(error, openai.APIConnectionError):
        return True
    status = _status(error)
    if status is None or getattr(error, "code", None) in QUOTA:
        return False
    return status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR


_BACKOFF = tenacity.wait_random_exponential(multiplier=1, max=20)


def wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds to wait: the server's wish, else a random time that grows."""
    error = state.outcome.exception() if state.outcome else None
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        wished = float(headers.get("retry-after", ""))
    except ValueError:
        return float(_BACKOFF(state))
    return wished if 0 < wished <= MAX_WAIT else float(_BACKOFF(state))
