"""The statistics: as the books have them, and honest where there is too little.

Invariants, each a property test:

* The mean lies in its interval, which has a width, and that between the extremes.
* Wins, ties and losses are all the pairs; swapping the arms swaps the signs.
* A prompt that one arm has no value of changes nothing.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from socratic_agents.lab.stats.bootstrap import (
    Difference,
    Interval,
    mean_interval,
    paired_difference,
    paired_values,
    power_warning,
)

values = st.lists(st.floats(-1, 1), min_size=2, max_size=18)
measured = st.dictionaries(st.integers(0, 12), st.none() | st.floats(0, 1))

FEW = 499
"""Resamples where many intervals are made."""


def by_prompt(numbers: object) -> dict[int, float | None]:
    return dict(enumerate(np.asarray(numbers, dtype=float).tolist()))


def difference(numbers: object, *, seed: int = 0) -> Difference:
    """Return the difference of arms that differ by these numbers."""
    ours = by_prompt(numbers)
    return paired_difference(ours, dict.fromkeys(ours, 0.0), seed=seed, resamples=FEW)


def bca(numbers: list[float], *, seed: int, resamples: int) -> tuple[float, float]:
    """Return Efron's BCa interval of the mean, written out from the formulas."""
    data, normal = np.array(numbers), NormalDist()
    rng = np.random.default_rng(seed)
    means = np.sort(rng.choice(data, (resamples, len(data))).mean(axis=1))
    below = ((means < data.mean()).sum() + (means <= data.mean()).sum()) / 2
    bias = normal.inv_cdf(float(below) / resamples)
    left_out = (data.sum() - data) / (len(data) - 1)
    away = left_out.mean() - left_out
    bend = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    ends = []
    for z in (normal.inv_cdf(0.025), normal.inv_cdf(0.975)):
        moved = bias + (bias + z) / (1 - bend * (bias + z))
        ends.append(float(np.quantile(means, normal.cdf(moved))))
    return ends[0], ends[1]


@pytest.mark.parametrize("kind", ["normal", "exponential", "beta"])
def test_the_interval_is_efrons(kind: str) -> None:
    """The interval is the one of the formulas, up to the chance of resampling."""
    rng = np.random.default_rng(5)
    drawn = {
        "normal": rng.normal(0.2, 0.3, 80),
        "exponential": rng.exponential(0.3, 40),
        "beta": rng.beta(5, 1, 60),
    }[kind]
    interval = mean_interval(drawn.tolist())
    low, high = bca(drawn.tolist(), seed=99, resamples=40_000)
    close = 0.05 * (high - low)
    assert float(drawn.mean()) == pytest.approx(interval.mean)
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=close)
    assert len(drawn) == interval.n


def test_the_interval_is_scipys() -> None:
    """SciPy's own call gives the same interval for the same seed."""
    drawn = np.random.default_rng(6).normal(size=50)
    expected = stats.bootstrap(
        (drawn,), np.mean, method="BCa", rng=np.random.default_rng(3), batch=1_000
    ).confidence_interval
    interval = mean_interval(drawn.tolist(), seed=3)
    assert tuple(expected) == (interval.low, interval.high)


def test_a_large_sample_is_nearly_normal() -> None:
    """Of many normal values the interval is Student's, nearly."""
    drawn = np.random.default_rng(7).normal(0.4, 0.2, 1_000)
    student = stats.ttest_1samp(drawn, 0).confidence_interval()
    interval = mean_interval(drawn.tolist())
    assert tuple(student) == pytest.approx((interval.low, interval.high), abs=0.001)


def test_the_interval_covers_the_truth() -> None:
    """Of 300 samples of 60 about 95 % have intervals that hold the true mean."""
    rng = np.random.default_rng(11)
    intervals = [
        mean_interval(rng.normal(0.5, 0.2, 60).tolist(), seed=seed, resamples=FEW)
        for seed in range(300)
    ]
    held = sum((i.low or 0) <= 0.5 <= (i.high or 0) for i in intervals)
    assert 0.92 <= held / 300 <= 0.98


def test_no_difference_is_seldom_seen() -> None:
    """Of 1,000 comparisons of equals about 5 % are told apart by chance."""
    rng = np.random.default_rng(12)
    seen = sum(
        difference(rng.normal(0, 0.2, 80), seed=seed).sign != 0 for seed in range(1_000)
    )
    assert 0.03 <= seen / 1_000 <= 0.07


def test_ties_do_not_make_differences() -> None:
    """Where nearly all pairs tie, equals are told apart no more often than 7 %."""
    rng = np.random.default_rng(13)
    seen = sum(
        difference(
            rng.choice([-0.25, 0.0, 0.25], 100, p=[0.03, 0.94, 0.03]), seed=seed
        ).sign
        != 0
        for seed in range(300)
    )
    assert seen / 300 <= 0.07


