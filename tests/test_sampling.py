"""Samples: exact shares, the same for the same seed, and nothing left out in silence.

Invariants: a sample has n rows, in order, none twice, all of them eligible; every row
of the set is eligible or counted by the reason for which it is not.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets.filters import (
    UNSAFE_WORDS,
    Filters,
    Reason,
    is_unsafe,
)
from socratic_agents.lab.datasets.sampling import Method, allocate, draw_sample
from socratic_agents.lab.datasets.types import PromptRow, RowQuestion


def rows_of(*texts: str, **columns: str) -> list[PromptRow]:
    return [
        PromptRow(id=str(place), text=text, columns=columns)
        for place, text in enumerate(texts, start=1)
    ]


def numbered(count: int, kinds: str = "aab") -> list[PromptRow]:
    """Return so many rows with a column ``kind``."""
    return [
        PromptRow(
            id=f"r{i}", text=f"prompt {i}", columns={"kind": kinds[i % len(kinds)]}
        )
        for i in range(count)
    ]


SIZES = st.dictionaries(st.text(max_size=3), st.integers(1, 400), min_size=1)


@given(SIZES, st.data())
def test_allocation_is_exact(sizes: dict[str, int], data: st.DataObject) -> None:
    """Shares sum to n; each is its proportion rounded up or down, and can be drawn."""
    total = sum(sizes.values())
    n = data.draw(st.integers(0, total))

    shares = allocate(sizes, n)

    assert n == sum(shares.values())
    assert list(sizes) == list(shares)
    for name, share in shares.items():
        exact = Fraction(n * sizes[name], total)
        assert math.floor(exact) <= share <= math.ceil(exact)
        assert share <= sizes[name]
    order = sorted(sizes, reverse=True)
    assert shares == allocate({name: sizes[name] for name in order}, n)


def test_the_largest_remainders_get_what_is_left() -> None:
    """Of 4.7, 1.6, 1.6, 1.5 and 0.6 places the first three are rounded up.

    Where remainders are the same, the larger stratum goes first, and then the name.
    """
    sizes = {"e": 6, "d": 15, "c": 16, "b": 16, "a": 47}

    assert {"a": 5, "b": 2, "c": 2, "d": 1, "e": 0} == allocate(sizes, 10)


METHODS = st.sampled_from(list(Method))


@given(st.integers(1, 60), st.integers(0, 9), METHODS, st.data())
def test_samples_are_what_was_asked_for(
    count: int, seed: int, method: Method, data: st.DataObject
) -> None:
    """There are n rows, in order, none twice; the same seed gives the same ones."""
    rows = numbered(count)
    n = data.draw(st.integers(1, count))
    by = "kind" if method is Method.STRATIFIED else None

    sample = draw_sample(rows, n, seed=seed, method=method, stratify=by)
    again = draw_sample(rows, n, seed=seed, method=method, stratify=by)

    assert n == len(sample.rows) == len(set(sample.ids))
    assert list(sample.rows) == [row for row in rows if row in sample.rows]
    assert sample == again
    assert sample.sha256 == again.sha256
    assert (count, count, {}) == (sample.total, sample.eligible, sample.excluded)
    if sample.allocation is not None:
        drawn = [row.columns["kind"] for row in sample.rows]
        assert sample.allocation == {k: drawn.count(k) for k in sample.allocation}


@given(st.integers(2, 60), st.integers(0, 9))
def test_larger_samples_hold_the_smaller_ones(count: int, seed: int) -> None:
    """A random sample of the same seed only grows, whatever order the rows are in."""
    rows = numbered(count)

    whole = [set(draw_sample(rows, n, seed=seed).ids) for n in range(1, count + 1)]

    assert all(small < large for small, large in pairwise(whole))
    assert whole[0] == set(draw_sample(rows[::-1], 1, seed=seed).ids)


def test_samples_are_the_same_on_every_machine() -> None:
    """What a seed gives is part of the results that people publish, so it is fixed."""
    rows = numbered(30)

    assert ("r1", "r16", "r21") == draw_sample(rows, 3, seed=7).ids
    systematic = draw_sample(rows, 4, seed=7, method=Method.SYSTEMATIC)
    assert ("r0", "r8", "r15", "r23") == systematic.ids
    strata = draw_sample(rows, 3, seed=7, method=Method.STRATIFIED, stratify="kind")
    assert ("r1", "r2", "r21") == strata.ids
    assert strata.sha256.startswith("34a1ff19f1163f87")


def test_every_row_is_equally_likely() -> None:
    """Over many seeds, each row is drawn about as often as any other."""
    rows = numbered(20)
    for method in (Method.RANDOM, Method.SYSTEMATIC):
        drawn = [
            name
            for seed in range(1000)
            for name in draw_sample(rows, 6, seed=seed, method=method).ids
        ]
        counts = [drawn.count(row.id) for row in rows]
        # Binomial with 1000 trials of 0.3: a standard deviation is 14.5.
        assert 300 - 5 * 15 < min(counts) <= max(counts) < 300 + 5 * 15


@given(st.integers(1, 60), st.integers(0, 9), st.data())
def test_systematic_steps_are_even(count: int, seed: int, data: st.DataObject) -> None:
    """Two neighbours of a systematic sample are k rows apart, rounded up or down."""
    rows = numbered(count)
    n = data.draw(st.integers(1, count))
    sample = draw_sample(rows, n, seed=seed, method=Method.SYSTEMATIC)

    places = [rows.index(row) for row in sample.rows]

    assert all(
        count // n <= b - a <= math.ceil(Fraction(count, n))
        for a, b in pairwise(places)
    )


def test_the_hash_tells_ids_and_texts_apart() -> None:
    """Another text, id or order has another hash; other columns have not."""
    sample = draw_sample(rows_of("a cup", "a fox"))
    first, second = sample.rows
    others = (
        (replace(first, text="a mug"), second),
        (replace(first, id="9"), second),
        (second, first),
        (first,),
    )

    hashes = {replace(sample, rows=rows).sha256 for rows in others}

    assert 4 == len(hashes - {sample.sha256})
    richer = replace(sample, rows=(replace(first, columns={"x": "y"}), second))
    assert sample.sha256 == richer.sha256


def test_json_says_how_the_sample_was_drawn() -> None:
    """Everything that is needed to draw it again is there, and every prompt."""
    question = RowQuestion(id="1", text="Is there a cup?")
    row = PromptRow(id="1", text="a cup", columns={"k": "v"}, questions=(question,))
    sample = draw_sample([row], seed=3, method=Method.STRATIFIED, stratify="k")

    assert {
        "rows": 1,
        "eligible": 1,
        "excluded": {},
        "n": 1,
        "seed": 3,
        "method": "stratified",
        "stratify": "k",
        "allocation": {"v": 1},
        "ids": ["1"],
        "prompts": [row.to_json()],
        "sha256": sample.sha256,
    } == sample.to_json()
    assert 1 == sample.questions
    assert draw_sample([row]).to_json()["allocation"] is None


@pytest.mark.parametrize("n", [0, -1, 3])
def test_impossible_numbers_are_refused(n: int) -> None:
    """The message says how many can be drawn, and why not more."""
    rows = rows_of("a cup", "a fox", "A  CUP")

    with pytest.raises(ConfigurationError, match=r"1 to 2 .*got -?\d.*1 duplicate"):
        draw_sample(rows, n)


def test_nothing_left_is_refused() -> None:
    """A filter that nothing passes is an error, whatever n."""
    with pytest.raises(ConfigurationError, match="left out: 1 too_short"):
        draw_sample(rows_of("a cup"), filters=Filters(min_words=3))
    with pytest.raises(ConfigurationError, match="left out: none"):
        draw_sample([])


@pytest.mark.parametrize(
    ("method", "column"), [(Method.STRATIFIED, None), (Method.RANDOM, "kind")]
)
def test_strata_and_their_method_belong_together(
    method: Method, column: str | None
) -> None:
    """A column without the method, or the method without a column, is an error."""
    with pytest.raises(ConfigurationError, match="only with it"):
        draw_sample(numbered(3), 1, method=method, stratify=column)


def test_columns_must_be_there_and_have_values() -> None:
    """An unknown column lists those that there are; a blank one is no column."""
    rows = rows_of("a cup", "a fox", kind="", Category="thing")

    with pytest.raises(ConfigurationError, match="did you mean 'Category'"):
        draw_sample(rows, 1, method=Method.STRATIFIED, stratify="category")
    with pytest.raises(ConfigurationError, match="'kind', which is blank"):
        draw_sample(rows, 1, method=Method.STRATIFIED, stratify="kind")
    with pytest.raises(ConfigurationError, match="no column at all"):
        draw_sample(rows_of("a"), 1, filters=Filters(unsafe_column="nsfw"))


def test_rows_without_a_stratum_are_counted() -> None:
    """Where the column is blank, nobody knows the stratum."""
    rows = [*rows_of("a cup"), *numbered(3)]

    sample = draw_sample(rows, 3, method=Method.STRATIFIED, stratify="kind")

    assert {"no_value": 1} == sample.excluded
    assert {"a": 2, "b": 1} == sample.allocation


def sifted(filters: Filters, *texts: str) -> tuple[list[str], dict[str, int]]:
    passed, excluded = filters.apply(rows_of(*texts))
    return [row.text for row in passed], excluded


def test_repeated_texts_are_left_out_unless_they_are_wanted() -> None:
    """Case, white space and the form of characters make no other prompt."""
    texts = ("A café", "a\tcafe\u0301 ", "a cafe", "A café")

    assert (["A café", "a cafe"], {"duplicate": 2}) == sifted(Filters(), *texts)
    assert (list(texts), {}) == sifted(Filters(unique=False), *texts)


def test_the_first_that_passes_is_kept() -> None:
    """A repeated text is no duplicate of one that was itself left out."""
    low, high = {"nsfw": "0.1"}, {"nsfw": "0.9"}
    rows = [
        PromptRow(id="1", text="a cup", columns=high),
        PromptRow(id="2", text="a cup", columns=low),
    ]

    passed, excluded = Filters(unsafe_column="nsfw").apply(rows)

    assert ["2"] == [row.id for row in passed]
    assert {"unsafe": 1} == excluded


def test_lengths_are_limited_in_words_and_characters() -> None:
    """Both ends belong to what passes."""
    texts = ("one", "one two", "one two three", "onetwothreefour")

    assert (["one two"], {"too_short": 2, "too_long": 1}) == sifted(
        Filters(min_words=2, max_words=2), *texts
    )
    assert (["one two", "one two three"], {"too_short": 1, "too_long": 1}) == sifted(
        Filters(min_characters=7, max_characters=13), *texts
    )


@pytest.mark.parametrize("text", ["", " \n", "a\0b", "a\ud800", "x" * 10_001])
def test_what_cannot_be_refined_is_left_out(text: str) -> None:
    """Blank prompts, control characters and whole books are no prompts."""
    assert (["a cup"], {"unusable": 1}) == sifted(Filters(), text, "a cup")


def test_unsafe_words_are_whole_words() -> None:
    """Case and punctuation hide nothing; a part of a word is another word."""
    assert is_unsafe("A NUDE, reclining")
    assert is_unsafe("\uff4e\uff53\uff46\uff57 art")  # as wide letters
    assert not is_unsafe("a skilled worker in Sussex with grapes")
    assert all(is_unsafe(word) for word in UNSAFE_WORDS)
    assert (["a cup"], {"unsafe": 1}) == sifted(Filters(safe=True), "gore", "a cup")
    assert (["gore"], {}) == sifted(Filters(), "gore")


def test_a_column_can_say_what_is_unsafe() -> None:
    """From its limit on a row is unsafe; true is 1; blank is not known."""
    values = ("0.49", "0.5", "2", "true", "False", "", "0")
    rows = [PromptRow(id=v, text=f"a {v}", columns={"nsfw": v}) for v in values]

    passed, excluded = Filters(unsafe_column="nsfw").apply(rows)

    assert ["0.49", "False", "0"] == [row.id for row in passed]
    assert {"unsafe": 3, "no_value": 1} == excluded
    most, _ = Filters(unsafe_column="nsfw", unsafe_from=1.5).apply(rows)
    assert "true" in [row.id for row in most]


@pytest.mark.parametrize("value", ["high", "nan"])
def test_a_column_of_words_says_nothing_about_safety(value: str) -> None:
    """What is no number is never taken for safe."""
    with pytest.raises(ConfigurationError, match="expected numbers"):
        Filters(unsafe_column="kind").apply(rows_of("a cup", kind=value))


@pytest.mark.parametrize(
    ("least", "most", "expected"), [(0, None, "at least 1"), (3, 2, "exchange them")]
)
def test_impossible_limits_are_refused(
    least: int, most: int | None, expected: str
) -> None:
    """Limits that nothing can pass, or that limit nothing, are mistakes."""
    with pytest.raises(ConfigurationError, match=expected):
        Filters(min_words=least, max_words=most)
    with pytest.raises(ConfigurationError, match=expected):
        Filters(min_characters=least, max_characters=most)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_limit_of_safety_is_a_number(value: float) -> None:
    """Infinity and no number at all are no limits."""
    with pytest.raises(ConfigurationError, match="--unsafe-from"):
        Filters(unsafe_from=value)


WORDS = st.lists(st.sampled_from(["a", "cup", "CUP", "gore", "\0", ""]), max_size=4)


@given(st.lists(WORDS, max_size=20), st.booleans(), st.booleans())
def test_every_row_passes_or_is_counted(
    words: list[list[str]], unique: bool, safe: bool
) -> None:
    """What passes and what is left out, by reason, are all rows together."""
    rows = rows_of(*(" ".join(each) for each in words))
    filters = Filters(unique=unique, safe=safe, min_words=1, max_words=3)

    passed, excluded = filters.apply(rows)

    assert len(rows) == len(passed) + sum(excluded.values())
    assert set(excluded) <= set(Reason)
    assert 0 not in excluded.values()
