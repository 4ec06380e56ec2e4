"""What is known of an images server: its address, and what its errors mean."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import tenacity

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.text import one_line, words_of
from socratic_agents.network.server_errors import (
    body_of,
    codes_of,
    error_of,
    server_hint,
    status_of,
    without_keys,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = (
    "LONGEST_HINT",
    "OPENAI",
    "cause_of",
    "checked_address",
    "is_lost",
    "is_refusal",
    "is_retryable",
    "origin",
    "refused_parameters",
    "secrets_in",
    "wait",
)

OPENAI = "api.openai.com"

LONGEST_HINT = 120.0
"""A server that asks to wait longer, in seconds, is not waited for."""

LINE = 300
"""Characters of a server's words that are quoted."""

_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that waiting does not cure."""

_POLICY = re.compile(
    r"(?:content|safety|usage)[^\w]+(?:\w+[^\w]+){0,2}(?:polic|guideline|filter|rule)|"
    r"content[_ -]?(?:policy|filter|moderat)|moderation|moderated|responsible ?ai ?polic|"
    r"safety[_ -]?(?:system|filter|check|violation|reason|setting|concern)|image_safety|"
    r"(?:policy|guidelines?|terms)[_ -]violation|data ?inspection ?failed|"
    r"violat\w*[^.]{0,60}(?:polic|guideline|terms)|nsfw|\"refusal\"|"
    r"(?:blocked|rejected|filtered)[^.]{0,60}(?:safety|moderat|content(?![- ]type))|"
    r"(?:explicit|harmful|adult|sexual|illegal|inappropriate|sensitive|prohibited|"
    r"disallowed|unsafe)[_ -](?:content|prompt|image|material)|"
    r"flagged (?:as|by|for)",
    re.IGNORECASE,
)
"""How servers say that the content is the reason."""

_AGAIN = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)
_OF_OTHER_THINGS = _AGAIN | {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
"""Statuses that are not about a parameter."""

_UNSUPPORTED = re.compile(
    r"\b(?:un(?:support|known|recogni[sz]|expected|allowed)|invalid|extra|forbidden|"
    r"disallowed|only|no longer|deprecated|remove|(?:must|should|may) (?:not )?be|"
    r"no such|can ?not|can't|(?:not|n't) (?:\w+ ){0,2}(?:support|allow|accept|permit|"
    r"recogni|valid|implement|take|know|exist|configurable|available))",
    re.IGNORECASE,
)
"""How servers say that they do not take something."""

_SOMETHING = re.compile(
    r"(?:\b|_)(?:param|argument|field|input|option|propert|keyword|key)", re.IGNORECASE
)
"""What servers call it where they do not name it."""

_NOTHING = re.compile(
    r"(?:error code: \d+|(?:bad|invalid) request|unprocessable (?:entity|content)|"
    r"validation error|internal server error)?[.!]*",
    re.IGNORECASE,
)
"""What servers say that do not say anything."""

_EXTRAS = frozenset({"seed", "response_format"})
"""Parameters that servers know the least."""


def checked_address(base_url: str) -> SplitResult:
    """Return an address's parts.

    Raises:
        ConfigurationError: If it is none, holds a password, which is not shown, or
            would send OpenAI's key over an open line.
    """
    if "@" in base_url.partition("?")[0]:
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
            f"'http://localhost:8080/v1', got {base_url.partition('?')[0]!r}; give its "
            "base URL"
        )
        raise ConfigurationError(message)
    if address.hostname == OPENAI and address.scheme != "https":
        message = f"expected https for {OPENAI}, got {address.scheme}; write https"
        raise ConfigurationError(message)
    return address


def origin(address: SplitResult) -> tuple[str, str | None, int | None]:
    """Return what two addresses of one server share."""
    default = {"http": 80, "https": 443}.get(address.scheme)
    return address.scheme, address.hostname, address.port or default


def secrets_in(address: SplitResult) -> list[str]:
    """Return the values in an address's query that may be secrets."""
    named = parse_qsl(address.query)
    return [value for name, value in named if name.lower() != "api-version"]


