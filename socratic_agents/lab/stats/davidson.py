"""Davidson's model: strengths of arms that are compared two at a time, ties included.

Source: Davidson, "On extending the Bradley-Terry model to accommodate ties in paired
comparison experiments", Journal of the American Statistical Association 65 (1970),
pages 317-328.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

__all__ = ("fit_davidson",)

PRIOR = 0.5
"""Votes that each arm is given against each other one, so that an arm that never lost
is strong but not infinitely so; it shrinks a strength by less than the interval."""

STEPS, LONGEST, NEAR = 200, 2.0, 1e-10
"""Of Newton's method: at most so many, none longer than this, until one is as short."""


def fit_davidson(counts: Any, size: int, *, seen: Any, prior: float = PRIOR) -> Any:
    """Return the most likely strengths and tie parameters of many data sets at once.

    Of two arms with strengths ``a`` and ``b``, the chances that the first wins, that
    the second does, and of a tie are as ``exp(a)`` to ``exp(b)`` to
    ``tie * exp((a + b) / 2)``. Without ties this is Bradley and Terry's model.

    Args:
        counts: ``(sets, pairs, 3)``: first wins, second wins, ties.
        size: Number of arms.
        seen: ``(pairs, 3)``; those that met at all get the prior.
        prior: Wins for both sides, 0 or more.

    Raises:
        ValueError: If without a prior no strengths are the most likely: some arms never
            lost to the others, so that the stronger they are said to be, the likelier.

    The likelihood is that of a log-linear model, so it has one top, and Newton's
    method climbs it. Where nobody said tie, its parameter is 0 and stays out. What
    did not arrive is not a number.

    Source of when there is a top: Ford, "Solution of a ranking problem from binary
    comparisons", The American Mathematical Monthly 64 (1957), pages 28-33.
    """
    import numpy as np

    sides = np.zeros((counts.shape[1], size))
    for row, (i, j) in enumerate(combinations(range(size), 2)):
        sides[row, i], sides[row, j] = 0.5, -0.5
    if not prior and not _each_lost_to_each(counts, size):
        message = (
            "expected every arm to have lost to each other one, if only by way of "
            "others, got arms that never did; give a prior above 0"
        )
        raise ValueError(message)
    free = sides[:, 1:]  # the first arm's strength is 0 until the mean is taken off
    won = counts[..., 0] + prior * (seen.sum(axis=1) > 0)
    lost = counts[..., 1] + prior * (seen.sum(axis=1) > 0)
    tied = counts[..., 2]
    met = won + lost + tied
    some = tied.sum(axis=1) > 0
    at = np.zeros((len(counts), size))  # the free strengths, then the log of tie
    arrived = np.zeros(len(counts), dtype=bool)
    for _ in range(STEPS):
        x = at[:, :-1] @ free.T
        tie = np.where(some, np.exp(at[:, -1]), 0.0)[:, None]
        both = np.exp(x) + np.exp(-x) + tie
        lead, even = (np.exp(x) - np.exp(-x)) / both, tie / both
        slope = np.empty_like(at)
        slope[:, :-1] = (won - lost - met * lead) @ free
        slope[:, -1] = (tied - met * even).sum(axis=1)
        bend = np.empty((len(at), size, size))
        weight = met * (1 - even - lead**2)
        bend[:, :-1, :-1] = np.einsum("sp,pi,pj->sij", weight, free, free)
        bend[:, :-1, -1] = bend[:, -1, :-1] = -(met * lead * even) @ free
        bend[:, -1, -1] = (met * even * (1 - even)).sum(axis=1) + ~some
        # A plain that is flat in some direction must not stop all the others.
        bend += 1e-12 * np.eye(size)
        step = np.linalg.solve(bend, slope[..., None])[..., 0].clip(-LONGEST, LONGEST)
        at += step
        arrived = np.abs(step).max(axis=1) < NEAR
        if arrived.all():
            break
    values = np.concatenate([np.zeros((len(at), 1)), at[:, :-1]], axis=1)
    values -= values.mean(axis=1, keepdims=True)
    values[~arrived] = np.nan
    return values, np.where(some, np.exp(at[:, -1]), 0.0)


def _each_lost_to_each(counts: Any, size: int) -> bool:
    """Whether losses and ties lead from every arm to every other one, in all sets."""
    import numpy as np

    lost = np.tile(np.eye(size, dtype=bool), (len(counts), 1, 1))
    for row, (i, j) in enumerate(combinations(range(size), 2)):
        first, second, tied = counts[:, row].T > 0
        lost[:, j, i], lost[:, i, j] = first | tied, second | tied
    for _ in range(size.bit_length()):
        lost = lost @ lost
    return bool(lost.all())
