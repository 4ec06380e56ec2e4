"""Trust in automatic judges: by hand, and in words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.lab.survey.judge_agreement import (
    agreement_sentence,
    judge_agreement,
)


def test_by_hand() -> None:
    """Three right, one wrong, one undecided, one without a score."""
    judge = judge_agreement("m", [0.3, 0.2, 0.1, -0.2, 0.0, None])
    assert (0.75, 4, 1, 1) == (judge.accuracy, judge.n, judge.undecided, judge.unscored)
    # Of 25 pairs of a lead and a mirrored lead, 19 are in order and 2 are even, by
    # counting: the leads against -0.3, -0.2, -0.1, 0.2 and 0.
    leads = [0.3, 0.2, 0.1, -0.2, 0.0]
    counted = sum((a > -b) + (a == -b) / 2 for a in leads for b in leads) / 25
    assert counted == pytest.approx(judge.auc)
    assert 0 == judge.sign


def test_nothing_scored() -> None:
    """Without scores there is nothing to trust."""
    judge = judge_agreement("m", [None, None])
    assert (None, None, None, 0, 2) == (
        judge.accuracy,
        judge.low,
        judge.auc,
        judge.n,
        judge.unscored,
    )
    assert "no automatic judge scored" in agreement_sentence([], question="match")
    assert "too few pairs" in agreement_sentence([judge], question="match")


def test_the_best_is_named_and_its_equals_with_it() -> None:
    """One that is as good within chance is not called worse."""
    judges = [
        judge_agreement("best", [1.0] * 37 + [-1.0] * 3),
        judge_agreement("near", [1.0] * 35 + [-1.0] * 5),
        judge_agreement("coin", [1.0] * 21 + [-1.0] * 19),
    ]
    said = agreement_sentence(judges, question="match")
    assert "match: best deserves trust most" in said
    assert "of 40 pairs that both decide; near cannot be distinguished from it" in said
    assert "no better than a coin: coin." in said


def test_one_that_is_best_beyond_chance_stands_alone() -> None:
    """Nobody else is said to be its equal."""
    judges = [
        judge_agreement("best", [1.0] * 40),
        judge_agreement("good", [1.0] * 30 + [-1.0] * 10),
    ]
    said = agreement_sentence(judges, question="match")
    assert said.startswith("match: best deserves trust most")
    assert said.endswith("of 40 pairs that both decide.")


def test_no_judge_is_better_than_a_coin() -> None:
    """That is said, and nobody is recommended."""
    said = agreement_sentence(
        [judge_agreement("coin", [1.0, -1.0] * 20)], question="match"
    )
    assert "match: no automatic judge differs significantly from chance." == said


@given(st.lists(st.floats(-1, 1)), st.integers(0, 9))
def test_the_area_is_that_of_all_pairs(leads: list[float], seed: int) -> None:
    """Counting every pair gives the same area, in whatever order."""
    judge = judge_agreement("m", leads)
    if not leads:
        assert judge.auc is None
        return
    n = len(leads)
    counted = sum((a > -b) + (a == -b) / 2 for a in leads for b in leads) / n**2
    assert counted == pytest.approx(judge.auc)
    mixed = random.Random(seed).sample(leads, n)
    assert judge == judge_agreement("m", mixed)
