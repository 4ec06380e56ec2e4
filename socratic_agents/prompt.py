"""What a user prompt must be before anything is spent on it."""

from __future__ import annotations

import unicodedata

from socratic_agents.errors import PromptError

__all__ = ("checked",)

LONGEST = 10_000
"""Characters; no text encoder reads more, and a language model would be paid for it."""

_LINE_BREAKS = frozenset("\t\n\r")


def checked(user_prompt: str) -> str:
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
