"""Image options: parameters for an images server that no other setting has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from socratic_agents.core.errors import ConfigurationError

__all__ = ("ImageOptions",)

_ELSEWHERE = frozenset({"prompt", "model", "negative_prompt", "stream"})
"""Parameters that have a setting of their own, or would change the answer's form."""


@dataclass(frozen=True)
class ImageOptions:
    """Parameters by name; ``None`` leaves one out. Its text is ``size=auto,seed=none``."""

    values: Mapping[str, str | float | bool | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return ",".join(
            f"{name}={_text(self.values[name])}" for name in sorted(self.values)
        )

    @classmethod
    def parse(cls, given: Any) -> ImageOptions:
        """Read options from their text, or from a mapping.

        Raises:
            ConfigurationError: If they cannot be read, or have a setting of their own.
        """
        if isinstance(given, Mapping):
            given = ",".join(f"{name}={_text(value)}" for name, value in given.items())
        values = {}
        for part in str(given).split(","):
            name, equals, value = (word.strip() for word in part.partition("="))
            if not equals or not value or not re.fullmatch(r"\w+", name):
                message = (
                    f"expected options such as size=auto,quality=high, got {given!r}; "
                    "write name=value, with commas between them"
                )
                raise ConfigurationError(message)
            if name in _ELSEWHERE:
                message = (
                    f"expected no {name} among the image options, got one; "
                    "it is said elsewhere or not at all"
                )
                raise ConfigurationError(message)
            values[name] = _value(value)
        return cls(values)


def _value(text: str) -> str | float | bool | None:
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
