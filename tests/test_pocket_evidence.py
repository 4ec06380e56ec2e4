"""What answers tell of unknown words.

Invariants:
I1 Truthful answers never speak against the true meaning.
I2 A hypothesis gives every word a meaning, and agrees with as many evidence as possible.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from socratic_agents.pocket import Scene, sample_prompts, sample_scene
from socratic_agents.pocket.checklist_rules import write_questions
from socratic_agents.pocket.evidence import Evidence, find_evidence, rank_by_evidence
from socratic_agents.pocket.prompt_writer import caption
from socratic_agents.pocket.questions import true_answer
from socratic_agents.pocket.synonyms import (
    CHOICES,
    parse_known,
    translate,
    unknown_words,
)
from socratic_agents.pocket.vocabulary import LEXICON

if TYPE_CHECKING:
    from socratic_agents.pocket.prompt_parser import SceneSpec

numbers = st.integers(0, 10**6)


def _drawn(spec: SceneSpec, scene: Scene) -> Scene:
    """Return a scene with the words of a spec; what is open, and places, stay."""
    objects = tuple(
        replace(obj, **{kind: word for kind, word in vars(t).items() if word})
        for t, obj in zip(spec.objects, scene.objects, strict=False)
    )
    return Scene(objects, spec.background or scene.background)


def _told(prompt: str, scene_seed: int) -> tuple[dict[str, str], list[Evidence]]:
    """Return the unknown words of a prompt, and what a random image tells of them."""
    asked = parse_known(prompt)
    assert asked is not None
    unknown = unknown_words(asked)
    rng = random.Random(scene_seed)
    hypothesis = {word: rng.choice(CHOICES[kind]) for word, kind in unknown.items()}
    scene = sample_scene(rng)
    if rng.random() < 0.5:  # else hardly anything is what was asked for
        scene = _drawn(translate(asked, hypothesis), scene)
    items = write_questions(prompt, random.Random(0), inject_error=False)["questions"]
    answers = {i["requirement"]: true_answer(i["question"], scene) for i in items}
    found = find_evidence(
        unknown,
        caption=caption(scene),
        passed=[text for text, yes in answers.items() if yes],
        failed=[text for text, yes in answers.items() if not yes],
    )
    return unknown, found


@given(numbers, numbers)
@settings(max_examples=300)
def test_true_answers_never_mislead(seed: int, scene: int) -> None:
    """I1: no evidence excludes what the word means, whatever was drawn."""
    (prompt,) = sample_prompts(1, seed, "foreign")
    _, found = _told(prompt, scene)
    for clue in found:
        assert clue.allows(LEXICON[clue.word].canonical)


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.sampled_from(sorted(CHOICES)), min_size=1
    ),
    st.data(),
)
def test_every_guess_is_whole_and_the_first_is_best(
    words: dict[str, str], data: st.DataObject
) -> None:
    """I2: nothing agrees with more evidence about a word than the first hypothesis."""
    found = [
        Evidence(
            word,
            frozenset(data.draw(st.sets(st.sampled_from(CHOICES[kind]), min_size=1))),
            data.draw(st.booleans()),
        )
        for word, kind in words.items()
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    made = list(rank_by_evidence(words, found))

    for hypothesis in made:
        assert set(words) == set(hypothesis)
        assert all(hypothesis[word] in CHOICES[kind] for word, kind in words.items())
    for word, kind in words.items():
        agreeing = {
            meaning: sum(c.word == word and c.allows(meaning) for c in found)
            for meaning in CHOICES[kind]
        }
        assert max(agreeing.values()) == agreeing[made[0][word]]


def test_answers_narrow_a_word_down() -> None:
    """What is found is among what is shown; what is not found is not."""
    unknown, shown = {"salmon": "colour"}, "a red circle"
    no = find_evidence(
        unknown, caption=shown, passed=["a circle"], failed=["a salmon thing"]
    )
    yes = find_evidence(unknown, caption=shown, passed=["a salmon thing"], failed=[])

    assert [Evidence("salmon", frozenset({"red"}), found=False)] == no
    assert (
        "red"
        not in [hypothesis["salmon"] for hypothesis in rank_by_evidence(unknown, no)][
            :7
        ]
    )
    assert {"salmon": "red"} == next(rank_by_evidence(unknown, yes))


def test_what_hangs_on_another_word_tells_nothing() -> None:
    """A missing salmon ring may lack the ring: that speaks against no colour."""
    unknown, shown = {"salmon": "colour"}, "a pink circle"

    assert [] == find_evidence(
        unknown, caption=shown, passed=[], failed=["a salmon ring"]
    )
    assert [] == find_evidence(unknown, caption="", passed=[], failed=[])
    passed = ["a salmon thing", "a ring"]
    found = find_evidence(
        unknown, caption=shown, passed=passed, failed=["a salmon ring"]
    )
    assert [True] == [clue.found for clue in found]


def test_a_size_is_learned_from_the_thing_that_it_belongs_to() -> None:
    """What another object's size is says nothing about this one's."""
    shown = "a large red circle above a small blue square"
    fine = ["a circle", "a red thing", "a blue thing"]
    (clue,) = find_evidence(
        {"giant": "size"}, caption=shown, passed=fine, failed=["a giant blue thing"]
    )

    assert Evidence("giant", frozenset({"small"}), found=False) == clue


def test_a_relation_is_learned_from_how_these_things_stand() -> None:
    """A caption names the objects in any order, and others tell nothing."""
    unknown, passed = {"upon": "relation"}, ["a circle upon a square"]
    told = [
        find_evidence(unknown, caption=caption, passed=passed, failed=[])
        for caption in (
            "a circle above a square",
            "a square below a circle",
            "a ring above a square",
            "a circle and a square",
            "a circle",
        )
    ]
    above = Evidence("upon", frozenset({"above"}), found=True)

    assert [[above], [above], [], [], []] == told


def test_strange_requirements_tell_nothing() -> None:
    """A checklist of somebody else may say objects that the rules cannot read."""
    for requirement in ("salmon in three", "a salmon ring above a box"):
        told = {"passed": [requirement], "failed": []}
        assert [] == find_evidence({"salmon": "colour"}, caption="a red ring", **told)
