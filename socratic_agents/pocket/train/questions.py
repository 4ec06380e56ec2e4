"""Questions about scenes, and their true answers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec, parse_prompt
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

    from socratic_agents.pocket.scene import SceneObject

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
"""Where objects stand: how to the other object, or of which objects it is true."""

WORDS = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}
DETAILS = (
    *(("shape",), ("shape",), ("colour", "shape"), ("colour", "shape"), ("colour",)),
    *(("size", "shape"), ("size", "colour", "shape")),
)
"""By which kinds of words an object is described."""


def ask_about(
    scene: Scene, rng: random.Random, *, kind: str | None = None
) -> tuple[str, str]:
    """Return a question about a scene and the true answer.

    Most questions are answered by yes or no, as often by the one as by the other,
    but that two objects of a scene with one stand anyhow is never true.

    Args:
        scene: What is asked about.
        rng: Random number generator.
        kind: One of ``CHECKS``, to ask what a checklist asks; ``None`` asks anything.
    """
    about = CHECKS[kind] if kind else rng.choice(KINDS)
    if kind is None and about is _relation and len(scene.objects) == 1:
        about = _relation if rng.random() < SINGLE_OBJECT_SHARE else _existence
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
    """Return where the objects stand that a question names.

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
            (spec,) = parse_prompt(" ".join(tokens[start : number + 1])).objects
            named.append((number, _place(scene, spec)))
            start = 0
    return named


def _place(scene: Scene, spec: ObjectSpec) -> str:
    shown = [_matches(obj, spec) for obj in scene.objects]
    if not any(shown):
        return "nowhere"
    if all(shown):
        return "everywhere"
    pair = scene.objects if shown[0] else scene.objects[::-1]
    return Scene(pair, scene.background).relation() or "nowhere"


def _existence(
    scene: Scene, rng: random.Random, details: Sequence[Sequence[str]] = DETAILS
) -> tuple[str, str]:
    spec = _spec(scene, rng.choice(scene.objects), rng, rng.choice(details), wrong=0.6)
    right = any(_matches(obj, spec) for obj in scene.objects)
    return f"is there {phrase(SceneSpec((spec,)))} ?", _yes_no(right)


def _sight(scene: Scene, rng: random.Random) -> tuple[str, str]:
    text, answer = _existence(scene, rng)
    return text.replace("is there", "does the image show"), answer


def _attribute(scene: Scene, rng: random.Random) -> tuple[str, str]:
    obj = rng.choice(scene.objects)
    kind, words = rng.choice((("colour", COLOURS), ("size", SIZES)))
    subject = ObjectSpec(_mostly(obj.shape, SHAPES, rng))
    shown = [getattr(t, kind) for t in scene.objects if _matches(t, subject)]
    word = _mostly(shown[0], words, rng) if shown else rng.choice(words)
    return f"is {_the(subject)} {word} ?", _yes_no(word in shown)


def _ground(scene: Scene, rng: random.Random) -> tuple[str, str]:
    word = _mostly(scene.background, BACKGROUNDS, rng)
    form = rng.choice(("is the background {} ?", "is there a {} background ?"))
    return form.format(word), _yes_no(word == scene.background)


def _count(scene: Scene, rng: random.Random) -> tuple[str, str]:
    form, number = rng.choice(
        (
            ("are there two objects ?", 2),
            ("is there one object ?", 1),
            ("is there only one object ?", 1),
        )
    )
    return form, _yes_no(len(scene.objects) == number)


def _relation(scene: Scene, rng: random.Random) -> tuple[str, str]:
    objects = scene.objects
    if len(objects) == 1:
        objects += sample_scene(rng, pair=0.0).objects
    first, second = rng.sample(objects, 2)
    stands = Scene((first, second), scene.background).relation() or ""
    relation = rng.choice((stands, stands, INVERSE[stands], rng.choice(RELATIONS)))
    one, two = (
        _spec(scene, obj, rng, rng.choice(DETAILS), wrong=0.2)
        for obj in (first, second)
    )
    right = any(
        _matches(a, one)
        and _matches(b, two)
        and Scene((a, b), scene.background).relation() == relation
        for a, b in itertools.permutations(scene.objects, 2)
    )
    of = " of" if relation in {"left", "right"} else ""
    return f"is {_the(one)} {relation}{of} {_the(two)} ?", _yes_no(right)


def _yes_no(right: bool) -> str:  # noqa: FBT001 - the answer to a question
    return "yes" if right else "no"


def _open(scene: Scene, rng: random.Random) -> tuple[str, str]:
    obj = rng.choice(scene.objects)
    others = [other for other in scene.objects if other is not obj]
    questions = [
        ("how many objects are there ?", "two" if others else "one"),
        ("what color is the background ?", scene.background),
    ]
    if all(other.shape != obj.shape for other in others):
        questions += [
            (f"what color is the {obj.shape} ?", obj.colour),
            (f"what color is the {obj.shape} ?", obj.colour),
        ]
    if all(other.colour != obj.colour for other in others):
        questions += [
            (f"what shape is the {obj.colour} thing ?", obj.shape),
            (f"what shape is the {obj.colour} object ?", obj.shape),
        ]
    return rng.choice(questions)


def _spec(
    scene: Scene,
    obj: SceneObject,
    rng: random.Random,
    kinds: Sequence[str],
    *,
    wrong: float,
) -> ObjectSpec:
    """Return what one might ask of an object, perhaps with one wrong word.

    A word of the other object is as frequent as any word: which word belongs to which
    object is the harder to tell.
    """
    words = {kind: getattr(obj, kind) for kind in kinds}
    if rng.random() < wrong:
        kind = rng.choice(kinds)
        other = getattr(rng.choice(scene.objects), kind)
        words[kind] = rng.choice((other, rng.choice(WORDS[kind])))
    return ObjectSpec(**words)


def _matches(obj: SceneObject, spec: ObjectSpec) -> bool:
    return all(
        getattr(spec, kind) in {None, getattr(obj, kind)}
        for kind in ("shape", "colour", "size")
    )


def _the(spec: ObjectSpec) -> str:
    return "the " + phrase(SceneSpec((spec,)), articles=False)


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
SINGLE_OBJECT_SHARE = 0.1
"""Share of scenes with one object in which it is asked how two stand."""