def cause_of(problem: BaseException, secrets: Iterable[str]) -> str:
    """Return what a server said, or what happened, on one line without secrets."""
    status = status_of(problem)
    if status == HTTPStatus.UNAUTHORIZED:
        return f"HTTP {status}"  # its words are about the key
    # Ours say already what there was instead of an image.
    ours = isinstance(problem, ValueError)
    told = "" if ours else words_of(body_of(problem))
    told = without_keys(secrets, told or one_line(problem))[:LINE]
    name = type(problem).__name__ if status is None else f"HTTP {status}"
    return f"{name}: {told}" if told else name


def refused_parameters(
    error: BaseException, names: Collection[str], prompt: str
) -> set[str]:
    """Return which of these parameters a server does not take, as it seems.

    Servers name them in a member, a list of places, quotation marks or plain words,
    and some not at all: then it is those that the fewest know.

    Args:
        error: The client's exception.
        names: Of the parameters that were sent.
        prompt: What was to be drawn; where it is repeated, it names nothing.
    """
    status = status_of(error)
    if status is None or status in _OF_OTHER_THINGS:
        return set()
    body = body_of(error)
    code = error_of(error).get("code")
    told = words_of([code if isinstance(code, str) else "", body], anywhere=True)
    told = told or one_line(error)
    told = _without_prompt(told, prompt)
    given = (getattr(error, "param", None), error_of(error).get("param"))
    named = {name for name in given if isinstance(name, str)}
    sure = {
        name
        for name in names
        if name in named
        or re.search(rf"['\"`\[]{name}['\"`\]]|(?:body\.|: ?){name}\b", told)
    }
    if sure or status > HTTPStatus.INTERNAL_SERVER_ERROR or is_refusal(error, prompt):
        return sure
    if _NOTHING.fullmatch(told):
        return set(_EXTRAS.intersection(names) or names)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR or not _UNSUPPORTED.search(told):
        return set()
    spoken = {
        name
        for name in names
        if name != "n"
        and re.search(rf"\b{name.replace('_', '[ _-]?')}s?\b", told, re.IGNORECASE)
    }
    other = named or re.search(r"body\.\w|['\"`]\w+['\"`]", told)
    if spoken or other or not _SOMETHING.search(told):
        return spoken
    return set(_EXTRAS.intersection(names) or names)


def is_refusal(error: BaseException, prompt: str) -> bool:
    """Whether a server refused to draw what was asked for.

    Args:
        error: The client's exception, or ours about an answer without an image.
        prompt: What was to be drawn; where it is repeated, it says nothing.
    """
    status, body = status_of(error), body_of(error)
    if status in _OF_OTHER_THINGS - {HTTPStatus.FORBIDDEN} or body is None:
        return False
    told = json.dumps(_said(body, depth=6), ensure_ascii=False)[:20_000]
    return bool(_POLICY.search(_without_prompt(told, prompt)))


def _said(body: Any, *, depth: int) -> Any:
    """Return a body without what it denies: ``"nsfw": false`` is no refusal."""
    if depth and isinstance(body, dict):
        whole = {name: _said(value, depth=depth - 1) for name, value in body.items()}
        return {name: value for name, value in whole.items() if value}
    if depth and isinstance(body, list):
        return [said for one in body if (said := _said(one, depth=depth - 1))]
    return body if depth or isinstance(body, str | int | float) else None


def _without_prompt(text: str, prompt: str) -> str:
    return text.replace(prompt, "").replace(json.dumps(prompt)[1:-1], "")


def is_lost(error: BaseException) -> bool:
    """Whether an image may have been drawn, and billed, that never arrived."""
    import openai

    causes = {type(error.__cause__).__name__} if error.__cause__ else set()
    unsent = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
    return isinstance(error, openai.APIConnectionError) and not causes & unsent


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed a little later.

    Not after a timeout: the server may still be drawing, and would draw twice.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return False
    if isinstance(error, openai.APIConnectionError):
        return True
    status = status_of(error)
    if status is None or _QUOTA.intersection(codes_of(error)):
        return False
    if (server_hint(error) or 0.0) > LONGEST_HINT:
        return False
    return status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR


_BACKOFF = tenacity.wait_random_exponential(multiplier=1, max=20)


def wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds to wait: the server's wish, else a random time that grows."""
    error: Any = state.outcome.exception() if state.outcome else None
    return (error and server_hint(error)) or float(_BACKOFF(state))
