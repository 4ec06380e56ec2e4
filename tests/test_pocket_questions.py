"""The oracle's answers to yes/no questions about the pocket world.

For every scene and every question that the captioner is trained with: what ``truth``
says is how the question is labelled.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import PromptError, UnknownWordError
from socratic_agents.pocket import Scene, SceneObject, sample_scene
from socratic_agents.pocket.questions import true_answer
from socratic_agents.pocket.train.questions import CHECKS, ask_about

BALL = SceneObject("circle", "red", "small", 32, 16)
BOX = SceneObject("square", "blue", "large", 32, 48)
PAIR = Scene((BALL, BOX), "white")


@pytest.mark.parametrize(
    "question",
    [
        "are there two objects ?",
        "is there a ball ?",
        "is there a crimson ball ?",
        "is there a tiny crimson ball ?",
        "is there a tiny ball ?",
        "is there an azure thing ?",
        "does the image show a huge box ?",
        "is the ball above the box ?",
        "is the crimson ball over the azure box ?",
        "is the huge azure box underneath the little ball ?",
        "is the box huge ?",
        "Is the ball scarlet?",
        "is the background ivory ?",
        "is there a snowy background ?",
    ],
)
def test_what_is_shown_is_true(question: str) -> None:
    """A question is answered by yes where all of its words hold."""
    assert true_answer(question, PAIR)


@pytest.mark.parametrize(
    "question",
    [
        "is there only one object ?",
        "is there one object ?",
        "is there a hoop ?",
        "is there an azure ball ?",
        "is there a huge crimson ball ?",
        "is the box above the ball ?",
        "is the ball beneath the box ?",
        "is the ball west of the box ?",
        "is the azure ball above the crimson box ?",
        "is the ball above the hoop ?",
        "is the ball above the ball ?",
        "is the box tiny ?",
        "is the hoop tiny ?",
        "is the background ebony ?",
        "is there a sooty background ?",
    ],
)
def test_what_is_not_shown_is_false(question: str) -> None:
    """One word that does not hold is enough for a no."""
    assert not true_answer(question, PAIR)


def test_twins_stand_both_ways() -> None:
    """One pair of different objects is enough, and two alike are two pairs."""
    twins = Scene((BALL, SceneObject("circle", "red", "large", 32, 48)), "white")

    assert true_answer("is the circle above the circle ?", twins)
    assert true_answer("is the circle below the circle ?", twins)
    assert true_answer("is the small circle above the large circle ?", twins)
    assert not true_answer("is the small circle below the large circle ?", twins)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_other_counts_are_neither_one_nor_two(count: int) -> None:
    """A scene may show nothing, or more than the world's prompts can ask for."""
    scene = Scene((BALL, BOX, BALL)[:count], "gray")

    assert (count == 1) is true_answer("is there only one object ?", scene)
    assert (count == 2) is true_answer("are there two objects ?", scene)
    assert (count > 0) is true_answer("is there a red circle ?", scene)
    assert (count > 1) is true_answer("is the red circle above the square ?", scene)


def test_a_pair_among_three_is_found() -> None:
    """How two objects stand is asked of every pair, not of scenes with two only."""
    ring = SceneObject("ring", "green", "small", 8, 32)
    scene = Scene((BALL, BOX, ring), "gray")

    assert true_answer("is the hoop left of the box ?", scene)
    assert not true_answer("is the hoop right of the ball ?", scene)


@pytest.mark.parametrize("question", ["is there a dragon ?", "is the background mauve"])
def test_a_word_from_outside_is_named(question: str) -> None:
    """What the pocket world does not know is an error, and no answer."""
    with pytest.raises(UnknownWordError, match=r"dragon|mauve"):
        true_answer(question, PAIR)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "is the ball ?",
        "is there a crimson ?",
        "is there a ball and a box ?",
        "is there a ball above a box ?",
        "is the ball the box ?",
        "is the background a ball ?",
        "is there a crimson background ?",
        "a crimson ball",
    ],
)
def test_what_is_no_question_is_refused(question: str) -> None:
    """A text of another form is an error that shows the forms, and no answer."""
    with pytest.raises(PromptError):
        true_answer(question, PAIR)


@given(st.integers(0, 2**32), st.sampled_from([None, *CHECKS]))
def test_training_tells_the_same_truth(seed: int, kind: str | None) -> None:
    """The captioner learns the answers that the oracle gives."""
    rng = random.Random(seed)
    scene = sample_scene(rng)
    question, answer = ask_about(scene, rng, kind=kind)
    if answer in {"yes", "no"}:
        assert true_answer(question, scene) is (answer == "yes")
    else:
        assert kind is None