@pytest.mark.parametrize("true", [0.1, -0.1])
def test_a_planted_difference_is_found(true: float) -> None:
    """A real difference is found, with its sign, and lies in the interval."""
    rng = np.random.default_rng(14)
    prompts = rng.random(150)
    ours = by_prompt(prompts + true + rng.normal(0, 0.1, 150))
    theirs = by_prompt(prompts + rng.normal(0, 0.1, 150))
    found = paired_difference(ours, theirs)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= true <= found.high
    assert math.copysign(1, true) == found.sign
    assert (true > 0) == (found.win > found.loss)


def test_equal_values_have_no_interval() -> None:
    """Where nothing varied nobody knows how sure the mean is, unless by its bounds."""
    third = 1 / 3
    assert Interval(mean=third, low=None, high=None, n=9) == mean_interval([third] * 9)
    nearly = [0.1 + 0.2, 0.3, 0.3]
    assert mean_interval(nearly).high is None
    assert (
        "0 of 3 values differ from the most frequent one, and at least 6 must"
        == mean_interval(nearly).why
    )
    bounded = mean_interval([third] * 9, bounds=(0.0, 1.0))
    assert bounded.why is None
    assert bounded.low is not None
    assert bounded.high is not None
    assert bounded.low < third - 0.05
    assert bounded.high > third + 0.1


@pytest.mark.parametrize(("ones", "n"), [(20, 20), (0, 20), (58, 60), (3, 150)])
def test_near_an_end_a_share_has_the_exact_interval(ones: int, n: int) -> None:
    """Of zeros and ones Gaffke's interval is Clopper and Pearson's."""
    interval = mean_interval([1.0] * ones + [0.0] * (n - ones), bounds=(0.0, 1.0))
    exact = stats.binomtest(ones, n).proportion_ci(method="exact")
    assert (exact.low, exact.high) == pytest.approx(
        (interval.low, interval.high), abs=0.004
    )


def test_bounds_that_values_break_are_widened() -> None:
    """An interval never excludes what was seen."""
    interval = mean_interval([2.0] * 9 + [-1.0], bounds=(0.0, 1.0))
    assert interval.low is not None
    assert interval.high is not None
    assert -1 < interval.low < 1.7 < interval.high <= 2


def ones(rng: np.random.Generator, n: int, share: float) -> list[float]:
    return np.asarray(rng.random(n) < share, dtype=float).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 60, 150])
@pytest.mark.parametrize("share", [0.9, 0.97, 0.987])
def test_intervals_near_an_end_cover_the_truth(n: int, share: float) -> None:
    """Never much less often than they say, however few values differ."""
    rng = np.random.default_rng(n)
    held, times = 0, 400
    for seed in range(times):
        found = mean_interval(
            ones(rng, n, share), bounds=(0.0, 1.0), seed=seed, resamples=FEW
        )
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.high
        held += found.low <= share <= found.high
    assert held / times >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 60, 150])
@pytest.mark.parametrize("sides", [(1.0, -1.0), (0.5, 0.5), (1.0, 1 / 3)])
def test_intervals_of_ties_cover_the_truth_or_are_refused(
    n: int, sides: tuple[float, float]
) -> None:
    """Where 98.7 % of the pairs tie, and the others differ to both or to one side."""
    rng = np.random.default_rng(n)
    held, times, shown = 0, 400, 0
    for seed in range(times):
        drawn = rng.choice([0.0, *sides], n, p=[0.987, 0.0065, 0.0065])
        found = difference(drawn, seed=seed)
        if found.low is None or found.high is None:
            differ = found.win + found.loss
            assert found.why == f"{differ} of {n} pairs differ, and at least 6 must"
            assert 0 == found.sign
            continue
        shown += 1
        held += found.low <= 0.0065 * sum(sides) <= found.high
    assert times - shown + held >= 0.93 * times


def test_few_untied_pairs_have_no_interval() -> None:
    """Resampling a few differences among many ties finds the ties, and looks sure."""
    few = difference([0.5] * 5 + [0.0] * 100)
    assert (None, None, 5, 100) == (few.low, few.high, few.win, few.tie)
    enough = difference([0.5] * 6 + [0.0] * 100)
    assert enough.low is not None
    assert enough.high is not None
    assert enough.low < 3 / 106 < enough.high


def test_too_few_values_have_no_interval() -> None:
    """One value has a mean only, and no value has not even that."""
    assert Interval(mean=0.5, low=None, high=None, n=1) == mean_interval([0.5])
    assert Interval(mean=None, low=None, high=None, n=0) == mean_interval([])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_numbers_are_values(bad: float) -> None:
    """What is no number is refused: a failure is excluded, never averaged."""
    with pytest.raises(ValueError, match="expected finite values, got"):
        mean_interval([0.5, bad])


