"""Questions about scenes, and their true answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.pocket.phrases import FOREIGN_SHARE, foreign, phrase
from socratic_agents.pocket.wishes import ThingWish, Wish
from socratic_agents.pocket.words import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, SIZES
from socratic_agents.pocket.world import Scene

if TYPE_CHECKING:
    import random

    from socratic_agents.pocket.world import Thing

__all__ = ("QUESTION_WORDS", "ask_about")

QUESTION_WORDS = (
    *("question", "answer", ":", "?", "is", "there", "are", "what", "how", "many"),
    *("color", "shape", "object", "objects", "image", "show", "does", "it", "only"),
    *("one", "two", "yes", "no"),
)


def ask_about(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Return a question about a scene and the true answer.

    Most questions are answered by yes or no, as often by the one as by the other.
    """
    about = rng.choice(KINDS)
    if about is _relation and len(scene.things) == 1:
        about = _existence
    if about is _open:
        return _open(scene, rng)
    wanted = rng.choice(("yes", "no"))
    for _ in range(40):
        text, answer = about(scene, rng)
        if answer == wanted:
            break
    if rng.random() < 0.3:
        text = foreign(text, rng, FOREIGN_SHARE)
    return text, answer


def _existence(scene: Scene, rng: random.Random) -> tuple[str, str]:
    wish = _wish(rng.choice(scene.things), rng)
    opening = rng.choice(("is there", "is there", "does the image show"))
    right = any(_is(thing, wish) for thing in scene.things)
    return f"{opening} {phrase(Wish((wish,)))} ?", _yes(right)


def _attribute(scene: Scene, rng: random.Random) -> tuple[str, str]:
    thing = rng.choice(scene.things)
    kind, words = rng.choice((("colour", COLOURS), ("size", SIZES)))
    subject = ThingWish(_mostly(thing.shape, SHAPES, rng))
    shown = [getattr(t, kind) for t in scene.things if _is(t, subject)]
    word = _mostly(shown[0], words, rng) if shown else rng.choice(words)
    return f"is {_the(subject)} {word} ?", _yes(word in shown)


def _ground(scene: Scene, rng: random.Random) -> tuple[str, str]:
    word = _mostly(scene.background, BACKGROUNDS, rng)
    form = rng.choice(("is the background {} ?", "is there a {} background ?"))
    return form.format(word), _yes(word == scene.background)


def _count(scene: Scene, rng: random.Random) -> tuple[str, str]:
    form, number = rng.choice(
        (
            ("are there two objects ?", 2),
            ("is there one object ?", 1),
            ("is there only one object ?", 1),
        )
    )
    return form, _yes(len(scene.things) == number)


def _relation(scene: Scene, rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample(scene.things, 2)
    one, two, relation = _wish(first, rng), _wish(second, rng), rng.choice(RELATIONS)
    right = any(
        _is(a, one)
        and _is(b, two)
        and Scene((a, b), scene.background).relation() == relation
        for a, b in (scene.things, scene.things[::-1])
    )
    of = " of" if relation in {"left", "right"} else ""
    return f"is {_the(one)} {relation}{of} {_the(two)} ?", _yes(right)


def _yes(right: bool) -> str:  # noqa: FBT001 - the answer to a question
    return "yes" if right else "no"


def _open(scene: Scene, rng: random.Random) -> tuple[str, str]:
    thing = rng.choice(scene.things)
    others = [other for other in scene.things if other is not thing]
    questions = [
        ("how many objects are there ?", "two" if others else "one"),
        ("what color is the background ?", scene.background),
    ]
    if all(other.shape != thing.shape for other in others):
        questions += [
            (f"what color is the {thing.shape} ?", thing.colour),
            (f"what color is the {thing.shape} ?", thing.colour),
        ]
    if all(other.colour != thing.colour for other in others):
        questions += [
            (f"what shape is the {thing.colour} thing ?", thing.shape),
            (f"what shape is the {thing.colour} object ?", thing.shape),
        ]
    return rng.choice(questions)


KINDS = (
    *(_existence, _existence, _attribute, _ground, _count, _open),
    # How two objects stand is the hardest to learn, so it is asked most often.
    *(_relation, _relation, _relation, _relation),
)


def _wish(thing: Thing, rng: random.Random) -> ThingWish:
    """Return what one might ask of a thing, perhaps with one wrong word."""
    colour = thing.colour if rng.random() < 0.75 else None
    shape = thing.shape if rng.random() < 0.85 or not colour else None
    size = thing.size if rng.random() < 0.3 else None
    wrong = rng.choice(("shape", "colour", "size", "", ""))
    if wrong == "shape" and shape:
        shape = rng.choice(SHAPES)
    if wrong == "colour" and colour:
        colour = rng.choice(COLOURS)
    if wrong == "size" and size:
        size = rng.choice(SIZES)
    return ThingWish(shape, colour, size)


def _is(thing: Thing, wish: ThingWish) -> bool:
    return all(
        getattr(wish, kind) in {None, getattr(thing, kind)}
        for kind in ("shape", "colour", "size")
    )


def _the(wish: ThingWish) -> str:
    return "the " + phrase(Wish((wish,)), articles=False)


def _mostly(word: str, words: tuple[str, ...], rng: random.Random) -> str:
    return word if rng.random() < 0.5 else rng.choice(words)
