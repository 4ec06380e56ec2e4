"""What a captioner's language model is asked, and what it wrote; plain values.

They go through pipes to other processes, so images are files and schemas are text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ("Turn", "WriteRequest", "Written")

Role: TypeAlias = Literal["system", "user", "assistant"]
Finish: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Role
    parts: tuple[str | bytes, ...]
    """Texts and image files (PNG, JPEG or WebP), in order."""


@dataclass(frozen=True, kw_only=True)
class WriteRequest:
    """A conversation to go on with, and how."""

    turns: tuple[Turn, ...]
    schema: str | None = None
    """JSON schema, as text, to which the answer is held; ``None``: it is free text."""
    max_tokens: int = 1024
    """Tokens of the answer, at least 1."""
    temperature: float | None = None
    """``0``: always the likeliest token; ``None``: as the model's authors have it."""
    seed: int = 0
    """Where chance comes from, if the temperature leaves any."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer, and are no part of it."""

    @property
    def images(self) -> int:
        """How many images it shows."""
        return sum(
            isinstance(part, bytes) for turn in self.turns for part in turn.parts
        )


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written."""

    text: str
    finish: Finish
    """``length``: it was cut off at ``max_tokens``, or at the end of the context. With a
    schema it is whole all the same, as a rule, but its texts and lists may not be."""
    input_tokens: int
    """Those of images included."""
    output_tokens: int
