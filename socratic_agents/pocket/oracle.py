"""The exact oracle: what an image of the pocket world really shows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from socratic_agents.core.extras import needs_extra
from socratic_agents.pocket.scene import (
    PALETTE,
    RADII,
    SIDE,
    Scene,
    SceneObject,
    distance,
)
from socratic_agents.pocket.vocabulary import BACKGROUNDS, COLOURS, SHAPES, SIZES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ("read_scene",)

CONTRAST = 40.0
"""How far from the background a pixel of an object is, in steps of 255."""
SMALLEST = 40
"""Fewest pixels of an object; anything smaller is a speck."""
LIKENESS = 0.6
"""Least overlap (intersection over union) with a shape to be called one."""
BRIDGE = 2
"""Half the width, in pixels, of a bridge between two objects that only touch."""
_SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def read_scene(image: Image.Image) -> Scene:
    """Read what an image shows, by colour segmentation and shape matching.

    Args:
        image: Any mode and size; it is read as RGB at ``SIDE`` x ``SIDE`` pixels.

    Returns:
        The background and every object of at least ``SMALLEST`` pixels, from left
        to right. A shape that resembles none is called ``unknown``.
    """
    ndimage = _ndimage()
    image = image.convert("RGB")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, axis=0)
    away = np.abs(pixels - ground).max(axis=2) > CONTRAST
    labels, count = ndimage.label(away, structure=np.ones((3, 3)))
    masks = [labels == number for number in range(1, count + 1)]
    objects = [
        obj
        for mask in masks
        if mask.sum() >= SMALLEST
        for obj in _objects(pixels, mask)
    ]
    return Scene(
        tuple(sorted(objects, key=lambda obj: (obj.x, obj.y))),
        _nearest(ground, BACKGROUNDS),
    )


def _ndimage() -> Any:
    """Return scipy's functions of images; loaded here, since it takes a while."""
    with needs_extra("to read what an image shows"):
        from scipy import ndimage
    return ndimage


def _objects(pixels: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[SceneObject]:
    """Read what is in one piece: one object, or two that touch."""
    ndimage = _ndimage()
    whole = _object(pixels, mask)
    if whole.shape in SHAPES:
        return [whole]
    cores, count = ndimage.label(ndimage.binary_erosion(mask, iterations=BRIDGE))
    if count < 2:
        return [whole]
    # Every pixel goes to the nearest core.
    nearest = ndimage.distance_transform_edt(
        cores == 0, return_distances=False, return_indices=True
    )
    owners = np.where(mask, cores[tuple(nearest)], 0)
    pieces = [owners == number for number in range(1, count + 1)]
    parts = [_object(pixels, p) for p in pieces if p.sum() >= SMALLEST]
    known = all(part.shape in SHAPES for part in parts)
    return parts if known else [whole]


def _object(pixels: NDArray[np.float32], mask: NDArray[np.bool_]) -> SceneObject:
    rows, columns = np.nonzero(mask)
    y = (rows.min() + rows.max() + 1) / 2
    x = (columns.min() + columns.max() + 1) / 2
    inner = _ndimage().binary_erosion(mask)
    core = inner if inner.any() else mask
    stamps, names = _stamps()
    window = _window(mask, round(x), round(y))
    both = (stamps & window).sum(axis=(1, 2))
    either = (stamps | window).sum(axis=(1, 2))
    overlap = both / either
    best = int(overlap.argmax())
    shape, size = names[best]
    return SceneObject(
        shape if overlap[best] >= LIKENESS else "unknown",
        _nearest(np.median(pixels[core], axis=0), COLOURS),
        size,
        float(x),
        float(y),
    )


def _window(mask: NDArray[np.bool_], x: int, y: int) -> NDArray[np.bool_]:
    """Return the mask moved so that (x, y) stands in the middle."""
    half = SIDE // 2
    padded = np.pad(mask, half)
    return padded[y : y + SIDE, x : x + SIDE]


@cache
def _stamps() -> tuple[NDArray[np.bool_], list[tuple[str, str]]]:
    """Return every shape in every size, at several offsets from the middle."""
    middle = np.arange(SIDE, dtype=np.float32) + 0.5 - SIDE / 2
    x, y = np.meshgrid(middle, middle)
    stamps, names = [], []
    for shape in SHAPES:
        for size in SIZES:
            for right in _SHIFTS:
                for down in _SHIFTS:
                    edge = distance(shape, x - right, y - down, RADII[size])
                    stamps.append(edge < 0)
                    names.append((shape, size))
    return np.stack(stamps), names


def _nearest(colour: NDArray[np.float32], names: Sequence[str]) -> str:
    palette = np.array([PALETTE[name] for name in names], np.float32)
    return names[int(((palette - colour) ** 2).sum(axis=1).argmin())]
