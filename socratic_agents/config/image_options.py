"""Image options: parameters for an images server that no other setting has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from socratic_agents.core.errors import ConfigurationError

__all__ = ("ImageOptions", "options_text", "parse_options")

Value: TypeAlias = str | float | bool | None

_ELSEWHERE = frozenset({"prompt", "model", "negative_prompt", "stream"})
"""Parameters that have a setting of their own, or would change the answer's form."""


@dataclass(frozen=True)
class ImageOptions:
    """Parameters by name; ``None`` leaves one out. Its text is ``size=auto,seed=none``."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        return options_text(self.values)

    @classmethod
    def parse(cls, given: Any) -> ImageOptions:
        """Read options from their text, or from a mapping.

        Raises:
            ConfigurationError: If they cannot be read, or have a setting of their own.
        """
        values = parse_options(given, example="size=auto,quality=high")
        for name in sorted(_ELSEWHERE.intersection(values)):
            message = (
                f"expected no {name} among the image options, got one; "
                "it is said elsewhere or not at all"
            )
            raise ConfigurationError(message)
        return cls(values)


def parse_options(given: Any, *, example: str) -> dict[str, Value]:
    """Read options from their text, or from a mapping; a value ``none`` is ``None``.

    Args:
        given: Such as ``size=auto,seed=none``; ``none``: there are none.
        example: Such a text, for who wrote another.

    Raises:
        ConfigurationError: If they cannot be read.
    """
    if isinstance(given, Mapping):
        given = options_text(given)
    values: dict[str, Value] = {}
    if str(given).strip().lower() == "none":
        return values
    for part in str(given).split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value or not re.fullmatch(r"\w+", name):
            message = (
                f"expected options such as {example}, got {given!r}; "
                "write name=value, with commas between them"
            )
            raise ConfigurationError(message)
        values[name] = _value(value)
    return values


def options_text(values: Mapping[str, Any]) -> str:
    """Return the one text of some options."""
    return ",".join(f"{name}={_text(values[name])}" for name in sorted(values))


def _value(text: str) -> Value:
    if text.lower() == "none":
        return None
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool) else text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return "none" if value is None else json.dumps(value)
