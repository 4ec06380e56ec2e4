"""Preference: strengths as a known library finds them, and intervals that hold.

Invariants, each a property test:

* Who is named first does not matter.
* More wins never make an arm weaker.
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from socratic_agents.lab.stats.davidson import fit_davidson
from socratic_agents.lab.stats.preference import Vote, majority, preference, standings

STRENGTHS = {"a": 0.6, "b": 0.1, "c": -0.7}
"""Log odds with the mean 0."""


def simulated(
    chance: random.Random, prompts: int, *, tie: float = 0.0, people: int = 1
) -> list[Vote]:
    """Return votes of people with these strengths in mind, as Davidson's model has."""
    votes: list[Vote] = []
    names = list(STRENGTHS)
    for prompt in range(prompts):
        one, other = chance.sample(names, 2)
        a, b = STRENGTHS[one], STRENGTHS[other]
        weights = [math.exp(a), math.exp(b), tie * math.exp((a + b) / 2)]
        votes += [
            Vote(prompt=prompt, one=one, other=other, sign=sign)
            for sign in chance.choices([1, -1, 0], weights, k=people)
        ]
    return votes


def davidson(
    wins: list[list[int]], ties: list[list[int]], *, prior: float = 0.0
) -> tuple[list[float], float]:
    """Return strengths and the tie parameter of one table of votes."""
    pairs = itertools.combinations(range(len(wins)), 2)
    counts = np.array([(wins[i][j], wins[j][i], ties[i][j]) for i, j in pairs], float)
    values, even = fit_davidson(counts[None], len(wins), seen=counts, prior=prior)
    return values[0].tolist(), float(even[0])


def table(votes: list[Vote]) -> tuple[list[list[int]], list[list[int]]]:
    """Return wins and ties, a row and a column for each arm."""
    names = list(STRENGTHS)
    wins, ties = ([[0] * 3 for _ in names] for _ in range(2))
    for vote in votes:
        i, j = names.index(vote.one), names.index(vote.other)
        if vote.sign:
            i, j = (i, j) if vote.sign > 0 else (j, i)
            wins[i][j] += 1
        else:
            ties[i][j] += 1
            ties[j][i] += 1
    return wins, ties


@pytest.mark.parametrize("seed", range(5))
def test_without_ties_it_is_what_choix_finds(seed: int) -> None:
    """Bradley-Terry strengths agree with a library of their own."""
    choix = pytest.importorskip("choix", reason="choix is not installed")
    wins, ties = table(simulated(random.Random(seed), 400))
    expected = choix.ilsr_pairwise_dense(np.array(wins, dtype=float), tol=1e-12)
    values, tie = davidson(wins, ties)
    assert (expected - expected.mean()).tolist() == pytest.approx(values, abs=1e-6)
    assert 0.0 == tie


def test_with_ties_it_is_the_top_of_the_likelihood() -> None:
    """No strengths nearby explain the votes better than Davidson's."""
    wins, ties = table(simulated(random.Random(3), 300, tie=0.8))
    values, tie = davidson(wins, ties)

    def likelihood(at: list[float], nu: float) -> float:
        total = 0.0
        for i in range(3):
            for j in range(3):
                both = math.exp(at[i]) + math.exp(at[j])
                even = nu * math.exp((at[i] + at[j]) / 2)
                total += wins[i][j] * math.log(math.exp(at[i]) / (both + even))
                total += ties[i][j] / 2 * math.log(even / (both + even))
        return total

    top = likelihood(values, tie)
    for place in range(3):
        for step in (-1e-3, 1e-3):
            moved = [v + step * (place == i) for i, v in enumerate(values)]
            assert likelihood(moved, tie) < top
    assert likelihood(values, tie * 1.001) < top
    assert likelihood(values, tie / 1.001) < top


