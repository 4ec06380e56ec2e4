"""Power: how many pairs show an effect, and which effect these pairs can show."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from socratic_agents.lab.stats.permutation import sign_flip_test
from socratic_agents.lab.stats.proportions import Proportion, proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("pairs_needed", "power_of", "simulated_power", "smallest_effect")

ALPHA = 0.05
"""How often a two-sided test may see what is not there."""


def pairs_needed(
    effect: float, spread: float, *, power: float = 0.8, alpha: float = ALPHA
) -> int:
    """Return how many pairs show a true mean difference, by the normal approximation.

    ``((z(1 - alpha / 2) + z(power)) * spread / effect)² + z(1 - alpha / 2)² / 2``; the
    last term makes good that the spread is not known but estimated.

    Args:
        effect: The difference, in units of the metric, not 0.
        spread: Standard deviation of the pairs' differences, above 0.
        power: Share of the studies that shall show it, in (0.5, 1).
        alpha: Of the two-sided test, in (0, 1).

    Raises:
        ValueError: If the effect is 0 or the spread not above it.

    Source: W. Guenther, "Sample size formulas for normal theory t tests", The American
    Statistician 35 (1981), pages 243-244.
    """
    if not effect or spread <= 0:
        message = (
            f"expected an effect that is not 0 and a spread above 0, got {effect} "
            f"and {spread}"
        )
        raise ValueError(message)
    z = NormalDist().inv_cdf(1 - alpha / 2)
    reach = z + NormalDist().inv_cdf(power)
    return math.ceil((reach * spread / effect) ** 2 + z * z / 2)


def power_of(effect: float, spread: float, n: int, *, alpha: float = ALPHA) -> float:
    """Return the share of studies that show a true difference, by approximation.

    The inverse of ``pairs_needed``.

    Args:
        effect: The true mean difference, in units of the metric.
        spread: Standard deviation of the pairs' differences, above 0.
        n: Pairs.
        alpha: Of the two-sided test, in (0, 1).
    """
    z = NormalDist().inv_cdf(1 - alpha / 2)
    pairs = max(0.0, n - z * z / 2)
    moved = abs(effect) / spread * math.sqrt(pairs)
    normal = NormalDist()
    return normal.cdf(moved - z) + normal.cdf(-moved - z)


def smallest_effect(
    spread: float, n: int, *, power: float = 0.8, alpha: float = ALPHA
) -> float | None:
    """Return the mean difference that n pairs show with this power, by approximation.

    It is said instead of the power "at the effect that was found", which would be
    nothing but p in other words.

    Args:
        spread: Standard deviation of the pairs' differences, 0 or more.
        n: Pairs; too few for any power give ``None``.
        power: Share of the studies that shall show it, in (0.5, 1).
        alpha: Of the two-sided test, in (0, 1).

    Source: J. Hoenig, D. Heisey, "The abuse of power", The American Statistician 55
    (2001), pages 19-24, for what not to say.
    """
    z = NormalDist().inv_cdf(1 - alpha / 2)
    pairs = n - z * z / 2
    if pairs <= 0:
        return None
    return (z + NormalDist().inv_cdf(power)) * spread / math.sqrt(pairs)


def simulated_power(
    differences: Sequence[float],
    effect: float,
    n: int,
    *,
    seed: int = 0,
    runs: int = 400,
    resamples: int = 499,
) -> Proportion:
    """Return how often the sign-flip test shows an effect, by simulation.

    Studies of ``n`` pairs are drawn from differences that were really measured, moved
    so that their mean is the effect: their skew and their steps stay.

    Args:
        differences: Of a pilot study, at least 2.
        effect: The true mean difference, in units of the metric.
        n: Pairs of one study, 1 or more.
        seed: Of the drawing.
        runs: Studies that are drawn, 1 or more.
        resamples: Of each test.

    Raises:
        ValueError: If there are fewer than two differences.
    """
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        message = f"expected at least 2 differences, got {len(values)}; run a pilot"
        raise ValueError(message)
    rng = np.random.default_rng(seed)
    moved = values - values.mean() + effect
    shown = 0
    for run in range(runs):
        drawn = rng.choice(moved, n)
        p = sign_flip_test(drawn.tolist(), seed=run, resamples=resamples).p
        shown += int(p is not None and p < ALPHA)
    return proportion(shown, runs)
