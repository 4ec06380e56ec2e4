"""Output checks: what a model returned, taken over and held to what was promised of it.

Models may be anybody's functions. What they return is looked at before anything else
is done with it, so that whatever is wrong fails the one candidate that it is about.
"""

from __future__ import annotations

import asyncio
import math
from threading import Lock
from typing import Any, NoReturn, cast

from PIL import Image

from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.counts import Count
from socratic_agents.core.errors import CandidateError
from socratic_agents.core.history import Status
from socratic_agents.core.text import whole_characters
from socratic_agents.models.validation import on_white
from socratic_agents.storage.safe_png import MAX_PIXELS

__all__ = (
    "own_answer",
    "own_caption",
    "own_count",
    "own_image",
    "own_score",
    "own_text",
)

SMALL = 2**16
"""An image of so many pixels is examined in less time than another thread takes."""
DARKEST = 1
"""An image without a brighter level is black, up to rounding."""
ROUNDED = 1e-6
"""Shares that were rounded may be larger by so much."""
NOTE = "truncated_tokens"
"""What is read of an image's ``info``."""

_decoding = Lock()
"""Two threads may not decode one file at once, and it may be returned twice."""


async def own_image(given: Any) -> Image.Image:
    """Return a picture of its own, RGB and whole, of what a generator returned.

    What is in memory is copied at once, since the generator may go on painting on it.

    Args:
        given: Should be a PIL image, of any mode; it may still be in its file.

    Raises:
        CandidateError: If it is none, has no pixels or too many, or is black all over.
    """
    if not isinstance(given, Image.Image):
        _refuse(
            Status.GENERATION_FAILED,
            f"expected the generator to return a PIL image, got {_name(given)}; convert it",
        )
    width, height = given.size
    if not 0 < width * height <= MAX_PIXELS:
        _refuse(
            Status.GENERATION_FAILED,
            f"expected an image of 1 to {MAX_PIXELS:,} pixels, got {width}x{height}",
        )
    in_file = bool(getattr(given, "tile", None))
    taken = given if in_file else given.copy()
    if width * height <= SMALL:
        return _examined(taken)
    return await asyncio.to_thread(_examined, taken)


def own_caption(given: Any) -> str:
    """Return the caption that a captioner returned.

    Raises:
        CandidateError: If it is no text, or a blank one.
    """
    text = _text(given, "captioner", Status.CAPTION_FAILED)
    if not text.strip():
        _refuse(Status.CAPTION_FAILED, "expected a caption, got blank text")
    return text


def own_text(given: Any) -> str:
    """Return what a captioner answered to an open question.

    Raises:
        CandidateError: If it is no text.
    """
    return _text(given, "captioner", Status.OK)


def own_answer(given: Any) -> Answer:
    """Return what a captioner answered to a yes/no question.

    Raises:
        CandidateError: If it is no answer, or one whose probability is none.
    """
    known = given.probability if isinstance(given, Answer) else math.nan
    if known is not None and not 0 <= known <= 1:  # NaN is not either
        _refuse(
            Status.OK,
            "expected an Answer with a probability from 0 to 1 or None, got "
            f"{given if isinstance(given, Answer) else _name(given)}",
        )
    return Answer(
        said=YesNo(given.said), probability=None if known is None else float(known)
    )


def own_count(given: Any) -> Count:
    """Return what a captioner answered to "how many".

    Raises:
        CandidateError: If it is no count, or one whose shares are none.
    """
    if not isinstance(given, Count) or not all(
        0 <= share <= 1 + ROUNDED for share in given.shares.values()
    ):
        _refuse(
            Status.OK,
            f"expected a Count with shares from 0 to 1, got "
            f"{given if isinstance(given, Count) else _name(given)}",
        )
    return given


def own_score(given: Any) -> float:
    """Return the score that a scorer returned: any one number.

    Raises:
        CandidateError: If it is none, or not finite; NaN would win every comparison.
    """
    score = math.nan if isinstance(given, str | bytes) else float(given)
    if not math.isfinite(score):
        _refuse(
            Status.OK, f"expected a finite score, got {str(given)[:100]!r}; try float32"
        )
    return score


def _examined(image: Image.Image) -> Image.Image:
    with _decoding:
        # A file that is cut off says so only now.
        rgb = _rgb(image)
    tokens = rgb.info.pop(NOTE, None)
    if isinstance(tokens, int) and tokens >= 0:  # JSON has no other numbers of tokens
        rgb.info[NOTE] = int(tokens)
    bands = cast("tuple[tuple[int, int], ...]", rgb.getextrema())
    if max(high for _, high in bands) <= DARKEST:
        _refuse(
            Status.NUMERICAL_FAILURE,
            "expected an image, but it is black all over; try another seed or prompt",
        )
    return rgb


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        import numpy as np

        if not np.isfinite(np.asarray(image)).all():
            _refuse(
                Status.NUMERICAL_FAILURE,
                "expected an image, but some of its numbers are not finite; try float32",
            )
    return on_white(image)


def _text(given: Any, who: str, status: Status) -> str:
    if not isinstance(given, str):
        _refuse(status, f"expected the {who} to return text, got {_name(given)}")
    return whole_characters(given)


def _name(given: object) -> str:
    return type(given).__name__


def _refuse(status: Status, message: str) -> NoReturn:
    raise CandidateError(status, message)