def test_two_arms_by_hand() -> None:
    """Thirty wins, ten losses: the log odds are log 3, half on either side of 0."""
    values, tie = davidson([[0, 30], [10, 0]], [[0, 20], [20, 0]])
    assert [math.log(3) / 2, -math.log(3) / 2] == pytest.approx(values)
    # 20 / 60 is tie / (sqrt(3) + 1 / sqrt(3) + tie).
    assert 2 / math.sqrt(3) == pytest.approx(tie)


def test_an_arm_that_never_lost_is_not_infinitely_strong() -> None:
    """Without a prior there is no answer; with one there is a finite one."""
    with pytest.raises(ValueError, match="give a prior above 0"):
        davidson([[0, 5], [0, 0]], [[0, 0], [0, 0]])
    # By way of a third one each lost to each.
    assert davidson([[0, 5, 0], [0, 0, 5], [5, 0, 0]], [[0] * 3] * 3)
    with pytest.raises(ValueError, match="arms that never did"):
        davidson([[0, 5, 1], [2, 0, 5], [0, 0, 0]], [[0] * 3] * 3)
    values, _ = davidson([[0, 5], [0, 0]], [[0, 0], [0, 0]], prior=0.5)
    assert math.log(11) / 2 == pytest.approx(values[0])


def test_intervals_hold_what_they_promise() -> None:
    """Of 200 simulated surveys, about 95 % of the intervals have the truth inside."""
    inside = total = 0
    for seed in range(200):
        votes = simulated(random.Random(seed), 90, tie=0.5, people=2)
        found = preference(votes, seed=seed, resamples=299)
        assert found is not None
        for strength in found.strengths:
            assert strength.low is not None
            assert strength.high is not None
            total += 1
            inside += strength.low <= STRENGTHS[strength.arm] <= strength.high
    assert 0.91 <= inside / total <= 0.98


@pytest.mark.parametrize("people", [1, 3])
@pytest.mark.parametrize("n", [2, 5, 20, 100])
def test_who_won_everything_is_not_surely_strong(n: int, people: int) -> None:
    """Two arms' interval is that of the share won, whatever people add to a prompt."""
    votes = [
        Vote(prompt=prompt, one="a", other="b", sign=1)
        for prompt in range(n)
        for _ in range(people)
    ]
    found = preference(votes, resamples=9_999)
    assert found is not None
    first, second = found.strengths
    assert first.low is not None
    assert second.high is not None
    # Nobody saw how much stronger it may be.
    assert (math.inf, -math.inf) == (first.high, second.low)
    # Log odds of two arms are twice as far apart as each is from their mean.
    low, high = (1 / (1 + math.exp(-2 * end)) for end in (first.low, second.high))
    exact = stats.binomtest(n, n).proportion_ci(method="exact")
    assert (
        exact.low == pytest.approx(low, abs=0.05) == pytest.approx(1 - high, abs=0.05)
    )
    assert first.low < first.value


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("share", [0.9, 0.97])
def test_strengths_near_separation_cover_the_truth(n: int, share: float) -> None:
    """Of two arms of which one nearly always wins, as of a share near its end."""
    rng = random.Random(n)
    held, times, true = 0, 300, math.log(share / (1 - share)) / 2
    for seed in range(times):
        votes = [
            Vote(prompt=i, one="a", other="b", sign=1 if rng.random() < share else -1)
            for i in range(n)
        ]
        found = preference(votes, seed=seed, resamples=299)
        assert found is not None
        [arm] = [one for one in found.strengths if one.arm == "a"]
        assert arm.low is not None
        assert arm.high is not None
        held += arm.low <= true <= arm.high
    assert held / times >= 0.93


def test_ties_alone_say_little_of_strength() -> None:
    """Arms that nobody told apart may be equal, or never have been asked about well."""
    votes = [Vote(prompt=i, one="a", other="b", sign=0) for i in range(20)]
    found = preference(votes, resamples=199)
    assert found is not None
    for strength in found.strengths:
        assert strength.value == pytest.approx(0)
        assert strength.low is not None
        assert strength.high is not None
        assert strength.low < -0.5
        assert strength.high > 0.5


