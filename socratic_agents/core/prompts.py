"""User prompts: what they must be, many of them in a file, and safe to print."""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socratic_agents.core.errors import ConfigurationError, PromptError

__all__ = (
    "PromptLine",
    "read_lines",
    "read_prompts",
    "sanitize_for_terminal",
    "validate_prompt",
)

LONGEST = 10_000
"""Characters; no text encoder reads more, and a language model would be paid for it."""

_BOM = b"\xef\xbb\xbf"
"""What some editors write before UTF-8 text."""

_LINE_BREAKS = frozenset("\t\n\r")


def validate_prompt(user_prompt: str) -> str:
    """Return the user prompt without surrounding white space, if it can be refined.

    Args:
        user_prompt: 1 to 10,000 characters; tabs and line breaks may be among them.

    Raises:
        PromptError: If it is no text, blank, too long, or has control characters.
    """
    if not isinstance(user_prompt, str):
        message = f"expected a prompt as text, got {type(user_prompt).__name__}"
        raise PromptError(message)
    prompt = user_prompt.strip()
    if not prompt:
        message = "expected a prompt, got blank text; say what to draw"
        raise PromptError(message)
    if len(prompt) > LONGEST:
        message = (
            f"expected a prompt of at most {LONGEST:,} characters, got {len(prompt):,}; "
            "shorten it"
        )
        raise PromptError(message)
    for place, character in enumerate(prompt):
        # Surrogates are no characters at all, and cannot be written as UTF-8.
        if unicodedata.category(character) in {"Cc", "Cs"}:
            if character in _LINE_BREAKS:
                continue
            message = (
                f"expected a prompt without control characters, got "
                f"U+{ord(character):04X} at character {place + 1}; remove it"
            )
            raise PromptError(message)
    return prompt


@dataclass(frozen=True)
class PromptLine:
    """One prompt of many, or why it is none."""

    text: str
    error: str | None = None


def read_lines(data: bytes, *, jsonl: bool) -> tuple[PromptLine, ...]:
    """Return the prompts of a file, one a line; a bad line spoils no other.

    Args:
        data: UTF-8 text. Blank lines are left out.
        jsonl: Whether each line is JSON, ``{"prompt": "..."}`` or a string alone, or
            the whole is a list of these.
    """
    data = data.removeprefix(_BOM)
    if jsonl and (values := _json_list(data)) is not None:
        return tuple(_read_value(value, json.dumps(value)) for value in values)
    # A lone carriage return ends a line, too: some editors write no other end.
    lines = data.replace(b"\r", b"\n").split(b"\n")
    return tuple(_read_line(line, jsonl=jsonl) for line in lines if line.strip())


def read_prompts(file: str) -> tuple[PromptLine, ...]:
    """Return the prompts of a ``.txt``, ``.jsonl`` or ``.json`` file, or of stdin for ``-``.

    Raises:
        ConfigurationError: If it cannot be read, or holds not one prompt.
    """
    if file == "-":
        data = _standard_input()
        start = data.removeprefix(_BOM).lstrip()
        jsonl = start.startswith((b'{"', b"{ ")) or _json_list(start) is not None
    else:
        jsonl = file.endswith((".jsonl", ".json"))
        if not jsonl and not file.endswith(".txt"):
            message = (
                f"expected a .txt, .jsonl or .json file or -, got {file!r}; rename it, "
                "or convert a table with 'socratic lab sample --set file'"
            )
            raise ConfigurationError(message)
        try:
            data = Path(file).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"expected a readable file, got {file!r}: {reason}"
            raise ConfigurationError(message) from error
    lines = read_lines(data, jsonl=jsonl)
    if not lines:
        message = (
            f"expected at least one prompt in {file!r}, got none; write one a line"
        )
        raise ConfigurationError(message)
    return lines


def _standard_input() -> bytes:
    """Return all of standard input.

    Raises:
        ConfigurationError: If it is closed or cannot be read.
    """
    try:
        # None if the process was started without one, whatever its type says.
        return sys.stdin.buffer.read()
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "it is closed"
        message = f"expected prompts on standard input, got none: {reason}"
        raise ConfigurationError(message) from error


def _json_list(data: bytes) -> list[Any] | None:
    """Return the values of a list in JSON; ``None`` if it is something else."""
    if not data.lstrip().startswith(b"["):
        return None
    try:
        values: list[Any] = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return values


def _read_line(line: bytes, *, jsonl: bool) -> PromptLine:
    text = line.decode("utf-8", "replace").strip()
    try:
        prompt: Any = line.decode("utf-8")
        return _read_value(json.loads(prompt) if jsonl else prompt, text)
    except UnicodeDecodeError:
        return PromptLine(_short(text), "expected UTF-8 text, got other bytes")
    except (ValueError, RecursionError):
        message = 'expected JSON such as {"prompt": "..."}, got something else'
        return PromptLine(_short(text), message)


def _read_value(value: Any, text: str) -> PromptLine:
    """Return a prompt of JSON, or of a line; ``text`` is how it was written."""
    try:
        prompt: Any = value.get("prompt") if isinstance(value, dict) else value
        return PromptLine(validate_prompt(prompt))
    except PromptError as error:
        return PromptLine(_short(text), str(error))


def sanitize_for_terminal(text: str, *, longest: int = 500) -> str:
    """Return text on one line in which nothing can steer a terminal."""
    line = " ".join(text.split())
    return _short("".join(c if c.isprintable() else "\ufffd" for c in line), longest)


def _short(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
