"""Paraphrases: a prompt in a frame that asks for nothing more, without a language model.

A frame leaves every word of the prompt where it is, so that no requirement is lost, and
yet gives the generator another text to start from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

__all__ = ("paraphrases",)

FRAMES = (
    "an image of {}",
    "a picture that shows {}",
    "{}, in one image",
    "an image that shows {}",
    "a picture of {}",
    "{}, as an image",
)
"""Words that any image fulfils; what they stand around is the prompt."""
ROOM = 40
"""Words of a prompt in front of which there is room for more: the end of a longer one
might not be read any more by an encoder of 77 tokens."""


def paraphrases(prompt: str, tried: Iterable[str]) -> tuple[str, ...]:
    """Return a prompt in other frames, as far as they were not tried.

    Args:
        prompt: What to frame; a frame around what was tried bare is taken off before.
        tried: Prompts that were drawn.
    """
    known = {one.casefold() for one in tried}
    bare = _bare(prompt, known)
    long = len(bare.split()) > ROOM
    frames = [frame for frame in FRAMES if frame.startswith("{") or not long]
    written = [frame.format(bare) for frame in frames]
    return tuple(one for one in written if one.casefold() not in known)


def _bare(prompt: str, known: Container[str]) -> str:
    """Return what a frame of ours stands around; one of the user's own stays."""
    for frame in FRAMES:
        before, _, after = frame.partition("{}")
        inner = prompt.removeprefix(before).removesuffix(after)
        if inner.casefold() in known and frame.format(inner) == prompt:
            return inner
    return prompt
