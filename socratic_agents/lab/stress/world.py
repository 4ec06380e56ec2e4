"""A world with dials: simulated models that err as often, and as, they are told to.

What is drawn are scenes of the pocket world, so that the exact oracle reads what really
came out, and the loop, its searches, its templates and its rule-based chat model are
those of every other run.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.pocket.oracle import read_scene
from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.questions import true_answer
from socratic_agents.pocket.scene import APART, SIDE, STEPS, Scene, SceneObject, render
from socratic_agents.pocket.synonyms import parse_literally
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    meaning,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

__all__ = (
    "Dials",
    "SimulatedCaptioner",
    "SimulatedGenerator",
    "SimulatedScorer",
    "chance",
    "seen",
)

VALUES = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "relation": RELATIONS,
    "background": BACKGROUNDS,
}

LOOKS = ("shape", "colour", "size")
HALF = 0.5
"""How often a hard concept comes out wrong."""


@dataclass(frozen=True, kw_only=True)
class Dials:
    """How often each thing goes wrong, from 0 to 1 each; all of it by chance.

    Chance is a hash of what decides: where it is the seed, another seed is another
    chance; where it is the wording, only other words are.

    Raises:
        ConfigurationError: If one is out of range.
    """

    seed_noise: float = 0.0
    """An attribute comes out wrong, by prompt and seed together."""
    noise_of_seed: float = 0.0
    """The same, by the seed alone: whatever the words, this noise gets it wrong."""
    wording: float = 0.0
    """The same, by the words alone: whatever the seed, these words get it wrong."""
    hard_concepts: float = 0.0
    """Share of the values, such as "cross", that come out wrong with every other seed."""
    swapped_colours: float = 0.0
    """Two objects have each other's colour."""
    missed_objects: float = 0.0
    """The second object is not drawn."""
    foreign_words: float = 0.0
    """A word that is not the world's own is drawn as if it were another, always."""
    vqa_error: float = 0.0
    """An answer about an image is the opposite of the truth."""
    yes_bias: float = 0.0
    """A true "no" is answered by yes."""
    caption_error: float = 0.0
    """A caption names an attribute wrongly."""
    llm_error: float = 0.0
    """The chat model answers wrongly."""
    scorer_noise: float = 0.1
    """Standard deviation of the scorer around the truth, which is from 0 to 1."""
    distilled: bool = False
    """The image does not depend on its seed."""

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                message = (
                    f"expected dial {field.name} from 0 to 1, got {value}; it is how "
                    "often something goes wrong"
                )
                raise ConfigurationError(message)


