"""The pocket world's words: every word is understood, or refused by name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents import pocket
from socratic_agents.core.errors import PromptError, UnknownWordError
from socratic_agents.pocket.prompt_parser import (
    ObjectSpec,
    SceneSpec,
    check,
    parse_prompt,
)
from socratic_agents.pocket.vocabulary import FOREIGN, LEXICON


@pytest.mark.parametrize(
    ("prompt", "spec"),
    [
        (
            "a crimson ball above an azure box",
            SceneSpec(
                (ObjectSpec("circle", "red"), ObjectSpec("square", "blue")),
                "above",
                None,
            ),
        ),
        ("A Red CIRCLE!", SceneSpec((ObjectSpec("circle", "red"),))),
        (
            "two small rings on a grey background",
            SceneSpec((ObjectSpec("ring", None, "small"),) * 2, None, "gray"),
        ),
        (
            "on a white background, a ring that is large",
            SceneSpec((ObjectSpec("ring", None, "large"),), None, "white"),
        ),
        (
            "something pink to the left of a green thing",
            SceneSpec((ObjectSpec(None, "pink"), ObjectSpec(None, "green")), "left"),
        ),
        (
            "a red and a blue square",
            SceneSpec((ObjectSpec(None, "red"), ObjectSpec("square", "blue"))),
        ),
        ("a cross on a plain background", SceneSpec((ObjectSpec("cross"),))),
    ],
)
def test_reads_what_is_asked(prompt: str, spec: SceneSpec) -> None:
    """A prompt's words are read in any order that people write them in."""
    assert spec == parse_prompt(prompt)


@given(st.sampled_from(sorted(FOREIGN)), st.integers(0, 2))
def test_foreign_words_mean_their_canonical_word(canonical: str, which: int) -> None:
    """Each of the foreign words is understood as the generator's own word."""
    assert LEXICON[canonical] == LEXICON[FOREIGN[canonical][which]]


def test_no_foreign_word_has_two_meanings() -> None:
    """A foreign word stands for one canonical word only."""
    words = [word for three in FOREIGN.values() for word in three]

    assert len(words) == len(set(words))
    assert not set(words) & set(FOREIGN)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a dragon", "does not know the word 'dragon'"),
        ("a cirle", "did you mean 'circle'?"),
        ("a red circle in Zürich", "does not know the word 'zürich'"),
    ],
)
def test_an_unknown_word_is_named(prompt: str, expected: str) -> None:
    """The error names the word, a likely spelling, and the profiles to use instead."""
    with pytest.raises(UnknownWordError) as caught:
        check(prompt)

    assert expected in str(caught.value)
    assert "--profile local" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("three", "does not know the word 'three'"),
        ("", "one or two objects, not 0"),
        ("on a white background", "one or two objects, not 0"),
        ("a circle, a square and a ring", "one or two objects, not 3"),
        ("a ring left of", "two objects where there is a relation"),
        ("a ring left of a cross above", "one relation at most"),
        ("a white circle", "'white' before 'background' only"),
        ("a circle on a red background", "a background of white, black"),
    ],
)
def test_what_cannot_be_shown_is_refused(prompt: str, expected: str) -> None:
    """A prompt of known words that the world cannot show says what it can show."""
    with pytest.raises(PromptError) as caught:
        check(prompt)

    assert expected in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text whatever ends in anything but a spec or a clear error."""
    spec = None
    with contextlib.suppress(PromptError):
        spec = parse_prompt(text)

    assert spec is None or 1 <= len(spec.objects) <= 2


def test_a_name_that_the_pocket_world_lacks_is_told() -> None:
    """As of any module, though its names are imported when they are first used."""
    assert check is pocket.check
    with pytest.raises(AttributeError, match="has no attribute 'violin'"):
        pocket.violin  # noqa: B018 - reading it is what is tested
