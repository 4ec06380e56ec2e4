"""Decoding PNG files that may be anybody's: none of them is trusted."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ("MAX_PIXELS", "decode_png")

MAX_PIXELS = 2**26
"""The largest image that is decoded, 8192x8192; a few bytes can claim more."""


def decode_png(data: bytes) -> Image | None:
    """Return a PNG file's pixels in RGB; ``None`` if it is none, broken or too large.

    Nothing else that the file says is kept, and a large one is not decoded.
    """
    from PIL import Image

    sides = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    # Before it is opened too: PIL only warns of what is large.
    if next(sides) * next(sides) > MAX_PIXELS:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
            if opened.width * opened.height > MAX_PIXELS:  # a second header says so
                return None
            image = opened.convert("RGB")
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,  # where warnings are errors
    ):
        return None
    image.info.clear()
    return image
