"""Blocks: named parts of a template, which its messages include."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socratic_agents.core.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("WITHOUT", "included", "without_blocks")

WITHOUT = " without "
"""Between a template's name and the blocks that are left out of it."""

INCLUDED = re.compile(r"\{\{>\s*(?P<name>\w+)\s*\}\}(?P<end>\n?)")
"""Where a message includes a block; one that is left out takes its line with it."""

LONGEST = 200_000
"""Characters of all messages with their blocks; the shipped ones have 3,000."""


def without_blocks(name: str) -> tuple[str, list[str]]:
    """Return what stands before ``without`` in a name, and the blocks after it."""
    if WITHOUT not in name:
        return name, []
    own, _, left_out = name.rpartition(WITHOUT)
    return own, sorted({part.strip() for part in left_out.split(",")})


def included(
    messages: Sequence[tuple[str, str]], blocks: Mapping[str, str | None]
) -> tuple[tuple[str, str], ...]:
    """Return messages with their blocks put in.

    Args:
        messages: Role and text of each.
        blocks: Name to text; ``None`` for one that is left out with its line.

    Raises:
        TemplateError: If a message includes what is no block, a block is nowhere, or
            the messages get too long.
    """
    used: set[str] = set()
    length = sum(len(text) for _, text in messages)

    def put_in(match: re.Match[str]) -> str:
        nonlocal length
        name = match["name"]
        if name not in blocks:
            message = (
                f"expected a block of {', '.join(blocks) or 'none'}, got {name!r}; "
                "write it under blocks, or take it out of the messages"
            )
            raise TemplateError(message)
        used.add(name)
        text = blocks[name]
        text = "" if text is None else f"{text.strip()}{match['end']}"
        length += len(text)
        check_length()
        return text

    def check_length() -> None:
        if length > LONGEST:
            message = (
                f"expected messages of at most {LONGEST:,} characters with their "
                f"blocks, got {length:,} or more; shorten them"
            )
            raise TemplateError(message)

    check_length()
    texts = [(role, INCLUDED.sub(put_in, text).strip()) for role, text in messages]
    for name in blocks:
        if name not in used:
            message = (
                f"expected every block in the messages, got no {{{{> {name}}}}}; "
                "include it or take it out"
            )
            raise TemplateError(message)
    return tuple((role, text) for role, text in texts if text)
