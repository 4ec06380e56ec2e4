"""What is wrong with an image or a caption, said in words."""

from __future__ import annotations

import io
import math
import re
import warnings
from typing import TYPE_CHECKING, cast

from PIL import Image

from socratic_agents.core.errors import CandidateError
from socratic_agents.core.history import Status
from socratic_agents.storage.safe_png import MAX_PIXELS

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ("caption_fault", "decoded_image", "image_fault", "on_white", "read_image")

FORMATS = ("PNG", "JPEG", "WEBP")

DARKEST = 1.5 / 255
"""An image without a brighter value is black, up to rounding."""

ONLY_AN_OPENING = re.compile(
    r"(an?|the|this is an?)?\s*(close[- ]?up |black and white )?"
    r"(photo|photograph|picture|image|painting|drawing)s?( of( an?| the)?)?"
)
"""What BLIP-2 says when it has nothing to say."""


def image_fault(pixels: NDArray[np.floating[Any]] | torch.Tensor) -> str | None:
    """Say why an image cannot be what a generator meant to draw.

    Numbers that are not finite become black when they are cast to bytes, in
    silence. An image of one other colour may well be what was asked for.

    Args:
        pixels: ``(height, width, channels)``, values in [0, 1] before any cast; an
            array or a tensor, on any device.
    """
    # Either is not finite if any number is not, and a device has to tell only two.
    least, most = float(pixels.min()), float(pixels.max())
    if not math.isfinite(least) or not math.isfinite(most):
        return "some of its numbers are not finite"
    return "it is black all over" if most < DARKEST else None


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


def decoded_image(content: bytes) -> Image.Image:
    """Decode an image that somebody drew, as ``read_image`` does.

    Raises:
        ValueError: If it is none of the usual formats, cut off or too large.
        CandidateError: If it is black all over.
    """
    image = read_image(content)
    # In bytes: as numbers of another type they would take many times the memory.
    bands = cast("tuple[tuple[int, int], ...]", image.getextrema())
    if max(most for _, most in bands) < DARKEST * 255:
        message = (
            "expected an image, but it is black all over; try another seed or prompt"
        )
        raise CandidateError(Status.NUMERICAL_FAILURE, message)
    return image


def read_image(content: bytes) -> Image.Image:
    """Decode an image whole, and take nothing from its file but the pixels.

    What is transparent is shown on white, as everybody else will see it.

    Raises:
        ValueError: If it is none of the usual formats, cut off or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = Image.open(io.BytesIO(content), formats=FORMATS)
        if file.width * file.height > MAX_PIXELS:
            message = f"the image has {file.width}x{file.height} pixels, which are many"
            raise ValueError(message)
        image = on_white(file)
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        message = f"the answer is no whole {', '.join(FORMATS)} image ({error})"
        raise ValueError(message) from error
    # A file's own notes could pass for ours, such as the number of cut tokens.
    image.info.clear()
    return image


def on_white(image: Image.Image) -> Image.Image:
    """Return an image's pixels in RGB, on white where it is transparent."""
    if image.mode.startswith("I;16"):
        # PIL would make everything above 255 white.
        return image.point(lambda level: level / 257, "L").convert("RGB")
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        ground = Image.new("RGB", whole.size, "white")
        ground.paste(whole, mask=whole.getchannel("A"))
        notes = image.info.items()
        ground.info = {name: one for name, one in notes if name != "transparency"}
        return ground
    return image.convert("RGB")


def _loops(words: list[str]) -> bool:
    """Whether some phrase of 1 to 8 words follows itself twice, or a word 3 times."""
    for size in range(1, 9):
        times = 4 if size == 1 else 3
        for start in range(len(words) - size * times + 1):
            phrase = words[start : start + size]
            if words[start : start + size * times] == phrase * times:
                return True
    return False
