"""Lines of JSON with a checksum, so that a corrupt one is recognised."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

__all__ = ("key_of_line", "looks_ours", "record_line", "record_of")

CHECKED = 16
"""Hexadecimal digits of a line's checksum."""

_START, _MIDDLE = b'{"check": "', b'", '


_TEXT = len(_START) + CHECKED + len(_MIDDLE)
"""Where a line's own text begins, but for its brace."""

_KEY = re.compile(
    rb'\{"check": "[0-9a-f]{16}", "kind": "[a-z]+", "key": "([0-9a-f]{64})", [^\n]*\}\n'
)


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


def key_of_line(line: bytes) -> bytes | None:
    """Return the name of the call that a valid line is about, without reading it all.

    ``None`` where the line must be read.
    """
    found = _KEY.match(line)
    if found is None or _check(b"{" + line[_TEXT:-1]) != line[len(_START) :][:CHECKED]:
        return None
    return bytes.fromhex(found[1].decode())


def looks_ours(data: bytes) -> bool:
    """Return whether it begins as a line does, whole or not."""
    return data.startswith(_START) or _START.startswith(data)


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:CHECKED].encode()
