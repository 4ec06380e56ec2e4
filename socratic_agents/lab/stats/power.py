"""Power: how many pairs show an effect, and which effect these pairs can show."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ("pairs_needed", "smallest_effect")

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
