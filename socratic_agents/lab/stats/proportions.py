"""Proportions: how many of some cases it is, how sure one can be, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass

from socratic_agents.core.extras import needs_extra

__all__ = ("Proportion", "proportion")


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """How many of some cases it is, with the share's 95 % interval by Wilson."""

    count: int
    n: int
    share: float | None
    """``None`` if there are no cases."""
    low: float | None
    high: float | None
    excluded: int = 0
    """Cases of which nobody can say it."""


def proportion(count: int, n: int, *, excluded: int = 0) -> Proportion:
    """Return a proportion with its interval.

    Args:
        count: 0 to ``n``.
        n: Cases that it is known of, independent of each other.
        excluded: Cases that it is not known of; they are in no proportion.

    Source: Wilson, "Probable inference, the law of succession, and statistical
    inference", Journal of the American Statistical Association 22 (1927), 209-212.
    """
    with needs_extra("for intervals"):
        from scipy.stats import binomtest

    share = low = high = None
    if n:
        interval = binomtest(count, n).proportion_ci(method="wilson")
        share, low, high = count / n, float(interval.low), float(interval.high)
    return Proportion(
        count=count, n=n, share=share, low=low, high=high, excluded=excluded
    )
