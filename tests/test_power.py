"""Power and shares: what so many pairs can show, and how sure a share is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from socratic_agents.lab.stats.power import pairs_needed, smallest_effect
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


def test_too_few_pairs_show_nothing() -> None:
    """With a single pair there is no effect that could be shown."""
    assert smallest_effect(0.3, 1) is None


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 0.161125), (5, 0.111862, 0.468701), (20, 0.838875, 1.0)],
)
def test_intervals_are_wilsons(count: int, low: float, high: float) -> None:
    """They stay between 0 and 1, and what is left out is in no proportion."""
    found = proportion(count, 20, excluded=3)
    assert count / 20 == found.share
    assert (low, high) == pytest.approx((found.low, found.high), abs=1e-6)
    assert 3 == found.excluded


def test_a_share_of_nothing() -> None:
    """Where there are no cases there is no share, and no 0."""
    assert proportion(0, 0, excluded=2).share is None
