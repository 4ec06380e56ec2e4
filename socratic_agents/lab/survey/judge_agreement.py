"""Judge agreement: how often an automatic judge says what people say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.core.extras import needs_extra
from socratic_agents.lab.stats.proportions import proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("JudgeAgreement", "agreement_sentence", "judge_agreement")

FEWEST = 20
"""Pairs that both decide; with fewer, nothing is said of trust."""


@dataclass(frozen=True, kw_only=True)
class JudgeAgreement:
    """How one automatic judge agrees with most of the people."""

    metric: str
    accuracy: float | None
    """Share of the pairs that both decide in which both choose the same image."""
    low: float | None
    """Ends of its 95 % interval, by Wilson."""
    high: float | None
    n: int
    """Pairs that both decide."""
    undecided: int
    """Pairs that people decide, and the judge does not."""
    unscored: int
    """Pairs that people decide, and that the judge never scored."""
    auc: float | None
    """Chance that a pair in which people prefer the first image has a greater
    difference of scores than one in which they prefer the second; 0.5 is a coin."""

    @property
    def sign(self) -> int:
        """1 if it is better than a coin, -1 if it is worse, 0 if one cannot tell."""
        if self.low is None or self.high is None or self.n < FEWEST:
            return 0
        return int(self.low > 0.5) - int(self.high < 0.5)


def judge_agreement(metric: str, leads: Sequence[float | None]) -> JudgeAgreement:
    """Return how a judge agrees with people, on the pairs that these decide.

    Args:
        metric: Its name.
        leads: Of each pair, the score of the image that people prefer minus the score
            of the other; ``None`` where the judge has no score of both.
    """
    scored = [lead for lead in leads if lead is not None]
    right = sum(lead > 0 for lead in scored)
    n = sum(lead != 0 for lead in scored)
    accuracy = proportion(right, n)
    return JudgeAgreement(
        metric=metric,
        accuracy=accuracy.share,
        low=accuracy.low,
        high=accuracy.high,
        n=n,
        undecided=len(scored) - n,
        unscored=len(leads) - len(scored),
        auc=_auc(scored) if scored else None,
    )


def agreement_sentence(judges: Sequence[JudgeAgreement], *, question: str) -> str:
    """Say which of the judges deserves trust on a question, if any does."""
    if not judges:
        return f"{question}: no automatic judge scored these images."
    known = [judge for judge in judges if judge.accuracy is not None]
    if not known or max(judge.n for judge in known) < FEWEST:
        return (
            f"{question}: too few pairs are decided by people and a judge to say whom "
            f"to trust; ask for at least {FEWEST}."
        )
    better = sorted(
        (judge for judge in known if judge.sign > 0),
        key=lambda judge: (judge.accuracy or 0.0, judge.auc or 0.0),
        reverse=True,
    )
    if not better:
        return f"{question}: no automatic judge differs significantly from chance."
    best, *others = better
    near = [o.metric for o in others if (o.high or 0.0) >= (best.accuracy or 0.0)]
    text = f"{question}: {best.metric} deserves trust most, {_in_words(best)}"
    if near:
        text += f"; {', '.join(near)} cannot be distinguished from it"
    worse = [judge.metric for judge in known if judge.sign <= 0]
    if worse:
        text += f"; no better than a coin: {', '.join(worse)}"
    return f"{text}."


def _in_words(judge: JudgeAgreement) -> str:
    return (
        f"it agrees with people in {judge.accuracy:.0%} ({judge.low:.0%} to "
        f"{judge.high:.0%}) of {judge.n} pairs that both decide"
    )


def _auc(leads: Sequence[float]) -> float:
    """Return the area under the curve; each pair counts in both orders."""
    with needs_extra("for statistics"):
        from scipy.stats import rankdata

    n = len(leads)
    ranks = rankdata([*leads, *(-lead for lead in leads)])
    return float(ranks[:n].sum() - n * (n + 1) / 2) / n**2
