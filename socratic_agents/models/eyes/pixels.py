"""Pixels: how much of an image a captioner looks at, where its processor can choose."""

from __future__ import annotations

import math
from typing import Any

from socratic_agents.core.errors import ConfigurationError

__all__ = ("limit_pixels",)

SOFT_TOKENS = (70, 140, 280, 560, 1120)
"""Numbers of tokens that Gemma's image processor can be told of one image."""


def limit_pixels(processor: Any, config: Any, most: int) -> None:
    """Let a processor hand on so many pixels of an image at most, as far as it can.

    What it counts in tiles or tokens keeps at least one of them.

    Args:
        processor: Of a captioner, as it was opened.
        config: Of its model, which may have to know the same sizes.
        most: Pixels of one image, width times height.

    Raises:
        ConfigurationError: If it hands on images of one size alone, and that is more.
    """
    looker: Any = getattr(processor, "image_processor", None)
    size = _sides(getattr(looker, "size", None))
    if hasattr(looker, "max_soft_tokens"):
        each = (looker.patch_size * looker.pooling_kernel_size) ** 2
        fitting = [number for number in SOFT_TOKENS if number * each <= most]
        looker.max_soft_tokens = max(fitting, default=SOFT_TOKENS[0])
    elif hasattr(looker, "max_image_tokens"):
        each = (looker.encoder_patch_size * looker.downsample_factor) ** 2
        tokens = max(looker.min_image_tokens, most // each)
        looker.max_image_tokens = min(looker.max_image_tokens, tokens)
        looker.do_image_splitting &= most >= 2 * looker.tile_size**2
    elif getattr(looker, "image_grid_pinpoints", None):
        grid = sorted(looker.image_grid_pinpoints, key=math.prod)
        fitting = [sides for sides in grid if math.prod(sides) <= most] or grid[:1]
        looker.image_grid_pinpoints = config.image_grid_pinpoints = fitting
    elif hasattr(looker, "max_patches"):
        tile = size.get("height", 0) * size.get("width", 0)
        looker.max_patches = min(looker.max_patches, max(1, most // max(1, tile)))
    elif hasattr(looker, "merge_size"):
        # These two are not edges but numbers of pixels.
        looker.size = {name: min(value, most) for name, value in size.items()}
    elif "longest_edge" in size:
        side = math.isqrt(most)
        looker.size = {name: min(value, side) for name, value in size.items()}
    else:
        _check_fixed(processor, looker, size, most)


def _sides(size: Any) -> dict[str, int]:
    """Return a size as processors have it, by name."""
    named = dict(size) if size and not isinstance(size, int) else {}
    return {name: value for name, value in named.items() if value is not None}


def _check_fixed(processor: Any, looker: Any, size: dict[str, int], most: int) -> None:
    """Refuse a limit below the one size that a processor hands on."""
    cut = _sides(getattr(looker, "crop_size", None)) or size
    edge = cut.get("shortest_edge", 0)
    width, height = cut.get("width", edge), cut.get("height", edge)
    if not width * height or width * height > most:
        shown = f"{width}x{height} pixels" if width * height else "one size"
        message = (
            "expected a captioner that looks at images of any size for captioner_pixels "
            f"{most}, got a {type(processor).__name__}, which always takes {shown}; leave "
            "captioner_pixels out"
        )
        raise ConfigurationError(message)