def test_the_planted_winner_stands_first() -> None:
    """The strongest arm comes first, and the counts are told."""
    votes = simulated(random.Random(1), 300, tie=0.3, people=3)
    found = preference(votes)
    assert found is not None
    assert ["a", "b", "c"] == [strength.arm for strength in found.strengths]
    assert (900, 300) == (found.votes, found.prompts)
    assert 0.2 < found.tie < 0.4
    assert found == preference(votes)


def test_without_a_link_there_is_no_scale() -> None:
    """Arms that no chain of votes links cannot be set beside each other."""
    votes = [
        Vote(prompt=0, one="a", other="b", sign=1),
        Vote(prompt=1, one="c", other="d", sign=1),
    ]
    assert preference(votes) is None
    assert preference([]) is None
    linked = [*votes, Vote(prompt=2, one="d", other="b", sign=0)]
    assert preference(linked, resamples=9) is not None


def test_one_prompt_has_no_interval() -> None:
    """One prompt says nothing of how much prompts differ."""
    found = preference([Vote(prompt=7, one="a", other="b", sign=1)])
    assert found is not None
    assert [(None, None)] * 2 == [(s.low, s.high) for s in found.strengths]
    assert math.log(3) / 2 == pytest.approx(found.strengths[0].value)


def test_most_people_decide_a_prompt() -> None:
    """Each prompt counts once, however many people judged it."""
    votes = [
        *(Vote(prompt=0, one="b", other="a", sign=sign) for sign in (1, 1, -1)),
        *(Vote(prompt=1, one="a", other="b", sign=sign) for sign in (1, -1)),
        Vote(prompt=2, one="a", other="b", sign=-1),
        Vote(prompt=2, one="a", other="c", sign=0),
    ]
    first, second = standings(votes)
    assert ("a", "b", 0, 1, 2, 6) == (
        first.one,
        first.other,
        first.won,
        first.tied,
        first.lost,
        first.votes,
    )
    assert 0.0 == first.rate
    assert (1, None, None) == (second.tied, second.rate, second.low)


@pytest.mark.parametrize(
    ("signs", "sign"), [([1, 1, -1], 1), ([1, -1], 0), ([0, 0, -1], -1), ([], 0)]
)
def test_majority(signs: list[int], sign: int) -> None:
    """Ties give way to those who see a difference."""
    assert sign == majority(signs)


votes_of_three = st.lists(
    st.builds(
        lambda prompt, pair, sign: Vote(
            prompt=prompt, one=pair[0], other=pair[1], sign=sign
        ),
        st.integers(0, 5),
        st.permutations("abc"),
        st.sampled_from([-1, 0, 1]),
    ),
    min_size=1,
    max_size=30,
)


@given(votes_of_three)
@settings(max_examples=50)
def test_who_is_named_first_does_not_matter(votes: list[Vote]) -> None:
    """The same votes, told the other way round, say the same."""
    mirrored = [
        Vote(prompt=v.prompt, one=v.other, other=v.one, sign=-v.sign) for v in votes
    ]
    assert preference(votes, resamples=9) == preference(mirrored, resamples=9)
    assert standings(votes) == standings(mirrored)


@given(votes_of_three)
@settings(max_examples=50)
def test_more_wins_never_make_weaker(votes: list[Vote]) -> None:
    """An arm that wins once more does not stand lower."""
    before = preference(votes, resamples=1)
    more = [*votes, Vote(prompt=0, one="a", other="b", sign=1)]
    after = preference(more, resamples=1)
    if before is None or after is None:
        return
    value = {s.arm: s.value for s in before.strengths}.get("a")
    if value is not None and len(before.strengths) == len(after.strengths):
        now = {s.arm: s.value for s in after.strengths}["a"]
        assert now >= value - 1e-6
