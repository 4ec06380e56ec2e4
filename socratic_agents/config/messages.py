"""Messages: settings in words, errors in one line and values without secrets."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from socratic_agents.config.fields import FIELDS
from socratic_agents.core.budget import Budget, Prices
from socratic_agents.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = (
    "PREFIX",
    "TOML",
    "error_message",
    "one_of",
    "public_value",
    "suggestion",
    "unknown_variables",
)

PREFIX = "SOCRATIC_"
"""Of the environment variables that are settings."""
TOML = "socratic.toml"
"""The file of settings in the working directory."""

_ELSEWHERE = {f"{PREFIX}CACHE"}
"""Variables that are read by others: where measured costs are kept."""


def one_of(name: str, names: Iterable[str], what: str) -> str:
    """Return a name that is one of several.

    Raises:
        ValueError: If it is none; the message names them all.
    """
    if name in names:
        return name
    choices = ", ".join(names)
    hint = suggestion(name, names)
    message = f"expected {what} ({choices}), got {name!r}{hint}"
    raise ValueError(message)


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return the end of a message that asks for the closest name, if one is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def error_message(error: ValidationError, explicit: Mapping[str, Any]) -> str:
    """Say in one line what is wrong, where it came from, and what to do."""
    details = error.errors(include_url=False, include_context=False)[0]
    if not details["loc"]:
        return one_line(details["msg"]).removeprefix("Value error, ")
    name = str(details["loc"][0])
    variable = next((v for v in os.environ if v.upper() == PREFIX + name.upper()), None)
    if name in explicit:
        where = name
    elif variable and name in FIELDS:
        where = variable
    else:
        where = f"{name} in {TOML}"
    if details["type"] == "extra_forbidden":
        known = sorted(FIELDS)
        hint = suggestion(name, known) or f"; known are {', '.join(known)}"
        return f"expected a setting, got {where}{hint}"
    text = one_line(details["msg"])
    if text.startswith("Value error, "):
        return f"{where}: {text.removeprefix('Value error, ')}"
    return (
        f"{where}: {text.replace('Input should be', 'expected')}{_came(details, name)}"
    )


def _came(details: ErrorDetails, name: str) -> str:
    """Return what came instead, unless it could be a secret."""
    if name in FIELDS and FIELDS[name].secret:
        return ""
    return f", got {one_line(repr(details['input']))[:80]}"


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return ``SOCRATIC_*`` variables that set nothing, each with what to do."""
    names = {PREFIX + name.upper() for name in FIELDS} | _ELSEWHERE
    return {
        name: f"is no setting{suggestion(name.upper(), names)}"
        for name in sorted(environment)
        if name.upper().startswith(PREFIX) and name.upper() not in names
    }


def public_value(value: Any) -> Any:
    """Return a value as JSON can hold it; an object by its name."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _without_login(value)
    if isinstance(value, Budget | Prices):
        return value.to_json()
    return getattr(value, "__qualname__", None) or type(value).__name__


def _without_login(text: str) -> str:
    """Cut user name, password and query, which may hold a key, from an address."""
    if not text.startswith(("http://", "https://")):
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
