"""Questions about scenes, and their true answers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from socratic_agents.pocket.prompt_parser import ThingWish, Wish, read_wish
from socratic_agents.pocket.prompt_writer import foreign, phrase
from socratic_agents.pocket.scene import Scene, sample_scene
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    FOREIGN,
    INVERSE,
    RELATIONS,
    SHAPES,
    SIZES,
    meaning,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.pocket.scene import Thing

__all__ = ("CHECKS", "PLACES", "QUESTION_WORDS", "ask_about", "places")

QUESTION_WORDS = (
    *("question", "answer", ":", "?", "is", "there", "are", "what", "how", "many"),
    *("color", "shape", "object", "objects", "image", "show", "does", "it", "only"),
    *("one", "two", "yes", "no"),
)


FOREIGN_QUESTIONS = 0.75
"""Share of the questions in which words are exchanged for foreign ones."""
FOREIGN_WORDS = dict.fromkeys(FOREIGN, 0.75)
"""Canonical word to the share of such questions in which it is exchanged."""

PLACES = (*RELATIONS, "nowhere", "everywhere")
"""Where things stand: how to the other object, or of which objects it is true."""

WORDS = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}
DETAILS = (
    *(("shape",), ("shape",), ("colour", "shape"), ("colour", "shape"), ("colour",)),
    *(("size", "shape"), ("size", "colour", "shape")),
)
"""By which kinds of words a thing is described."""


def ask_about(
    scene: Scene, rng: random.Random, *, kind: str | None = None
) -> tuple[str, str]:
    """Return a question about a scene and the true answer.

    Most questions are answered by yes or no, as often by the one as by the other,
    but that two objects of a scene with one stand anyhow is never true.

    Args:
        scene: What is asked about.
        rng: Where the chance comes from.
        kind: One of ``CHECKS``, to ask what a checklist asks; ``None`` asks anything.
    """
    about = CHECKS[kind] if kind else rng.choice(KINDS)
    if kind is None and about is _relation and len(scene.things) == 1:
        about = _relation if rng.random() < LONELY else _existence
    if about is _open:
        return _open(scene, rng)
    wanted = rng.choice(("yes", "no"))
    for _ in range(40):
        text, answer = about(scene, rng)
        if answer == wanted:
            break
    if rng.random() < FOREIGN_QUESTIONS:
        text = foreign(text, rng, FOREIGN_WORDS)
    return text, answer


def places(question: str, scene: Scene) -> list[tuple[int, str]]:
    """Return where the things stand that a question names.

    Args:
        question: Any question about the scene, tokens separated by spaces.
        scene: What it is asked about.

    Returns:
        Number of each noun among the tokens, with one of ``PLACES``.
    """
    named, start = [], 0
    tokens = question.split()
    for number, token in enumerate(tokens):
        found = meaning(token)
        if token in {"a", "an", "the"}:
            start = number
        elif found and found.kind in {"shape", "thing"} and start:
            (wish,) = read_wish(" ".join(tokens[start : number + 1])).things
            named.append((number, _place(scene, wish)))
            start = 0
    return named


def _place(scene: Scene, wish: ThingWish) -> str:
    shown = [_is(thing, wish) for thing in scene.things]
    if not any(shown):
        return "nowhere"
    if all(shown):
        return "everywhere"
    pair = scene.things if shown[0] else scene.things[::-1]
    return Scene(pair, scene.background).relation() or "nowhere"


def _existence(
    scene: Scene, rng: random.Random, details: Sequence[Sequence[str]] = DETAILS
) -> tuple[str, str]:
    wish = _wish(scene, rng.choice(scene.things), rng, rng.choice(details), wrong=0.6)
    right = any(_is(thing, wish) for thing in scene.things)
    return f"is there {phrase(Wish((wish,)))} ?", _yes(right)


def _sight(scene: Scene, rng: random.Random) -> tuple[str, str]:
    text, answer = _existence(scene, rng)
    return text.replace("is there", "does the image show"), answer


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
    things = scene.things
    if len(things) == 1:
        things += sample_scene(rng, pair=0.0).things
    first, second = rng.sample(things, 2)
    stands = Scene((first, second), scene.background).relation() or ""
    relation = rng.choice((stands, stands, INVERSE[stands], rng.choice(RELATIONS)))
    one, two = (
        _wish(scene, thing, rng, rng.choice(DETAILS), wrong=0.2)
        for thing in (first, second)
    )
    right = any(
        _is(a, one)
        and _is(b, two)
        and Scene((a, b), scene.background).relation() == relation
        for a, b in itertools.permutations(scene.things, 2)
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


def _wish(
    scene: Scene,
    thing: Thing,
    rng: random.Random,
    kinds: Sequence[str],
    *,
    wrong: float,
) -> ThingWish:
    """Return what one might ask of a thing, perhaps with one wrong word.

    A word of the other object is as frequent as any word: which word belongs to which
    object is the harder to tell.
    """
    words = {kind: getattr(thing, kind) for kind in kinds}
    if rng.random() < wrong:
        kind = rng.choice(kinds)
        other = getattr(rng.choice(scene.things), kind)
        words[kind] = rng.choice((other, rng.choice(WORDS[kind])))
    return ThingWish(**words)


def _is(thing: Thing, wish: ThingWish) -> bool:
    return all(
        getattr(wish, kind) in {None, getattr(thing, kind)}
        for kind in ("shape", "colour", "size")
    )


def _the(wish: ThingWish) -> str:
    return "the " + phrase(Wish((wish,)), articles=False)


def _mostly(word: str, words: tuple[str, ...], rng: random.Random) -> str:
    return word if rng.random() < 0.5 else rng.choice(words)


Asking = Callable[[Scene, random.Random], tuple[str, str]]

CHECKS: dict[str, Asking] = {
    "count": _count,
    "existence": partial(_existence, details=(("shape",),)),
    "colour": partial(_existence, details=(("colour", "shape"),)),
    "size": partial(
        _existence, details=(("size", "shape"), ("size", "colour", "shape"))
    ),
    "relation": _relation,
    "background": _ground,
}
"""Kind of question of a checklist to how one is asked."""

KINDS: tuple[Asking, ...] = (
    *(*CHECKS.values(), _sight, _attribute, _open),
    # How two objects stand is the hardest to learn, so it is asked most often.
    *(_relation,) * 5,
)
LONELY = 0.1
"""Share of scenes with one object in which it is asked how two stand."""
