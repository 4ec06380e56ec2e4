"""Batches of rendered scenes, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from socratic_agents.pocket.prompt_parser import ThingWish, Wish
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.scene import SIDE, Scene, Thing, render, sample_scene
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
    "Saying",
    "draw_scenes",
    "mutate",
    "pixels",
    "say",
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
class Saying:
    """One way to describe a scene."""

    wish: Wish
    """In the order of the words; a word that nobody knows is ``UNKNOWN``."""
    text: str

    def slots(self) -> dict[str, int]:
        """Return what is said as class numbers, the last of each is "not said".

        Two objects are numbered from left to right or from top to bottom.
        """
        things, relation = list(self.wish.things), self.wish.relation
        if relation in {"right", "below"}:
            things.reverse()
        slots = {
            "count": len(things) - 1,
            "axis": {"left": 0, "right": 0, "above": 1, "below": 1}.get(
                relation or "", 2
            ),
            "background": _number(BACKGROUNDS, self.wish.background),
        }
        for place in range(2):
            thing = things[place] if place < len(things) else ThingWish()
            slots[f"shape{place}"] = _number(SHAPES, thing.shape)
            slots[f"colour{place}"] = _number(COLOURS, thing.colour)
            slots[f"size{place}"] = _number(SIZES, thing.size)
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


def say(scene: Scene, rng: random.Random, *, unknown: float = 0.12) -> Saying:
    """Describe a scene in one of the many ways in which people do.

    Args:
        scene: What is shown.
        rng: Where the chance comes from.
        unknown: Share of sayings in which some words are unknown ones.
    """
    hide = rng.choice((0.25, 0.6, 1.0)) if rng.random() < unknown else 0.0
    size, ground = rng.random() < 0.75, rng.random() < 0.75

    def heard(word: str) -> str:
        return UNKNOWN if hide and rng.random() < hide else word

    things = [
        ThingWish(
            heard(thing.shape),
            heard(thing.colour),
            heard(thing.size) if size else None,
        )
        for thing in scene.things
    ]
    relation = scene.relation()
    if relation and rng.random() < 0.5:
        things.reverse()
        relation = INVERSE[relation]
    if relation:
        relation = heard(relation) if rng.random() < 0.93 else None
    background = heard(scene.background) if ground else None
    wish = Wish(tuple(things), relation, background)
    text = phrase(wish, articles=rng.random() < 0.75)
    if rng.random() < 0.05:
        text = f"{rng.choice(('a picture of', 'an image of', 'there is'))} {text}"
    return Saying(wish, text)


def mutate(scene: Scene, rng: random.Random) -> Scene:
    """Return a scene that differs in one respect: a hard negative.

    One word of one object or the background is another, the two objects swap their
    colours, shapes, sizes or places, or the second object comes or goes.
    """
    things = scene.things
    kind = rng.choice(("shape", "colour", "size", "background", *("pair",) * 4))
    if kind == "background":
        others = [word for word in BACKGROUNDS if word != scene.background]
        return replace(scene, background=rng.choice(others))
    if kind != "pair":
        place = rng.randrange(len(things))
        words = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}[kind]
        others = [word for word in words if word != getattr(things[place], kind)]
        changed = [*things]
        changed[place] = _changed(things[place], kind, rng.choice(others))
        return replace(scene, things=tuple(changed))
    if len(things) == 1:
        return sample_scene(rng, pair=1.0)
    return replace(scene, things=_mutate_pair(things[0], things[1], rng))


def _mutate_pair(first: Thing, second: Thing, rng: random.Random) -> tuple[Thing, ...]:
    # Where things stand is the hardest to learn, so it changes most often.
    swap = rng.choice(("shape", "colour", "size", "count", *("place", "turn") * 2))
    if swap == "count":
        return (replace(first, x=SIDE / 2, y=SIDE / 2),)
    if swap == "place":
        return (
            replace(first, x=second.x, y=second.y),
            replace(second, x=first.x, y=first.y),
        )
    if swap == "turn":
        return tuple(replace(thing, x=thing.y, y=thing.x) for thing in (first, second))
    one, two = getattr(first, swap), getattr(second, swap)
    return _changed(first, swap, two), _changed(second, swap, one)


def _changed(thing: Thing, kind: str, word: str) -> Thing:
    change: Any = {kind: word}
    return replace(thing, **change)


def _number(words: Sequence[str], word: str | None) -> int:
    return words.index(word) if word in words else len(words)
