"""Preference: how strong each arm is, from what people said of two at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.stats.davidson import fit_davidson
from socratic_agents.lab.stats.proportions import proportion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

__all__ = (
    "PairwiseResult",
    "PreferenceScale",
    "Strength",
    "Vote",
    "majority",
    "preference",
    "standings",
)

RESAMPLES = 1_999
"""Of a bootstrap; chance then moves an end by about 2 % of the half width."""

LIGHTEST = 1e-3
"""Of a prompt that nobody saw; with none at all a strength would have no end."""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one person said of two arms on one prompt."""

    prompt: int
    one: str
    other: str
    sign: int
    """1 if ``one`` was preferred, -1 if ``other`` was, 0 for a tie."""

    def towards(self, one: str) -> int:
        """Return the sign as seen from one of the two arms."""
        return self.sign if one == self.one else -self.sign


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How strong an arm is, in log odds above the mean of all arms."""

    arm: str
    value: float
    low: float | None
    """Ends of the 95 % interval; ``None``: there are fewer than two prompts; infinite:
    that end is open, since the arm was never seen to lose, or never to win."""
    high: float | None


@dataclass(frozen=True, kw_only=True)
class PreferenceScale:
    """Strengths of all arms, the strongest first."""

    strengths: tuple[Strength, ...]
    tie: float
    """How readily people say tie: their odds to one side winning, of equal arms."""
    votes: int
    prompts: int


@dataclass(frozen=True, kw_only=True)
class PairwiseResult:
    """How one arm stands to another, each prompt decided by most of the people."""

    one: str
    other: str
    won: int
    tied: int
    lost: int
    rate: float | None
    """Share of the decided prompts that ``one`` won; ``None`` if none is decided."""
    low: float | None
    """Ends of its 95 % interval, by Wilson."""
    high: float | None
    votes: int
    """How many answers this rests on."""


def preference(
    votes: Sequence[Vote], *, seed: int = 0, resamples: int = RESAMPLES
) -> PreferenceScale | None:
    """Return the strength of every arm with its interval, or nothing without a link.

    The model is Bradley and Terry's with Davidson's ties. The interval is that of the
    weighted likelihood bootstrap over prompts: people who judged one prompt are not
    independent of each other, prompts are. The people themselves are taken as given.
    Every two arms that met also get a prompt that each of them wins; but for its own low
    end an arm gets one that it loses, for its high end one that it wins, shared among
    those whom it met: what comes next may be the worst. Of two arms the interval is Clopper and Pearson's of
    the share won, which is open where an arm won everything.

    Args:
        votes: At least one; of arms that no chain of votes links, there is no scale.
        seed: Of the resampling; the same seed gives the same interval.
        resamples: 1 or more.

    Sources: Davidson, "On extending the Bradley-Terry model to accommodate ties in
    paired comparison experiments", Journal of the American Statistical Association 65
    (1970), pages 317-328; Newton and Raftery, "Approximate Bayesian inference with the
    weighted likelihood bootstrap", Journal of the Royal Statistical Society B 56
    (1994), pages 3-48.
    """
    import numpy as np

    arms = sorted({arm for vote in votes for arm in (vote.one, vote.other)})
    if not arms or not _linked(votes, arms):
        return None
    counts = _counts(votes, arms)
    total = counts.sum(axis=0, keepdims=True)
    values, ties = fit_davidson(total, len(arms), seen=total[0])
    ends: Any = [[None] * len(arms)] * 2
    if len(counts) > 1:
        random = np.random.default_rng(seed)
        ends = _ends(counts, len(arms), random, resamples)
    strengths = [
        Strength(arm=arm, value=float(value), low=low, high=high)
        for arm, value, low, high in zip(arms, values[0], *ends, strict=True)
    ]
    return PreferenceScale(
        strengths=tuple(sorted(strengths, key=lambda s: (-s.value, s.arm))),
        tie=float(ties[0]),
        votes=len(votes),
        prompts=len(counts),
    )


def standings(votes: Sequence[Vote]) -> tuple[PairwiseResult, ...]:
    """Return how each arm stands to each other one, in the order of their names."""
    grouped: dict[tuple[str, str], dict[int, list[int]]] = {}
    for vote in votes:
        one, other = sorted((vote.one, vote.other))
        of_prompt = grouped.setdefault((one, other), defaultdict(list))
        of_prompt[vote.prompt].append(vote.towards(one))
    return tuple(
        _standing(one, other, tuple(prompts.values()))
        for (one, other), prompts in sorted(grouped.items())
    )


def majority(signs: Sequence[int]) -> int:
    """Return what most say: 1, -1, or 0 if the sides are even."""
    total = sum(signs)
    return (total > 0) - (total < 0)


def _standing(one: str, other: str, prompts: Sequence[Sequence[int]]) -> PairwiseResult:
    signs = [majority(signs) for signs in prompts]
    won, lost = signs.count(1), signs.count(-1)
    rate = proportion(won, won + lost)
    return PairwiseResult(
        one=one,
        other=other,
        won=won,
        tied=signs.count(0),
        lost=lost,
        rate=rate.share,
        low=rate.low,
        high=rate.high,
        votes=sum(map(len, prompts)),
    )


def _ends(
    counts: Any, size: int, random: np.random.Generator, resamples: int
) -> list[list[float]]:
    """Return the low and the high end of every arm's strength."""
    import numpy as np

    total = counts.sum(axis=0)
    weights = random.exponential(size=(resamples, len(counts)))
    drawn = np.tensordot(weights, counts, axes=1)
    # As many votes as a prompt of these two arms has.
    votes_of_prompt = total.sum(1) / (counts.sum(2) > 0).sum(0).clip(1)
    unseen = random.exponential(size=(resamples, counts.shape[1], 2)).clip(LIGHTEST)
    unseen *= votes_of_prompt[:, None]
    pairs = list(combinations(range(size), 2))
    ends = list[list[float]]()
    for better, share in ((False, 0.025), (True, 0.975)):
        found = list[float]()
        for arm in range(size):
            extra, seen = unseen.copy(), 0.0
            mine = [row for row, pair in enumerate(pairs) if arm in pair]
            extra[:, mine] /= max(int((total[mine].sum(1) > 0).sum()), 1)
            for row in mine:
                # Which of the two must not win the prompt that nobody saw.
                side = pairs[row].index(arm) ^ better
                extra[:, row, side] = LIGHTEST * votes_of_prompt[row]
                seen += total[row, side] + total[row, 2]
            values = None
            if seen:
                added = drawn.copy()
                added[..., :2] += extra
                values, _ = fit_davidson(added, size, seen=total, prior=0.0)
            unknown = math.inf if better else -math.inf
            end = unknown if values is None else np.quantile(values[:, arm], share)
            found.append(float(end))
        ends.append(found)
    return ends


def _linked(votes: Sequence[Vote], arms: Sequence[str]) -> bool:
    """Whether a chain of votes leads from each arm to each other one."""
    reached, before = {arms[0]}, 0
    while len(reached) > before:
        before = len(reached)
        for vote in votes:
            if vote.one in reached or vote.other in reached:
                reached |= {vote.one, vote.other}
    return len(reached) == len(arms)


def _counts(votes: Sequence[Vote], arms: Sequence[str]) -> Any:
    """Return ``(prompts, pairs of arms, 3)``: first wins, second wins, ties."""
    import numpy as np

    places: Mapping[int, int] = {
        prompt: place for place, prompt in enumerate(sorted({v.prompt for v in votes}))
    }
    pairs = {pair: place for place, pair in enumerate(combinations(arms, 2))}
    counts = np.zeros((len(places), len(pairs), 3))
    for vote in votes:
        pair = (min(vote.one, vote.other), max(vote.one, vote.other))
        outcome = {1: 0, -1: 1, 0: 2}[vote.towards(pair[0])]
        counts[places[vote.prompt], pairs[pair], outcome] += 1
    return counts
