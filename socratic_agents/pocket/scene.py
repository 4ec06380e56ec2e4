"""The pocket world: scenes of coloured shapes, and their images."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from socratic_agents.pocket.prompt_parser import SceneSpec, parse_prompt
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
)

if TYPE_CHECKING:
    import random
    from typing import Any

    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]

__all__ = (
    "PALETTE",
    "RADII",
    "SIDE",
    "Scene",
    "SceneObject",
    "distance",
    "render",
    "sample_scene",
)

SIDE = 64
"""Width and height of an image in pixels."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 44),
    "orange": (250, 140, 20),
    "yellow": (250, 228, 60),
    "green": (36, 150, 62),
    "blue": (38, 80, 226),
    "purple": (128, 44, 172),
    "pink": (252, 132, 192),
    "cyan": (56, 206, 222),
    "white": (248, 248, 248),
    "black": (16, 16, 16),
    "gray": (134, 136, 140),
    "brown": (102, 66, 36),
}

RADII = {"small": 8.0, "large": 13.5}
"""Half the extent of an object in pixels."""

APART = 15.75
"""Distance in pixels of each of two objects from the middle."""

STEPS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}


@dataclass(frozen=True)
class SceneObject:
    """One object: what it is, and where its middle stands in pixels."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """What an image shows."""

    objects: tuple[SceneObject, ...]
    background: str

    def relation(self) -> str | None:
        """Return how the first of two objects stands to the second."""
        if len(self.objects) != 2:
            return None
        first, second = self.objects
        return _relation(first, second)

    def agreement(self, user_prompt: str) -> float:
        """Return how far this scene shows what a prompt asks for, in [0, 1].

        Count, shapes, colours, sizes, relation and background count in equal parts,
        as far as they are asked for; 1.0 when everything is there. Objects are
        paired with what is asked in the way that agrees best.

        Raises:
            UnknownWordError: If the pocket world does not know a word.
        """
        return self.spec_agreement(parse_prompt(user_prompt))

    def spec_agreement(self, spec: SceneSpec) -> float:
        """Return how far this scene shows what is wished for, in [0, 1]."""
        seats: list[SceneObject | None] = [*self.objects]
        seats += [None] * (len(spec.objects) - len(seats))
        pairings = itertools.permutations(seats, len(spec.objects))
        return max(self._agreement(spec, pairing) for pairing in pairings)

    def _agreement(
        self, spec: SceneSpec, pairing: tuple[SceneObject | None, ...]
    ) -> float:
        parts = [float(len(self.objects) == len(spec.objects))]
        for kind in ("shape", "colour", "size"):
            asked = [
                getattr(obj, kind, None) == getattr(wanted, kind)
                for wanted, obj in zip(spec.objects, pairing, strict=True)
                if getattr(wanted, kind)
            ]
            if asked:
                parts.append(sum(asked) / len(asked))
        if spec.relation:
            first, second = pairing
            seen = _relation(first, second) if first and second else None
            parts.append(float(seen == spec.relation))
        if spec.background:
            parts.append(float(self.background == spec.background))
        return sum(parts) / len(parts)


def _relation(first: SceneObject, second: SceneObject) -> str:
    across, down = first.x - second.x, first.y - second.y
    if abs(across) >= abs(down):
        return "left" if across < 0 else "right"
    return "above" if down < 0 else "below"


def distance(shape: str, x: Plane, y: Plane, radius: float) -> Plane:
    """Return the distance in pixels of points to a shape's edge, negative inside.

    Args:
        shape: One of ``SHAPES``.
        x: Offsets in pixels to the right of the shape's middle.
        y: Offsets in pixels below the shape's middle, of the same dimensions.
        radius: Half the shape's extent in pixels.
    """
    across = np.abs(x)
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(across, np.abs(y)) - 0.86 * radius
    if shape == "triangle":
        corner, lowered = 1.2 * radius, y - 0.3 * radius
        slope = 0.866 * across - 0.5 * lowered
        return np.maximum(lowered, slope) - corner / 2
    if shape == "cross":
        arm, upright = 0.36 * radius, np.abs(y)
        flat = np.maximum(across - radius, upright - arm)
        return np.minimum(flat, np.maximum(across - arm, upright - radius))
    return np.abs(np.hypot(x, y) - 0.72 * radius) - 0.28 * radius


def render(scene: Scene) -> Image.Image:
    """Draw a scene with smooth edges: RGB, ``SIDE`` x ``SIDE`` pixels."""
    middle = np.arange(SIDE, dtype=np.float32) + 0.5
    x, y = np.meshgrid(middle, middle)
    canvas = np.empty((SIDE, SIDE, 3), np.float32)
    canvas[:] = PALETTE[scene.background]
    for obj in scene.objects:
        edge = distance(obj.shape, x - obj.x, y - obj.y, RADII[obj.size])
        cover = np.clip(0.5 - edge, 0, 1)[..., None]
        canvas += cover * (np.array(PALETTE[obj.colour], np.float32) - canvas)
    return Image.fromarray((canvas + 0.5).astype(np.uint8))


def sample_scene(rng: random.Random, *, pair: float = 0.65) -> Scene:
    """Return a random scene.

    Args:
        rng: Random number generator.
        pair: Share of scenes with two objects.
    """

    def around(value: float, spread: float) -> float:
        return value + rng.uniform(-spread, spread)

    half = SIDE / 2
    places = [(around(half, 4), around(half, 4))]
    if rng.random() < pair:
        across, down = STEPS[rng.choice(RELATIONS)]
        places = []
        for side in (1, -1):
            along, aside = side * around(APART, 0.5), around(0, 2.5)
            x = half + (across * along if across else aside)
            y = half + (down * along if down else aside)
            places.append((x, y))
    objects = [
        SceneObject(rng.choice(SHAPES), rng.choice(COLOURS), rng.choice(SIZES), x, y)
        for x, y in places
    ]
    return Scene(tuple(objects), rng.choice(BACKGROUNDS))
