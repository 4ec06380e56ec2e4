"""Wording: how a question is put to a captioner with a chat template.

Others answer in the form that they learned, and need no words for it.
"""

from __future__ import annotations

__all__ = ("AS_WRITTEN", "A_NUMBER", "CHAT_QUESTION", "YES_OR_NO")

CHAT_QUESTION = "{question} Answer in a few words."

YES_OR_NO = "{question} Answer yes or no."
"""How it is held to one of the two words."""

A_NUMBER = "{question} Answer with one number in digits."
"""How it is held to a number."""

AS_WRITTEN = "{question} Answer with the exact text alone, letter by letter."
"""How it is held to what stands there, and not to what was meant."""
