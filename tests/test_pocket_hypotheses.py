"""Hypotheses at unknown words.

Invariants:
I1 Every hypothesis gives every word a meaning of its kind.
I2 Two rounds of hypotheses try all meanings of one word, none twice.
I3 There is always a hypothesis, and never more than can be compared.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.pocket.hypotheses import MOST, Attempt, rank_by_score
from socratic_agents.pocket.synonyms import CHOICES

kinds = st.sampled_from(sorted(CHOICES))
unknown = st.dictionaries(st.sampled_from("abcdef"), kinds, min_size=1)


@given(unknown, st.integers(1, 6), st.data())
def test_every_guess_is_whole(
    words: dict[str, str], wanted: int, data: st.DataObject
) -> None:
    """I1, I3: whatever was tried before, each hypothesis has a meaning for every word."""
    meanings = st.fixed_dictionaries(
        {word: st.sampled_from(CHOICES[kind]) for word, kind in words.items()}
    )
    attempts = data.draw(
        st.lists(st.builds(Attempt, meanings, st.floats(0, 2.5)), max_size=8)
    )
    made = list(rank_by_score(words, attempts, wanted))

    assert 1 <= len(made) <= MOST + max(map(len, CHOICES.values()))
    for hypothesis in made:
        assert set(words) == set(hypothesis)
        assert all(hypothesis[word] in CHOICES[kind] for word, kind in words.items())


@given(kinds)
def test_two_rounds_try_every_meaning(kind: str) -> None:
    """I2: the second round goes on where the first one stopped."""
    first = list(rank_by_score({"word": kind}, [], 4))[:4]
    attempts = [Attempt(hypothesis, 0.5) for hypothesis in first]
    second = list(rank_by_score({"word": kind}, attempts, 4))[:4]
    tried = [hypothesis["word"] for hypothesis in (*first, *second)]

    assert set(CHOICES[kind]) == set(tried)
    assert min(4, len(CHOICES[kind])) == len(
        {hypothesis["word"] for hypothesis in first}
    )


def test_the_best_meanings_come_together() -> None:
    """What scored well in different trials is guessed first, in one hypothesis."""
    attempts = [
        Attempt({"a": "red", "b": "ring"}, 0.2),
        Attempt({"a": "red", "b": "cross"}, 1.3),
        Attempt({"a": "blue", "b": "ring"}, 0.3),
        Attempt({"a": "pink", "b": "square"}, 1.2),
        Attempt({"a": "green", "b": "circle"}, 0.1),
    ]
    made = list(rank_by_score({"a": "colour", "b": "shape"}, attempts, 4))

    assert {"a": "pink", "b": "cross"} == made[0]