def chance(*decided_by: object) -> float:
    """Return a number from 0 to 1 that depends on nothing but the arguments."""
    digest = hashlib.sha256(repr(decided_by).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _other(kind: str, value: str | None, *decided_by: object) -> str:
    """Return another value of a kind, by chance."""
    others = [one for one in VALUES[kind] if one != value]
    return others[int(chance("which", *decided_by) * len(others))]


@dataclass(frozen=True)
class SimulatedGenerator:
    """Draws what a prompt says, but for what the dials make go wrong."""

    dials: Dials

    async def __call__(self, prompt: str, seed: int) -> Image.Image:
        """Draw a prompt.

        Raises:
            CandidateError: If its words make no sense in the pocket world.
        """
        wanted = parse_literally(prompt)
        if wanted is None:
            message = f"expected a prompt of the pocket world, got {prompt[:80]!r}"
            raise CandidateError(Status.GENERATION_FAILED, message)
        return render(self.scene(wanted, prompt, 0 if self.dials.distilled else seed))

    def scene(self, wanted: SceneSpec, prompt: str, seed: int) -> Scene:
        """Return what comes out."""
        dials = self.dials

        def drawn(kind: str, word: str | None, place: int) -> str:
            slot = (kind, place)
            if word is None:
                return _other(kind, None, prompt, seed, slot)
            known = meaning(word)
            value = known.canonical if known and known.kind == kind else None
            if value is None or (
                value != word and chance("foreign", word) < dials.foreign_words
            ):
                return _other(kind, value, "foreign", word)
            if chance("alone", seed, slot, value) < dials.noise_of_seed:
                return _other(kind, value, seed, slot)
            hard = chance("hard", word) < dials.hard_concepts
            wrong = (
                chance("seed", prompt, seed, slot) < dials.seed_noise
                or chance("words", prompt, slot) < dials.wording
                or (hard and chance("half", prompt, seed, slot) < HALF)
            )
            return _other(kind, value, prompt, seed, slot) if wrong else value

        looks = [
            {kind: drawn(kind, getattr(one, kind), place) for kind in LOOKS}
            for place, one in enumerate(wanted.objects)
        ]
        if len(looks) > 1 and chance("swap", prompt, seed) < dials.swapped_colours:
            first, second = looks
            first["colour"], second["colour"] = second["colour"], first["colour"]
        if len(looks) > 1 and chance("miss", prompt, seed) < dials.missed_objects:
            looks = looks[:1]
        across, down = STEPS[drawn("relation", wanted.relation, 0)]
        middle = SIDE / 2
        objects = tuple(
            SceneObject(
                **look, x=middle + side * across * APART, y=middle + side * down * APART
            )
            for look, side in zip(
                looks, (1, -1) if len(looks) > 1 else (0,), strict=True
            )
        )
        ground = drawn("background", wanted.background, 0)
        return Scene(objects, ground)


@lru_cache(maxsize=4096)
def _read(pixels: bytes, width: int, height: int) -> Scene:
    from PIL import Image

    return read_scene(Image.frombytes("RGB", (width, height), pixels))


def seen(image: Image.Image) -> tuple[bytes, Scene]:
    """Return what tells an image from others, and what it shows."""
    pixels = image.convert("RGB").tobytes()
    return hashlib.sha256(pixels).digest()[:12], _read(pixels, *image.size)


@dataclass(frozen=True)
class SimulatedCaptioner:
    """Says what the oracle sees, but for what the dials make go wrong.

    An image that is looked at twice is mistaken twice in the same way.
    """

    dials: Dials

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Describe images."""
        return [self._caption(image) for image in images]

    def _caption(self, image: Image.Image) -> str:
        key, scene = seen(image)

        def told(kind: str, value: str, place: int) -> str:
            slot = (kind, place)
            wrong = chance("caption", key, slot) < self.dials.caption_error
            return _other(kind, value, key, slot) if wrong else value

        objects = tuple(
            ObjectSpec(*(told(kind, getattr(one, kind), place) for kind in LOOKS))
            for place, one in enumerate(scene.objects)
        )
        relation = scene.relation()
        return phrase(
            SceneSpec(
                objects,
                relation and told("relation", relation, 0),
                told("background", scene.background, 0),
            )
        )

    def decide(self, questions: Sequence[tuple[Image.Image, str]]) -> list[Answer]:
        """Answer yes/no questions."""
        return [self._decide(*one) for one in questions]

    def _decide(self, image: Image.Image, question: str) -> Answer:
        key, scene = seen(image)
        yes = true_answer(question, scene)
        if chance("vqa", key, question) < self.dials.vqa_error:
            yes = not yes
        yes = yes or chance("bias", key, question) < self.dials.yes_bias
        return Answer(said=YesNo.YES if yes else YesNo.NO)


@dataclass(frozen=True)
class SimulatedScorer:
    """Scores an image by the truth and noise."""

    dials: Dials

    async def __call__(self, prompt: str, image: Image.Image) -> float:
        """Return a score, around 0 to 1."""
        key, scene = seen(image)
        digest = hashlib.sha256(key + prompt.encode()).hexdigest()
        noise = random.Random(digest).gauss(0, self.dials.scorer_noise)
        return scene.agreement(prompt) + noise
