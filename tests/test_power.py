"""Power and shares: what so many pairs can show, and how sure a share is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from socratic_agents.lab.stats.power import (
    pairs_needed,
    power_of,
    simulated_power,
    smallest_effect,
)
from socratic_agents.lab.stats.proportions import proportion


@pytest.mark.parametrize(
    ("effect", "pairs"), [(0.1, 787), (0.15, 351), (0.2, 199), (0.3, 90), (0.5, 34)]
)
def test_the_pairs_of_the_t_test(effect: float, pairs: int) -> None:
    """The approximation gives what the exact t test needs for 80 % power."""
    assert pairs == pairs_needed(effect, 1.0) == pairs_needed(-effect / 5, 0.2)
    exact = stats.nct.sf(
        stats.t.ppf(0.975, pairs - 1), pairs - 1, effect * np.sqrt(pairs)
    )
    assert 0.8 == pytest.approx(float(exact), abs=0.01)
    assert power_of(effect, 1.0, pairs) == pytest.approx(float(exact), abs=0.005)


@pytest.mark.parametrize(("effect", "spread"), [(0.0, 1.0), (0.1, 0.0), (0.1, -1.0)])
def test_nothing_shows_nothing(effect: float, spread: float) -> None:
    """No number of pairs shows an effect of 0, or is known without a spread."""
    with pytest.raises(ValueError, match="an effect that is not 0 and a spread"):
        pairs_needed(effect, spread)


@given(st.floats(0.05, 2), st.integers(5, 2_000))
def test_the_smallest_effect_needs_its_pairs(spread: float, n: int) -> None:
    """What n pairs can show is what needs n pairs."""
    effect = smallest_effect(spread, n)
    assert effect is not None
    assert abs(pairs_needed(effect, spread) - n) <= 1
    assert 0.8 == pytest.approx(power_of(effect, spread, n), abs=0.001)


def test_too_few_pairs_show_nothing() -> None:
    """With a single pair there is no effect that could be shown."""
    assert smallest_effect(0.3, 1) is None
    assert 0.05 == pytest.approx(power_of(9.0, 0.3, 1))


def test_the_simulation_agrees_with_the_formula() -> None:
    """On differences that are nearly normal both say the same."""
    pilot = np.random.default_rng(3).normal(0.3, 0.2, 400).tolist()
    spread = float(np.std(pilot, ddof=1))
    found = simulated_power(pilot, 0.06, 60, runs=400)
    assert found.low is not None
    assert found.high is not None
    assert found.low - 0.02 <= power_of(0.06, spread, 60) <= found.high + 0.02
    assert 400 == found.n


def test_the_simulation_of_nothing_is_the_level() -> None:
    """Without an effect, 5 % of the studies see one; the same seed, the same studies."""
    pilot = np.random.default_rng(4).normal(0.3, 0.2, 50).tolist()
    found = simulated_power(pilot, 0.0, 40, seed=1)
    assert found.share is not None
    assert 0.02 <= found.share <= 0.08
    assert found == simulated_power(pilot, 0.0, 40, seed=1)
    with pytest.raises(ValueError, match="at least 2 differences, got 1"):
        simulated_power([0.5], 0.1, 10)


@given(st.integers(0, 40), st.integers(1, 40))
def test_shares_are_wilsons(count: int, n: int) -> None:
    """The interval is scipy's, and what is left out is in no share."""
    found = proportion(min(count, n), n, excluded=3)
    scipys = stats.binomtest(min(count, n), n).proportion_ci(method="wilson")
    assert (scipys.low, scipys.high) == pytest.approx((found.low, found.high))
    assert 3 == found.excluded


def test_a_share_of_nothing() -> None:
    """Where there are no cases there is no share, and no 0."""
    assert proportion(0, 0, excluded=2).share is None
