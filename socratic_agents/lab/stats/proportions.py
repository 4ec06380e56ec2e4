"""Shares: how many of some cases it is, how sure one can be, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass

from socratic_agents.lab.stats.preference import wilson_interval

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
    """Return a share with its interval.

    Args:
        count: 0 to ``n``.
        n: Cases that it is known of.
        excluded: Cases that it is not known of; they are in no share.
    """
    if not n:
        return Proportion(
            count=0, n=0, share=None, low=None, high=None, excluded=excluded
        )
    low, high = wilson_interval(count, n)
    return Proportion(
        count=count, n=n, share=count / n, low=low, high=high, excluded=excluded
    )
