"""Reading what an images server answers: an image, its address, or something else."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from socratic_agents.core.text import one_line, words_of

__all__ = ("DrawnImage", "NoImageError", "decoded_base64", "first_image")

_SAID = 200
"""Characters of an answer that is none of ours that are quoted."""


class NoImageError(ValueError):
    """Raised when a server answers, and there is no image in it.

    Args:
        message: What it is instead.
        body: As JSON says it, for what else it tells.
    """

    def __init__(self, message: str, body: Any = None) -> None:
        super().__init__(message)
        self.body = body


@dataclass(frozen=True, kw_only=True)
class DrawnImage:
    """The image of an answer: its file, or else where that is."""

    content: bytes = b""
    address: str = ""
    revised_prompt: str | None = None


def first_image(answer: bytes) -> DrawnImage:
    """Return the first image of an answer of the images protocol.

    Raises:
        NoImageError: If there is none; it says what there is.
    """
    try:
        body = json.loads(answer)
    except (ValueError, RecursionError):
        text = one_line(answer[: 4 * _SAID].decode("utf-8", "replace"), _SAID)
        told = f"it is no JSON, but {text!r}"
        raise _no_image(told, text) from None
    data = body.get("data") if isinstance(body, dict) else None
    image = data[0] if isinstance(data, list) and data else None
    if isinstance(image, dict):
        revised = image.get("revised_prompt")
        revised = revised if isinstance(revised, str) else None
        for name in ("b64_json", "url"):
            given = image.get(name)
            if not isinstance(given, str) or not given.strip():
                continue
            if name == "b64_json" or given.lstrip()[:5].lower() == "data:":
                content = decoded_base64(given)
                return DrawnImage(content=content, revised_prompt=revised)
            return DrawnImage(address=given.strip(), revised_prompt=revised)
    told = _described(body, data, image)
    raise _no_image(told, body)


def decoded_base64(text: str) -> bytes:
    """Return what stands in base64, be it broken into lines or a data address.

    Raises:
        NoImageError: If it is no base64.
    """
    head, comma, tail = text.strip().partition(",")
    if comma and head[:5].lower() == "data:":
        if not head.lower().endswith(";base64"):
            return unquote_to_bytes(tail)
        text = tail
    data = text.encode("utf-8", "replace")
    data = b"".join((unquote_to_bytes(data) if b"%" in data else data).split())
    data = data.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error as problem:
        told = f"it is no base64 ({problem})"
        raise _no_image(told, None) from None


def _described(body: Any, data: Any, image: Any) -> str:
    """Say in a few words what an answer is that holds no image."""
    said = one_line(words_of(body) or words_of(image), _SAID)
    if said:
        return f"it says {said!r}"
    if data == []:
        return "its list of images is empty"
    if isinstance(image, dict):
        given = {name: value for name, value in image.items() if value}
        return f"its image has {_names(given)}, but no b64_json and no url"
    return f"it has {_names(body)}" if isinstance(body, dict) else "it is no object"


def _names(members: dict[str, Any]) -> str:
    return one_line(", ".join(map(str, members)) or "nothing", _SAID)


def _no_image(what: str, body: Any) -> NoImageError:
    return NoImageError(f"the answer holds no image: {what}", body)
