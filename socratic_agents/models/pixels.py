"""What a pipeline returned, as numbers of an image or as why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from socratic_agents.core.errors import CandidateError
from socratic_agents.core.history import Status
from socratic_agents.models.validation import image_fault

if TYPE_CHECKING:
    import torch

__all__ = ("checked_pixels", "withheld_flags")

RGBA = 4
"""Numbers of a pixel that has an alpha."""


def withheld_flags(output: Any, count: int) -> list[bool]:
    """Return for each image whether the pipeline's own safety filter hid it.

    The flag is the only evidence: the image itself was replaced.
    """
    for name in ("nsfw_content_detected", "nsfw_detected"):
        flags = getattr(output, name, None)
        if flags is not None:
            return [bool(flag) for flag in flags]
    return [False] * count


def checked_pixels(image: Any, *, filtered: bool) -> torch.Tensor | CandidateError:
    """Return an image's numbers, or why it is none."""
    import torch

    if filtered:
        message = (
            "expected an image, got one that the generator's safety filter withheld; "
            "try another seed or prompt"
        )
        return CandidateError(Status.SAFETY_FILTERED, message)
    if isinstance(image, torch.Tensor):
        pixels = image.permute(1, 2, 0).float()
    else:
        pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    if pixels.shape[-1] == RGBA:  # shown on white, as everywhere
        opaque = pixels[..., 3:].clamp(0.0, 1.0)
        pixels = pixels[..., :3] * opaque + (1 - opaque)
    fault = image_fault(pixels)
    if fault is not None:
        message = (
            f"expected an image, but {fault}; try dtype float32 or bfloat16, or "
            "another seed"
        )
        return CandidateError(Status.NUMERICAL_FAILURE, message)
    return pixels.clamp(0.0, 1.0)
