"""Guesses at unknown words.

Invariants:
I1 Every guess gives every word a meaning of its kind.
I2 Two rounds of guesses try all meanings of one word, none twice.
I3 There is always a guess, and never more than can be compared.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.pocket.hypotheses import MOST, Trial, guesses
from socratic_agents.pocket.synonyms import CHOICES

kinds = st.sampled_from(sorted(CHOICES))
unknown = st.dictionaries(st.sampled_from("abcdef"), kinds, min_size=1)


@given(unknown, st.integers(1, 6), st.data())
def test_every_guess_is_whole(
    words: dict[str, str], wanted: int, data: st.DataObject
) -> None:
    """I1, I3: whatever was tried before, each guess has a meaning for every word."""
    meanings = st.fixed_dictionaries(
        {word: st.sampled_from(CHOICES[kind]) for word, kind in words.items()}
    )
    trials = data.draw(
        st.lists(st.builds(Trial, meanings, st.floats(0, 2.5)), max_size=8)
    )
    made = list(guesses(words, trials, wanted))

    assert 1 <= len(made) <= MOST + max(map(len, CHOICES.values()))
    for guess in made:
        assert set(words) == set(guess)
        assert all(guess[word] in CHOICES[kind] for word, kind in words.items())


@given(kinds)
def test_two_rounds_try_every_meaning(kind: str) -> None:
    """I2: the second round goes on where the first one stopped."""
    first = list(guesses({"word": kind}, [], 4))[:4]
    trials = [Trial(guess, 0.5) for guess in first]
    second = list(guesses({"word": kind}, trials, 4))[:4]
    tried = [guess["word"] for guess in (*first, *second)]

    assert set(CHOICES[kind]) == set(tried)
    assert min(4, len(CHOICES[kind])) == len({guess["word"] for guess in first})


def test_the_best_meanings_come_together() -> None:
    """What scored well in different trials is guessed first, in one guess."""
    trials = [
        Trial({"a": "red", "b": "ring"}, 0.2),
        Trial({"a": "red", "b": "cross"}, 1.3),
        Trial({"a": "blue", "b": "ring"}, 0.3),
        Trial({"a": "pink", "b": "square"}, 1.2),
        Trial({"a": "green", "b": "circle"}, 0.1),
    ]
    made = list(guesses({"a": "colour", "b": "shape"}, trials, 4))

    assert {"a": "pink", "b": "cross"} == made[0]
