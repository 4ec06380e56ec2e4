"""Sign flips: the permutation test of paired differences, and families of tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.core.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("SignFlipTest", "holm", "sign_flip_test")

EXACT = 16
"""Most untied pairs of which all sign flips are tried: 65,536."""

RESAMPLES = 9_999
"""Flips that are drawn where there are more; p then moves by 0.004 at 0.05."""

BATCH = 1_000
"""Flips that are held at once, a sign of 8 bytes for each pair."""


@dataclass(frozen=True, kw_only=True)
class SignFlipTest:
    """What a sign-flip test says of paired differences."""

    p: float | None
    """Two-sided; ``None`` if there are no pairs."""
    exact: bool
    """Whether all flips were tried; otherwise they were drawn."""
    n: int
    untied: int
    """Pairs that differ; the others say nothing."""


def sign_flip_test(
    differences: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> SignFlipTest:
    """Test whether paired differences have the mean 0.

    Were the arms alike, each difference would have had either sign with equal chance.
    So p is the share of all flips of signs whose mean is as far from 0 as the real one;
    of flips that are drawn, (k + 1) / (m + 1), which is never 0.

    Args:
        differences: Ours minus theirs of each pair, finite.
        seed: Of the drawing.
        resamples: How many flips are drawn where there are too many to try all.

    Raises:
        ValueError: If a difference is not finite.

    Source: E. Pitman, "Significance tests which may be applied to samples from any
    populations", 1937; the +1: B. Phipson, G. Smyth, "Permutation P-values should never
    be zero", 2010.
    """
    import numpy as np

    with needs_extra("for tests"):
        from scipy.stats import permutation_test

    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        message = "expected finite differences; exclude what is not with its cause"
        raise ValueError(message)
    untied = values[values != 0]
    n, count = len(values), len(untied)
    exact = count <= EXACT
    if count < 2:  # whichever sign it has, it is as far from 0
        return SignFlipTest(p=1.0 if n else None, exact=True, n=n, untied=count)
    scale = np.abs(untied).sum()
    found = permutation_test(
        (untied,),
        # Rounded, since the order of additions must not decide between equal sums.
        lambda flipped, axis: np.abs(flipped.sum(axis=axis) / scale).round(9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**count if exact else resamples,
        batch=BATCH,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return SignFlipTest(p=float(found.pvalue), exact=exact, n=n, untied=count)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return p values adjusted so that 5 % is the chance of one false find among all.

    Args:
        p_values: Of one family, by name. Where there is none, none comes back, and it
            does not count: nothing was tested.

    Raises:
        ValueError: If a p value is not in [0, 1].

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    known = {name: p for name, p in p_values.items() if p is not None}
    for name, p in known.items():
        if not 0 <= p <= 1:
            message = f"expected p values from 0 to 1, got {p} of {name!r}"
            raise ValueError(message)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    least = 0.0
    for place, name in enumerate(sorted(known, key=lambda name: known[name])):
        least = max(least, min(1.0, (len(known) - place) * known[name]))
        adjusted[name] = least
    return adjusted
