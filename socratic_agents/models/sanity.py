"""What is wrong with an image or a caption, said in words; ``None`` if nothing is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

__all__ = ("caption_fault", "image_fault")

MINIMAL_RANGE = 1.5 / 255
"""An image whose values differ by less shows one flat colour."""

ONLY_AN_OPENING = re.compile(
    r"(an?|the|this is an?)?\s*(close[- ]?up |black and white )?"
    r"(photo|photograph|picture|image|painting|drawing)s?( of( an?| the)?)?"
)
"""What BLIP-2 says when it has nothing to say."""


def image_fault(pixels: NDArray[np.floating[Any]]) -> str | None:
    """Say why an image cannot be what a generator meant to draw.

    Numbers that are not finite become black when they are cast to bytes, and
    infinite ones become black or white when they are clamped, all in silence.

    Args:
        pixels: ``(height, width, channels)``, values in [0, 1] before any cast.
    """
    if not np.isfinite(pixels).all():
        return "some of its numbers are not finite"
    spread = (pixels.max(axis=(0, 1)) - pixels.min(axis=(0, 1))).max()
    if spread >= MINIMAL_RANGE:
        return None
    if pixels.max() < MINIMAL_RANGE:
        return "it is black all over"
    return "it is one flat colour all over"


def caption_fault(caption: str, instruction: str = "") -> str | None:
    """Say why a caption tells nothing of its image.

    Args:
        caption: What the model said, without the prompt.
        instruction: What the model was told to do, so that an echo is recognised.
    """
    words = re.findall(r"\w+", caption.lower())
    told = re.findall(r"\w+", instruction.lower())
    if not words:
        return "it is empty"
    if ONLY_AN_OPENING.fullmatch(" ".join(words)):
        return f"it is only an opening ({caption!r})"
    if told and words[: len(told)] == told:
        return "it repeats the instruction"
    if _loops(words):
        return "it repeats itself"
    return None


def _loops(words: list[str]) -> bool:
    """Whether some phrase of 1 to 8 words follows itself twice, or a word 3 times."""
    for size in range(1, 9):
        times = 4 if size == 1 else 3
        for start in range(len(words) - size * times + 1):
            phrase = words[start : start + size]
            if words[start : start + size * times] == phrase * times:
                return True
    return False
