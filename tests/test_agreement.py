"""Agreement between people, as the literature computes it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.lab.stats.agreement import exact_agreement, krippendorff_alpha

FOUR_OBSERVERS = (
    ("1", "2", "3", "3", "2", "1", "4", "1", "2", "", "", ""),
    ("1", "2", "3", "3", "2", "2", "4", "1", "2", "5", "", "3"),
    ("", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", ""),
    ("1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", ""),
)
"""Data of Krippendorff (2011), section C; a row for each observer."""

UNITS = [
    [float(value) for value in unit if value]
    for unit in zip(*FOUR_OBSERVERS, strict=True)
]

units_of_votes = st.lists(st.lists(st.sampled_from([-1, 0, 1]), max_size=4))


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_is_the_published_one(level: str, alpha: float) -> None:
    """The worked example of the method's author comes out, missing data included."""
    assert alpha == pytest.approx(krippendorff_alpha(UNITS, level=level), abs=5e-4)


def test_alpha_by_hand() -> None:
    """Two people, four units, one of them seen differently.

    The values are five times 1 and three times -1. Observed: the one unit has two
    ordered pairs of distance 4. Expected: 2 * 5 * 3 * 4 / 7.
    """
    units = [(1, 1), (1, 1), (-1, -1), (1, -1)]
    assert 1 - 8 / (120 / 7) == pytest.approx(krippendorff_alpha(units))
    assert 0.75 == exact_agreement(units)


@pytest.mark.parametrize("units", [[], [[1]], [[1, 1], [1, 1, 1]], [[1], [0], [-1]]])
def test_where_nothing_differs_there_is_no_alpha(units: list[list[float]]) -> None:
    """One answer a unit, or the same answer everywhere, says nothing of agreement."""
    assert krippendorff_alpha(units) is None


def test_no_two_people_have_nothing_in_common() -> None:
    """A share of no pairs is no share."""
    assert exact_agreement([[1], [0]]) is None


@given(units_of_votes)
def test_alpha_knows_no_sides(units: list[list[float]]) -> None:
    """Calling left right and right left changes nothing; alpha is never above 1."""
    alpha = krippendorff_alpha(units)
    mirrored = krippendorff_alpha([[-vote for vote in unit] for unit in units])
    assert (alpha is None) == (mirrored is None)
    if alpha is not None and mirrored is not None:
        assert math.isclose(alpha, mirrored, abs_tol=1e-12)
        assert alpha <= 1
