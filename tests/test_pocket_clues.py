"""What answers tell of unknown words.

Invariants:
I1 Truthful answers never speak against the true meaning.
I2 A guess gives every word a meaning, and agrees with as many clues as possible.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from socratic_agents.pocket import sample_prompts, sample_scene
from socratic_agents.pocket.checks import write_questions
from socratic_agents.pocket.clues import Clue, clues, guided
from socratic_agents.pocket.phrases import caption
from socratic_agents.pocket.questions import truth
from socratic_agents.pocket.thesaurus import CHOICES, read, unknowns
from socratic_agents.pocket.words import LEXICON

numbers = st.integers(0, 10**6)


def _told(prompt: str, scene_seed: int) -> tuple[dict[str, str], list[Clue]]:
    """Return the unknown words of a prompt, and what a random image tells of them."""
    asked = read(prompt)
    assert asked is not None
    unknown = unknowns(asked)
    scene = sample_scene(random.Random(scene_seed))
    items = write_questions(prompt, random.Random(0), astray=False)["questions"]
    answers = {i["requirement"]: truth(i["question"], scene) for i in items}
    found = clues(
        asked,
        unknown,
        prompt=caption(scene),
        caption=caption(scene),
        passed=[text for text, yes in answers.items() if yes],
        failed=[text for text, yes in answers.items() if not yes],
    )
    return unknown, found


@given(numbers, numbers)
@settings(max_examples=300)
def test_true_answers_never_mislead(seed: int, scene: int) -> None:
    """I1: no clue about a colour, shape or ground excludes what the word means."""
    (prompt,) = sample_prompts(1, seed, "foreign")
    unknown, found = _told(prompt, scene)
    for clue in found:
        if unknown[clue.word] in {"colour", "shape", "background"}:
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
    """I2: nothing agrees with more clues about a word than the first guess."""
    found = [
        Clue(
            word,
            frozenset(data.draw(st.sets(st.sampled_from(CHOICES[kind]), min_size=1))),
            data.draw(st.booleans()),
        )
        for word, kind in words.items()
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    made = list(guided(words, found))

    for guess in made:
        assert set(words) == set(guess)
        assert all(guess[word] in CHOICES[kind] for word, kind in words.items())
    for word, kind in words.items():
        agreeing = {
            meaning: sum(c.word == word and c.allows(meaning) for c in found)
            for meaning in CHOICES[kind]
        }
        assert max(agreeing.values()) == agreeing[made[0][word]]


def test_answers_narrow_a_word_down() -> None:
    """What is found is among what is shown; what is not found is not."""
    asked = read("a salmon circle")
    assert asked is not None
    unknown = {"salmon": "colour"}
    shown = {"prompt": "a red circle", "caption": "a red circle"}
    no = clues(asked, unknown, **shown, passed=["a circle"], failed=["a salmon thing"])
    yes = clues(asked, unknown, **shown, passed=["a salmon thing"], failed=[])

    assert [Clue("salmon", frozenset({"red"}), found=False)] == no
    assert "red" not in [guess["salmon"] for guess in guided(unknown, no)][:7]
    assert {"salmon": "red"} == next(guided(unknown, yes))


def test_what_hangs_on_another_word_tells_nothing() -> None:
    """A missing salmon ring may lack the ring: that speaks against no colour."""
    asked = read("a salmon ring")
    assert asked is not None
    unknown = {"salmon": "colour"}
    shown = {"prompt": "a pink circle", "caption": "a pink circle"}

    assert [] == clues(asked, unknown, **shown, passed=[], failed=["a salmon ring"])
    assert [] == clues(asked, unknown, prompt="", caption="", passed=[], failed=[])
    found = clues(
        asked,
        unknown,
        **shown,
        passed=["a salmon thing", "a ring"],
        failed=["a salmon ring"],
    )
    assert [True] == [clue.found for clue in found]


def test_a_relation_is_learned_from_what_was_tried() -> None:
    """An image shows both ways of standing, so the prompt tells which was meant."""
    asked = read("a circle upon a square")
    assert asked is not None
    unknown = unknowns(asked)
    assert {"upon": "relation"} == unknown
    told = clues(
        asked,
        unknown,
        prompt="a circle above a square",
        caption="a circle above a square",
        passed=["a circle upon a square"],
        failed=[],
    )
    untold = clues(
        asked,
        unknown,
        prompt="nonsense",
        caption="a circle above a square",
        passed=["a circle upon a square"],
        failed=[],
    )

    assert [Clue("upon", frozenset({"above"}), found=True)] == told
    assert [] == untold
