"""Text on one line: what messages, lists and comparisons of prompts are made of."""

from __future__ import annotations

__all__ = ("error_line", "one_line", "printable_line")

ERROR_LIMIT = 300
"""Characters of somebody else's error that a message repeats."""


def one_line(text: object, limit: int | None = None) -> str:
    """Return a text with every run of white space as one blank, cut at a limit.

    Args:
        text: Anything with a text form, such as an exception.
        limit: Characters at most; None keeps all.
    """
    return " ".join(str(text).split())[:limit]


def error_line(problem: BaseException) -> str:
    """Return the kind and the words of somebody else's error on one line."""
    return one_line(f"{type(problem).__name__}: {problem}", ERROR_LIMIT)


def printable_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return one_line("".join(c for c in text if c.isprintable() or c.isspace()))
