"""Scenes and specs in words: canonical, foreign and terse."""

from __future__ import annotations

import random
from typing import Literal

from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec
from socratic_agents.pocket.scene import Scene, sample_scene
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    FOREIGN,
    RELATIONS,
    SHAPES,
    SIZES,
)

__all__ = ("FOREIGN_SHARE", "article", "caption", "foreign", "phrase", "sample_prompts")


def caption(scene: Scene, *, size: bool = True, background: bool = True) -> str:
    """Describe a scene in canonical words."""
    specs = tuple(
        ObjectSpec(obj.shape, obj.colour, obj.size if size else None)
        for obj in scene.objects
    )
    ground = scene.background if background else None
    return phrase(SceneSpec(specs, scene.relation(), ground))


def phrase(spec: SceneSpec, *, articles: bool = True) -> str:
    """Put a spec into words, with articles or tersely."""

    def named(obj: ObjectSpec) -> str:
        words = [w for w in (obj.size, obj.colour, obj.shape or "thing") if w]
        return (f"{article(words[0])} " if articles else "") + " ".join(words)

    text = named(spec.objects[0])
    if len(spec.objects) > 1:
        of = " of" if spec.relation in {"left", "right"} else ""
        joint = f"{spec.relation}{of}" if spec.relation else "and"
        text += f" {joint} {named(spec.objects[1])}"
    if spec.background:
        ground = f"{spec.background} background"
        text += f" on {article(ground)} {ground}" if articles else f" on {ground}"
    return text


def foreign(text: str, rng: random.Random, share: dict[str, float]) -> str:
    """Put a canonical text into other people's words.

    Args:
        text: Canonical words.
        rng: Random number generator.
        share: Canonical word to the probability that it is replaced.
    """
    words: list[str] = []
    for word in text.split():
        other = word in FOREIGN and rng.random() < share.get(word, 0.0)
        words.append(rng.choice(FOREIGN[word]) if other else word)
    for place, word in enumerate(words[:-1]):
        if word in {"a", "an"}:
            words[place] = article(words[place + 1])
    return " ".join(words)


FOREIGN_SHARE = {
    word: share
    for words, share in (
        (SHAPES, 0.9),
        (COLOURS, 0.9),
        (SIZES, 0.5),
        (BACKGROUNDS, 0.5),
        (RELATIONS, 0.3),
    )
    for word in words
}


def sample_prompts(
    n: int, seed: int, kind: Literal["canonical", "foreign", "terse"] = "canonical"
) -> list[str]:
    """Make user prompts of the pocket world.

    Args:
        n: How many.
        seed: The same seed makes the same prompts.
        kind: ``canonical``, the generator's own words; ``foreign``, synonyms that it
            never saw; ``terse``, a few canonical words without articles.

    Raises:
        ValueError: If the kind is none of these.
    """
    if kind not in {"canonical", "foreign", "terse"}:
        message = f"expected kind canonical, foreign or terse, got {kind!r}"
        raise ValueError(message)
    rng = random.Random(f"{kind} {seed}")
    return [_sample_prompt(rng, kind) for _ in range(n)]


def _sample_prompt(rng: random.Random, kind: str) -> str:
    scene = sample_scene(rng)
    if kind == "terse":
        bare = [ObjectSpec(obj.shape, obj.colour) for obj in scene.objects]
        return phrase(SceneSpec(tuple(bare), scene.relation()), articles=False)
    size, background = rng.random() < 0.6, rng.random() < 0.6
    text = caption(scene, size=size, background=background)
    if kind == "canonical":
        return text
    while (other := foreign(text, rng, FOREIGN_SHARE)) == text:
        pass
    return other


def article(word: str) -> str:
    """Return the article that stands before a word."""
    return "an" if word[0] in "aeiou" else "a"
