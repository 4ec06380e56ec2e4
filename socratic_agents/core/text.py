"""Text on one line: what messages, lists and comparisons of prompts are made of."""

from __future__ import annotations

import re

__all__ = ("error_line", "one_line", "printable_line", "whole_characters", "words_of")

PAGE = 10_000
"""Characters of a page that are looked through for words."""
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
    try:
        words = str(problem)
    except Exception:  # noqa: BLE001 - whatever it is, there is an error to report
        words = "it cannot be written as text"
    line = one_line(f"{type(problem).__name__}: {words}", ERROR_LIMIT)
    return whole_characters(line)


def whole_characters(text: str) -> str:
    """Return a text that every file can hold: without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")


def printable_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return one_line("".join(c for c in text if c.isprintable() or c.isspace()))


def words_of(body: object, *, anywhere: bool = False) -> str:
    """Return what a server says in the body of an error, on one line.

    Servers differ: OpenAI sends an object, Google a list of one, others a bare text,
    FastAPI a list with the places of the mistakes. What it was sent is left out where
    it is repeated, and of a page only what is to be read is left.

    Args:
        body: As JSON says it, or text.
        anywhere: Whether any text will do, where none of the usual members is there.
    """
    words = _words(body, depth=4)
    if anywhere and not words:
        words = _any_words(body, depth=4)
    return one_line(". ".join(dict.fromkeys(words)))


_WORDS = ("msg", "message", "detail", "error", "errors", "error_description", "param")
_SENT = frozenset({"input", "ctx", "messages", "prompt", "request", "headers"})
"""Members that repeat what was sent."""
_MARKUP = re.compile(
    r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE
)


def _any_words(body: object, *, depth: int) -> list[str]:
    """Return every text in a body, sentences only where there are some."""
    members: list[object] = body[:10] if isinstance(body, list) else []
    if isinstance(body, dict):
        members = [value for key, value in body.items() if key not in _SENT][:10]
    found = [word for one in members if depth for word in _texts(one, depth=depth - 1)]
    return [word for word in found if " " in word] or found


def _texts(body: object, *, depth: int) -> list[str]:
    text = isinstance(body, str)
    return _words(body, depth=1) if text else _any_words(body, depth=depth)


def _words(body: object, *, depth: int) -> list[str]:
    if isinstance(body, str):
        if body.lstrip().startswith("<"):
            body = _MARKUP.sub(" ", body[:PAGE])
        return [body.strip().rstrip(".")] if body.strip() else []
    if depth == 0:
        return []
    if isinstance(body, list | tuple):
        return [word for one in body[:10] for word in _words(one, depth=depth - 1)]
    if not isinstance(body, dict):
        return []
    words = [w for k in _WORDS for w in _words(body.get(k), depth=depth - 1)]
    place = body.get("loc")
    if words and isinstance(place, list | tuple):
        words[0] = f"{'.'.join(map(str, place))}: {words[0]}"
    return words