def test_the_seed_decides() -> None:
    """The same seed gives the same interval, another one another."""
    drawn = np.random.default_rng(15).random(30).tolist()
    assert mean_interval(drawn, seed=1) == mean_interval(drawn, seed=1)
    assert mean_interval(drawn, seed=1) != mean_interval(drawn, seed=2)


@settings(max_examples=60)
@given(values)
def test_the_mean_lies_in_its_interval(drawn: list[float]) -> None:
    """The interval holds the mean and goes no further than the values."""
    interval = mean_interval(drawn, resamples=199)
    assert interval.mean is not None
    if interval.low is None or interval.high is None:
        assert "differ from the most frequent one" in (interval.why or "")
        return
    assert interval.why is None
    assert interval.low < interval.high
    ends = (min(drawn), interval.low, interval.mean, interval.high, max(drawn))
    assert all(a <= b + 1e-9 for a, b in pairwise(ends))


@settings(max_examples=60)
@given(measured, measured)
def test_pairs(ours: dict[int, float | None], theirs: dict[int, float | None]) -> None:
    """Only prompts with both values count, and swapping the arms swaps the signs."""
    there = paired_difference(ours, theirs, resamples=99)
    back = paired_difference(theirs, ours, resamples=99)
    both = [
        index
        for index in ours
        if ours[index] is not None and theirs.get(index) is not None
    ]
    assert len(both) == there.n == there.win + there.tie + there.loss
    assert (there.win, there.tie, there.loss) == (back.loss, back.tie, back.win)
    assert (there.mean is None) == (not both)
    if there.mean is not None:
        assert there.mean == pytest.approx(-(back.mean or 0))
        spare = {**ours, 99: 1.0}
        assert there == paired_difference(spare, {**theirs, 99: None}, resamples=99)


def test_pairs_are_in_the_order_of_the_prompts() -> None:
    """The order in which prompts finished decides nothing."""
    ours = {2: 0.2, 0: 0.0, 1: None, 3: 0.3}
    theirs = {0: 0.5, 3: 0.1, 2: 0.7, 1: 0.4}
    assert ((0.0, 0.5), (0.2, 0.7), (0.3, 0.1)) == paired_values(ours, theirs)


def test_the_margin_makes_ties() -> None:
    """Values that differ by rounding are a tie, and so are closer ones than asked."""
    ours, theirs = {0: 0.1 + 0.2, 1: 0.5, 2: 0.9}, {0: 0.3, 1: 0.45, 2: 0.4}
    near = paired_difference(ours, theirs)
    assert (2, 1, 0) == (near.win, near.tie, near.loss)
    wide = paired_difference(ours, theirs, margin=0.1)
    assert (1, 2, 0) == (wide.win, wide.tie, wide.loss)


@pytest.mark.parametrize(
    ("numbers", "sign"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5] * 5, 0),  # five heads in a row are no evidence
        ([0.5] * 6, 1),
        ([-0.5] * 6, -1),
        ([0.5] * 5 + [0.0] * 100, 0),
        ([0.5] * 8 + [0.0] * 100, 1),
        ([0.5, -0.5] * 10, 0),
    ],
)
def test_the_sign_needs_evidence(numbers: list[float], sign: int) -> None:
    """A sign is told only where the interval and enough untied pairs show it."""
    assert sign == difference(numbers).sign


def test_few_pairs_are_warned_of() -> None:
    """Fewer than 20 pairs are too few, however much they agree."""
    assert power_warning([]) == "0 pairs are too few for a conclusion; run at least 20."
    assert (power_warning([0.5]) or "").startswith("1 pair is too few")
    assert (power_warning([0.5] * 19) or "").startswith("19 pairs are too few")
    assert power_warning([0.5] * 20) is None


def test_weak_pairs_are_warned_of() -> None:
    """The warning names what can be shown, and how many prompts show 0.05."""
    numbers = [0.3, -0.3] * 32
    assert power_warning(numbers) == (
        "64 pairs show a mean difference with 80 % power only from 0.106 upward; "
        "to show one of 0.05, run about 287."
    )
    assert power_warning(numbers * 5) is None


def test_the_power_is_what_is_said() -> None:
    """A true difference as small as the warning says is found in about 80 %."""
    rng = np.random.default_rng(16)
    spread, n = 0.3, 60
    smallest = 2.8 * spread / math.sqrt(n)
    found = sum(
        difference(rng.normal(smallest, spread, n), seed=seed).sign == 1
        for seed in range(300)
    )
    assert 0.73 <= found / 300 <= 0.87
