"""Lines of JSON with a checksum, so that a corrupt one is recognised."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ("record_line", "record_of")

CHECKED = 16
"""Hexadecimal digits of a line's checksum."""

_START, _MIDDLE = b'{"check": "', b'", '


def record_line(record: dict[str, Any]) -> bytes:
    """Return a record as a line with its own checksum.

    Args:
        record: A JSON object that is not empty.
    """
    # ASCII, because some readers take U+2028 for the end of a line.
    text = json.dumps(record, allow_nan=False).encode()
    return b"".join((_START, _check(text), _MIDDLE, text[1:], b"\n"))


def record_of(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; ``None`` if the line is corrupt."""
    head = len(_START) + CHECKED
    check, text = line[len(_START) : head], b"{" + line[head + len(_MIDDLE) : -1]
    if line != b"".join((_START, check, _MIDDLE, text[1:], b"\n")):
        return None
    if _check(text) != check:
        return None
    record: dict[str, Any] = json.loads(text)
    return record


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:CHECKED].encode()
