"""Batches of rendered scenes, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.scene import SIDE, Scene, SceneObject, render, sample_scene
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    INVERSE,
    SHAPES,
    SIZES,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

__all__ = (
    "SLOTS",
    "UNKNOWN",
    "Description",
    "describe",
    "draw_scenes",
    "mutate",
    "pixels",
)

UNKNOWN = "<unk>"


def draw_scenes(rng: random.Random, n: int) -> list[Scene]:
    """Return ``n`` random scenes."""
    return [sample_scene(rng) for _ in range(n)]


def pixels(scenes: Sequence[Scene]) -> torch.Tensor:
    """Render scenes: float32 of shape (n, 3, 64, 64) in [-1, 1]."""
    stacked = np.stack([np.asarray(render(scene)) for scene in scenes])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Description:
    """One way to describe a scene."""

    spec: SceneSpec
    """In the order of the words; a word that nobody knows is ``UNKNOWN``."""
    text: str

    def slots(self) -> dict[str, int]:
        """Return what is said as class numbers, the last of each is "not said".

        Two objects are numbered from left to right or from top to bottom.
        """
        objects, relation = list(self.spec.objects), self.spec.relation
        if relation in {"right", "below"}:
            objects.reverse()
        slots = {
            "count": len(objects) - 1,
            "axis": {"left": 0, "right": 0, "above": 1, "below": 1}.get(
                relation or "", 2
            ),
            "background": _number(BACKGROUNDS, self.spec.background),
        }
        for place in range(2):
            obj = objects[place] if place < len(objects) else ObjectSpec()
            slots[f"shape{place}"] = _number(SHAPES, obj.shape)
            slots[f"colour{place}"] = _number(COLOURS, obj.colour)
            slots[f"size{place}"] = _number(SIZES, obj.size)
        return slots


SLOTS = {
    "count": 2,
    "axis": 3,
    "background": len(BACKGROUNDS) + 1,
    **{f"shape{place}": len(SHAPES) + 1 for place in range(2)},
    **{f"colour{place}": len(COLOURS) + 1 for place in range(2)},
    **{f"size{place}": len(SIZES) + 1 for place in range(2)},
}
"""Slot to its number of classes."""


def describe(scene: Scene, rng: random.Random, *, unknown: float = 0.12) -> Description:
    """Describe a scene in one of the many ways in which people do.

    Args:
        scene: What is shown.
        rng: Random number generator.
        unknown: Share of descriptions in which some words are unknown ones.
    """
    hide = rng.choice((0.25, 0.6, 1.0)) if rng.random() < unknown else 0.0
    size, ground = rng.random() < 0.75, rng.random() < 0.75

    def heard(word: str) -> str:
        return UNKNOWN if hide and rng.random() < hide else word

    objects = [
        ObjectSpec(
            heard(obj.shape),
            heard(obj.colour),
            heard(obj.size) if size else None,
        )
        for obj in scene.objects
    ]
    relation = scene.relation()
    if relation and rng.random() < 0.5:
        objects.reverse()
        relation = INVERSE[relation]
    if relation:
        relation = heard(relation) if rng.random() < 0.93 else None
    background = heard(scene.background) if ground else None
    spec = SceneSpec(tuple(objects), relation, background)
    text = phrase(spec, articles=rng.random() < 0.75)
    if rng.random() < 0.05:
        text = f"{rng.choice(('a picture of', 'an image of', 'there is'))} {text}"
    return Description(spec, text)


def mutate(scene: Scene, rng: random.Random) -> Scene:
    """Return a scene that differs in one respect: a hard negative.

    One word of one object or the background is another, the two objects swap their
    colours, shapes, sizes or places, or the second object comes or goes.
    """
    objects = scene.objects
    kind = rng.choice(("shape", "colour", "size", "background", *("pair",) * 4))
    if kind == "background":
        others = [word for word in BACKGROUNDS if word != scene.background]
        return replace(scene, background=rng.choice(others))
    if kind != "pair":
        place = rng.randrange(len(objects))
        words = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}[kind]
        others = [word for word in words if word != getattr(objects[place], kind)]
        changed = [*objects]
        changed[place] = _changed(objects[place], kind, rng.choice(others))
        return replace(scene, objects=tuple(changed))
    if len(objects) == 1:
        return sample_scene(rng, pair=1.0)
    return replace(scene, objects=_mutate_pair(objects[0], objects[1], rng))


def _mutate_pair(
    first: SceneObject, second: SceneObject, rng: random.Random
) -> tuple[SceneObject, ...]:
    # Where objects stand is the hardest to learn, so it changes most often.
    swap = rng.choice(("shape", "colour", "size", "count", *("place", "turn") * 2))
    if swap == "count":
        return (replace(first, x=SIDE / 2, y=SIDE / 2),)
    if swap == "place":
        return (
            replace(first, x=second.x, y=second.y),
            replace(second, x=first.x, y=first.y),
        )
    if swap == "turn":
        return tuple(replace(obj, x=obj.y, y=obj.x) for obj in (first, second))
    one, two = getattr(first, swap), getattr(second, swap)
    return _changed(first, swap, two), _changed(second, swap, one)


def _changed(obj: SceneObject, kind: str, word: str) -> SceneObject:
    change: Any = {kind: word}
    return replace(obj, **change)


def _number(words: Sequence[str], word: str | None) -> int:
    return words.index(word) if word in words else len(words)
