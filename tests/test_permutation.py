"""Sign flips and families: the chance of a false find is what it is said to be."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from socratic_agents.lab.stats.permutation import EXACT, holm, sign_flip_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

    Draw = Callable[[Generator], Any]

NULLS: dict[str, Draw] = {
    "normal": lambda rng: rng.normal(0, 0.2, 40),
    "few, exact": lambda rng: rng.normal(0, 0.2, 8),
    "heavy tails": lambda rng: rng.standard_t(3, 40),
    "skewed": lambda rng: rng.exponential(1, 100) - 1,
    "difference of skewed": lambda rng: rng.exponential(1, 40) - rng.exponential(1, 40),
    "ties": lambda rng: rng.choice([-0.25, 0, 0.25], 300, p=[0.2, 0.6, 0.2]),
    "shares": lambda rng: (rng.binomial(5, 0.8, 200) - rng.binomial(5, 0.8, 200)) / 5,
}
"""Differences with the mean 0, as metrics have them."""


@pytest.mark.parametrize("draw", NULLS.values(), ids=NULLS)
def test_equals_are_told_apart_in_one_of_twenty(draw: Draw) -> None:
    """Of 400 comparisons of equals 2.5 to 8 % come out at 5 % or below."""
    rng = np.random.default_rng(2026)
    found = [
        sign_flip_test(draw(rng).tolist(), seed=seed, resamples=199).p
        for seed in range(400)
    ]
    share = sum(p is not None and p <= 0.05 for p in found) / 400
    assert 0.025 <= share <= 0.08


def test_coarse_steps_make_it_careful() -> None:
    """Where few pairs differ, and all by one step, it errs on the side of no find."""
    rng = np.random.default_rng(5)
    drawn = rng.choice([-0.25, 0, 0.25], (300, 40), p=[0.1, 0.8, 0.1])
    found = [sign_flip_test(one.tolist()).p for one in drawn]
    assert sum(p is not None and p <= 0.05 for p in found) / 300 <= 0.05


@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_exact_test_is_the_enumeration(n: int) -> None:
    """Written out flip by flip it is the same."""
    values = np.random.default_rng(n).normal(0.1, 0.3, n)
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=n)
    ]
    expected = sum(s >= abs(values.sum()) - 1e-12 for s in sums) / 2**n

    found = sign_flip_test(values.tolist())

    assert found.exact
    assert expected == pytest.approx(found.p)


def test_drawn_flips_agree_with_the_normal_distribution() -> None:
    """Where not all flips are tried, p is the t test's up to the chance of drawing."""
    values = np.random.default_rng(4).normal(0.08, 0.3, 50)
    found = sign_flip_test(values.tolist(), resamples=20_000)
    assert not found.exact
    expected = stats.ttest_1samp(values, 0).pvalue
    assert float(expected) == pytest.approx(found.p, abs=0.012)


def test_sums_that_are_equal_but_for_rounding_are_equal() -> None:
    """Which of three summands is added first decides nothing."""
    assert 1.0 == sign_flip_test([0.1, 0.2, -0.3]).p


def test_p_is_never_zero() -> None:
    """However clear a difference is, no more is said than was drawn."""
    assert 1 / 10_000 == sign_flip_test([1.0] * 60).p
    assert 2 / 2**EXACT == sign_flip_test([1.0] * EXACT).p
    assert 1 / 400 == sign_flip_test([1.0] * 60, resamples=399).p


def test_ties_say_nothing() -> None:
    """Pairs that are equal change neither p nor how it is found."""
    values = [0.3, -0.1, 0.2, 0.4]
    plain, tied = sign_flip_test(values), sign_flip_test(values + [0.0] * 99)
    assert plain.p == tied.p
    assert (103, 4) == (tied.n, tied.untied)
    assert 1.0 == sign_flip_test([0.0] * 9).p
    assert sign_flip_test([]).p is None


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 9))
def test_a_p_value(values: list[float], seed: int) -> None:
    """It is above 0 and at most 1, and the same for swapped arms and the same seed."""
    found = sign_flip_test(values, seed=seed, resamples=99)
    assert found.p is not None
    assert 0 < found.p <= 1
    assert found == sign_flip_test([-v for v in values], seed=seed, resamples=99)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_only_numbers_are_flipped(bad: float) -> None:
    """What is no number is refused: a failure is excluded, with its cause."""
    with pytest.raises(ValueError, match="expected finite differences"):
        sign_flip_test([0.5, bad])


def test_holm_by_hand() -> None:
    """The smallest is multiplied by all, the next by one less, and none falls back."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None, "e": 0.5})
    expected = {"a": 0.04, "c": 0.09, "b": 0.09, "e": 0.5}
    assert expected == pytest.approx({n: p for n, p in found.items() if n != "d"})
    assert found["d"] is None
    assert ["a", "b", "c", "d", "e"] == list(found)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5 of 'a'"):
        holm({"a": 1.5})


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=9))
def test_holm_lies_between_none_and_bonferroni(p_values: dict[str, float]) -> None:
    """It never lowers a p value, nor raises one above Bonferroni's."""
    found = holm(p_values)
    for name, p in p_values.items():
        adjusted = found[name]
        assert adjusted is not None
        assert p <= adjusted <= min(1.0, p * len(p_values)) + 1e-12


def test_holm_keeps_a_family_honest() -> None:
    """Of 1,000 families of ten equals, at most 7 % tell any two apart."""
    rng = np.random.default_rng(9)
    false = 0
    for drawn in rng.random((1_000, 10)):
        adjusted = holm({str(n): float(p) for n, p in enumerate(drawn)})
        false += any(p is not None and p <= 0.05 for p in adjusted.values())
    assert 0.03 <= false / 1_000 <= 0.07
