"""Checklists and guards by rules.

Invariants:
I1 Every checklist is one that the chain accepts, in the prompt's own words.
I2 An image exactly as asked passes every question.
I3 An image that differs in one respect fails one, if all words are known.
I4 The guard lets every faithful wording pass, and no other.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.agents.checklist_writer import MOST, YES_OR_NO
from socratic_agents.pocket import Scene, SceneObject, sample_prompts
from socratic_agents.pocket.checklist_rules import check_rewrites, write_questions
from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec, parse_prompt
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.questions import true_answer
from socratic_agents.pocket.synonyms import CHOICES, parse_literally, reordered, slots
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    INVERSE,
    SHAPES,
    SIZES,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("canonical", "foreign", "terse")
STEPS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
kinds = st.sampled_from(KINDS)
numbers = st.integers(0, 10**6)


def _prompt(kind: str, seed: int) -> str:
    (prompt,) = sample_prompts(1, seed, kind)  # type: ignore[arg-type]
    return prompt


def _questions(prompt: str) -> list[str]:
    items = write_questions(prompt, random.Random(0), inject_error=False)["questions"]
    return [item["question"] for item in items]


def _scene(spec: SceneSpec) -> Scene:
    """Return a scene that shows what is asked for; what is open is the first word."""
    across, down = STEPS[spec.relation or "left"]
    places = [(32 + 16 * across * side, 32 + 16 * down * side) for side in (1, -1)]
    if len(spec.objects) == 1:
        places = [(32, 32)]
    objects = tuple(
        SceneObject(
            t.shape or SHAPES[0], t.colour or COLOURS[0], t.size or SIZES[0], x, y
        )
        for t, (x, y) in zip(spec.objects, places, strict=True)
    )
    return Scene(objects, spec.background or BACKGROUNDS[0])


def _others(scene: Scene) -> Iterator[Scene]:
    """Yield scenes that differ from one in one respect."""
    for place, obj in enumerate(scene.objects):
        for kind, words in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES)):
            for word in words:
                changed = replace(obj, **{kind: word})  # type: ignore[arg-type]
                objects = [*scene.objects]
                objects[place] = changed
                yield replace(scene, objects=tuple(objects))
    for ground in BACKGROUNDS:
        yield replace(scene, background=ground)
    if len(scene.objects) == 2:
        first, second = scene.objects
        yield replace(scene, objects=(first,))
        there = replace(first, x=second.x, y=second.y)
        yield replace(scene, objects=(there, replace(second, x=first.x, y=first.y)))
        yield replace(
            scene, objects=tuple(replace(t, x=t.y, y=t.x) for t in scene.objects)
        )


@given(kinds, numbers)
def test_every_checklist_can_be_used(kind: str, seed: int) -> None:
    """I1: few questions, each once, to be answered by yes or no, needs before them."""
    prompt = _prompt(kind, seed)
    items = write_questions(prompt, random.Random(0), inject_error=False)["questions"]
    texts = [item["question"] for item in items]

    assert 3 <= len(items) <= MOST
    assert len(set(texts)) == len(texts)
    theirs = {word for words in CHOICES.values() for word in words} | set(
        words_of(prompt)
    )
    for number, item in enumerate(items, start=1):
        assert YES_OR_NO.fullmatch(item["question"])
        assert all(1 <= need < number for need in item["needs"])
        assert set(words_of(item["requirement"])) <= theirs | {
            *("a", "an", "thing", "object", "objects", "one", "two", "background", "of")
        }


@given(kinds, numbers)
def test_what_was_asked_passes(kind: str, seed: int) -> None:
    """I2: the oracle says yes to everything on a scene exactly as asked."""
    prompt = _prompt(kind, seed)
    scene = _scene(parse_prompt(prompt))

    assert 1 == scene.agreement(prompt)
    assert [] == [text for text in _questions(prompt) if not true_answer(text, scene)]


@given(st.sampled_from(["canonical", "terse"]), numbers)
def test_what_differs_fails(kind: str, seed: int) -> None:
    """I3: the questions find all that the oracle finds, where no word is foreign."""
    prompt = _prompt(kind, seed)
    questions = _questions(prompt)
    for scene in _others(_scene(parse_prompt(prompt))):
        passed = all(true_answer(text, scene) for text in questions)
        assert (scene.agreement(prompt) == 1) == passed


def test_equal_words_are_told_apart_by_others() -> None:
    """A disc is no other shape than a ball, so their colours say which is which."""
    questions = _questions("a red ball above a blue disc")

    assert "is the red ball above the blue disc ?" in questions


def test_a_prompt_without_sense_has_no_checklist() -> None:
    """What the chat model cannot read it cannot take apart."""
    assert [] == _questions("")


def test_a_bare_prompt_has_a_short_checklist() -> None:
    """Where only a colour is asked for, only that is asked about."""
    questions = _questions("a red thing")

    assert ["is there a red thing ?", "is there only one object ?"] == questions
    assert ["is there a small thing ?", "is there only one object ?"] == _questions(
        "a small thing"
    )
    assert "is the red thing left of the blue thing ?" in _questions(
        "a red thing left of a blue thing"
    )


def test_plurals_are_asked_about_in_the_singular() -> None:
    """Two balls are asked for as one kind of ball, and as two objects."""
    questions = _questions("two crimson balls")

    assert "is there a crimson ball ?" in questions
    assert "are there two objects ?" in questions


@given(kinds, numbers, numbers)
def test_an_astray_checklist_lacks_one_question(kind: str, seed: int, rng: int) -> None:
    """What is left is a checklist all the same: no need leads nowhere."""
    prompt = _prompt(kind, seed)
    items = write_questions(prompt, random.Random(rng), inject_error=True)["questions"]

    assert len(_questions(prompt)) - 1 == len(items)
    for number, item in enumerate(items, start=1):
        assert all(1 <= need < number for need in item["needs"])


def _check(
    prompt: str, *rewrites: str, inject_error: bool = False
) -> list[dict[str, object]]:
    said = check_rewrites(
        prompt, [*rewrites], random.Random(0), inject_error=inject_error
    )
    checks: list[dict[str, object]] = said["checks"]
    return checks


@given(kind=kinds, seed=numbers, articles=st.booleans())
def test_a_faithful_wording_passes(kind: str, seed: int, *, articles: bool) -> None:
    """I4: the true translation passes, whichever object comes first."""
    prompt = _prompt(kind, seed)
    spec = parse_prompt(prompt)
    said = [phrase(one, articles=articles) for one in (spec, reordered(spec))]

    assert [[], []] == [check["lost"] for check in _check(prompt, *said)]


@given(st.sampled_from(["canonical", "terse"]), numbers, st.data())
def test_a_changed_word_is_lost(kind: str, seed: int, data: st.DataObject) -> None:
    """I4: one word changed or left out is found, and mended."""
    prompt = _prompt(kind, seed)
    spec = parse_prompt(prompt)
    place = data.draw(st.sampled_from(sorted(slots(spec))))
    words = [w for w in CHOICES[place.split()[0]] if w != slots(spec)[place]]
    word = data.draw(st.none() | st.sampled_from(words))
    other = _with(spec, place, word)
    if other in {spec, reordered(spec)}:
        return
    (check,) = _check(prompt, phrase(other))

    assert check["lost"]
    assert [] == _check(prompt, str(check["mended"]))[0]["lost"]


def _with(spec: SceneSpec, place: str, word: str | None) -> SceneSpec:
    kind, _, number = place.partition(" ")
    if not number:
        return replace(spec, **{kind: word})  # type: ignore[arg-type]
    objects = [*spec.objects]
    objects[int(number)] = replace(objects[int(number)], **{kind: word})
    return replace(spec, objects=tuple(objects))


def test_a_swap_is_found() -> None:
    """Whose colour it is, and which object stands where, is part of what was asked."""
    prompt = "a red circle above a blue square"
    checks = _check(
        prompt,
        "a blue circle above a red square",
        "a red circle below a blue square",
        "a blue square above a red circle",
        "a red circle",
        "a dragon",
    )

    assert all(check["lost"] for check in checks)
    assert {prompt} == {check["mended"] for check in checks}


def test_an_unknown_word_is_taken_on_trust() -> None:
    """Nobody who does not know the word can say that its meaning is lost."""
    checks = _check("a salmon circle", "a pink circle", "a red circle", "a circle")

    assert [[], [], ["salmon"]] == [check["lost"] for check in checks]


def test_a_prompt_without_sense_guards_nothing() -> None:
    """Where the request cannot be read, nothing can be held against it."""
    assert [[]] == [check["lost"] for check in _check("", "a red circle")]


def test_an_astray_guard_overlooks_one() -> None:
    """Now and then one prompt passes without a look."""
    wrong = ["a blue ring"] * 3
    lost = [bool(c["lost"]) for c in _check("a red circle", *wrong, inject_error=True)]

    assert [False, True, True] == sorted(lost)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a crimson ball", {"shape 0": "ball", "colour 0": "crimson"}),
        ("two salmon loops", dict.fromkeys(("shape 0", "shape 1"), "loop")),
        ("a plum west of a hoop", {"relation": "west"}),
    ],
)
def test_a_quotation_keeps_the_words(prompt: str, words: dict[str, str]) -> None:
    """Whatever the words mean, they stay as the person wrote them."""
    spec = parse_literally(prompt)

    assert spec is not None
    assert words.items() <= slots(spec).items()


def test_inverting_a_relation_keeps_its_meaning() -> None:
    """The other object comes first, and the relation is the inverse one."""
    ball, box = ObjectSpec(shape="circle"), ObjectSpec(shape="square")
    for relation, inverse in INVERSE.items():
        assert SceneSpec((box, ball), inverse) == reordered(
            SceneSpec((ball, box), relation)
        )
