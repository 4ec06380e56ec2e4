"""Images in messages, for language models that take them."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from PIL.Image import Image


__all__ = ("BELOW", "LARGEST", "accepts_images", "as_png", "with_images", "with_pngs")

BELOW = "the image below"
"""What a template's variable ``image`` says: the image itself follows the text."""
LARGEST = 768
"""Longer side of an image that is sent, in pixels; a larger one is scaled down."""


def accepts_images(llm: BaseChatModel) -> bool | None:
    """Return whether a language model takes images; ``None`` if it does not say."""
    return (llm.profile or {}).get("image_inputs")


def with_images(
    messages: Sequence[BaseMessage], images: Sequence[tuple[str, Image]]
) -> list[BaseMessage]:
    """Return the messages with images after the text of the last human one.

    The given messages stay as they are. If none is human, one is added.

    Args:
        messages: What a language model is asked.
        images: Each with its label, the text that goes before it. Any mode and size;
            sent as PNG in RGB with at most ``LARGEST`` pixels on the longer side.
    """
    return with_pngs(messages, [(label, as_png(image)) for label, image in images])


def as_png(image: Image) -> str:
    """Return an image as PNG in base64, scaled down if it is large."""
    from PIL.Image import Resampling

    copy = image.convert("RGB")
    copy.thumbnail((LARGEST, LARGEST), Resampling.LANCZOS)
    file = BytesIO()
    copy.save(file, "PNG")
    return b64encode(file.getvalue()).decode()


def with_pngs(
    messages: Sequence[BaseMessage], pictures: Sequence[tuple[str, str]]
) -> list[BaseMessage]:
    """Do what ``with_images`` does, with images that are already PNG in base64."""
    from langchain_core.messages import HumanMessage
    from langchain_core.messages.content import (
        ContentBlock,
        ImageContentBlock,
        TextContentBlock,
    )

    # The types and not LangChain's functions: these would give each block a random
    # id, which goes over the wire, and the same question would never be the same.
    blocks: list[ContentBlock] = []
    for label, data in pictures:
        blocks += [
            TextContentBlock(type="text", text=label),
            ImageContentBlock(type="image", base64=data, mime_type="image/png"),
        ]
    human = [n for n, message in enumerate(messages) if message.type == "human"]
    if not human:
        return [*messages, HumanMessage(content_blocks=blocks)]
    last = human[-1]
    before = messages[last].content_blocks
    seen = messages[last].model_copy(update={"content": [*before, *blocks]})
    return [*messages[:last], seen, *messages[last + 1 :]]
