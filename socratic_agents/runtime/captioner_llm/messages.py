"""Messages of LangChain as turns of a conversation, images included."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from socratic_agents.models.writing.requests import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import BaseMessage

    from socratic_agents.models.writing.requests import Role

__all__ = ("turns_of",)

ROLES: dict[str, Role] = {"system": "system", "ai": "assistant"}
"""Whoever else speaks (tools, functions) does so as the user."""


def turns_of(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """Return the turns that messages are.

    Args:
        messages: Of texts, and of images that they hold themselves.

    Raises:
        ValueError: If there is anything else in them, or an image's address.
    """
    turns: list[Turn] = []
    for message in messages:
        parts = tuple(_parts(message))
        role = ROLES.get(message.type, "user")
        if turns and turns[-1].role == role:
            # Most chat templates refuse two messages of one speaker.
            turns[-1] = Turn(role, turns[-1].parts + parts)
        else:
            turns.append(Turn(role, parts))
    return tuple(turns)


def _parts(message: BaseMessage) -> Iterator[str | bytes]:
    for block in message.content_blocks:
        match block["type"]:
            case "text":
                yield block["text"]
            case "image":
                yield _file(block)
            case "reasoning" | "tool_call" | "non_standard":
                pass  # what another model thought or called is not for this one
            case kind:
                problem = f"expected texts and images for the captioner, got {kind}"
                raise ValueError(problem)


def _file(block: Any) -> bytes:
    """Return the file of an image."""
    data = block.get("base64")
    if data is None and (url := str(block.get("url"))).startswith("data:"):
        data = url.partition("base64,")[2]
    try:
        file = b64decode(data or "", validate=True)
    except binascii.Error:
        file = b""
    if not file:
        message = (
            "expected an image in base64 for the captioner, which fetches none from "
            "elsewhere, got another form; send the file itself"
        )
        raise ValueError(message)
    return file
