"""Statistics: a mean, a paired difference, and how sure one can be of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from socratic_agents.core.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = (
    "Difference",
    "Interval",
    "mean_interval",
    "paired_difference",
    "paired_values",
    "power_warning",
)

RESAMPLES = 9_999
"""Of a bootstrap; chance then moves an end by about 1 % of the half width."""

FEWEST_UNTIED = 6
"""Pairs that must differ before a sign is believed.

Were there no difference, five would all fall on one side in one of 16 cases, and six
in one of 32, so fewer than six never are evidence at the 5 % level.
"""

FEWEST_PAIRS = 20
"""Pairs; with fewer, a bootstrap interval comes out too narrow."""

SMALL = 0.05
"""A mean difference that one would not want to miss, in units of the metric."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float | None
    """``None`` if there are no values."""
    low: float | None
    """``None`` if there are fewer than two values, or they do not vary."""
    high: float | None
    n: int
    """How many values there are."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much one arm is above another on the same prompts."""

    mean: float | None
    """Mean of ours minus theirs; ``None`` if there are no pairs."""
    low: float | None
    """Ends of the mean's 95 % interval; ``None`` if fewer than six pairs are untied,
    or all differ by as much."""
    high: float | None
    win: int
    """Pairs in which ours is above theirs by more than the margin."""
    tie: int
    loss: int
    n: int
    """How many pairs there are: ``win + tie + loss``."""

    @property
    def sign(self) -> int:
        """1 if it is above 0, -1 if it is below, 0 if one cannot tell."""
        if self.win + self.loss < FEWEST_UNTIED:
            return 0
        if self.low is None or self.high is None:  # all pairs differ by as much
            return int(not self.loss) - int(not self.win)
        return int(self.low > 0) - int(self.high < 0)


def mean_interval(
    values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of values with its 95 % bootstrap interval.

    The interval is bias-corrected and accelerated (BCa), so that it may be lopsided
    where the values are, as shares between 0 and 1 often are. Of values that do not
    vary at all there is none: an interval without width would show a certainty that
    nobody has.

    Args:
        values: What was measured, finite.
        seed: Of the resampling; the same seed gives the same interval.
        resamples: 1 or more.

    Raises:
        ValueError: If a value is not finite.

    Source: Efron, "Better bootstrap confidence intervals", Journal of the American
    Statistical Association 82 (1987), pages 171-185.
    """
    for value in values:
        if not math.isfinite(value):
            message = f"expected finite values, got {value}; exclude it with its cause"
            raise ValueError(message)
    if len(values) < 2:
        mean = float(values[0]) if values else None
        return Interval(mean=mean, low=None, high=None, n=len(values))
    if _equal(values):
        # Nothing varied so far: that says nothing of how much the next ones will.
        return Interval(mean=float(values[0]), low=None, high=None, n=len(values))
    low, high = _bca(values, seed, resamples)
    return Interval(mean=fmean(values), low=low, high=high, n=len(values))


def paired_values(
    ours: Mapping[int, float | None], theirs: Mapping[int, float | None]
) -> tuple[tuple[float, float], ...]:
    """Return what both measured, in the order of the prompts.

    Args:
        ours: Prompt's index to value; ``None`` where it was excluded.
        theirs: The same of the other arm. A prompt without both values is left out.
    """
    pairs = ((ours[index], theirs.get(index)) for index in sorted(ours))
    return tuple((a, b) for a, b in pairs if a is not None and b is not None)


def paired_difference(
    ours: Mapping[int, float | None],
    theirs: Mapping[int, float | None],
    *,
    seed: int = 0,
    margin: float = 1e-9,
    resamples: int = RESAMPLES,
) -> Difference:
    """Return how much ours is above theirs, prompt by prompt.

    Args:
        ours: Prompt's index to value; ``None`` where it was excluded.
        theirs: The same of the other arm. A prompt without both values is left out.
        seed: Of the resampling.
        margin: In units of the metric; values as close as this are a tie.
        resamples: 1 or more.

    Raises:
        ValueError: If a value is not finite.
    """
    differences = [a - b for a, b in paired_values(ours, theirs)]
    interval = mean_interval(differences, seed=seed, resamples=resamples)
    win = sum(difference > margin for difference in differences)
    loss = sum(difference < -margin for difference in differences)
    # Of a few pairs that differ among many ties, resampling finds the ties.
    known = win + loss >= FEWEST_UNTIED
    return Difference(
        mean=interval.mean,
        low=interval.low if known else None,
        high=interval.high if known else None,
        win=win,
        tie=interval.n - win - loss,
        loss=loss,
        n=interval.n,
    )


def power_warning(differences: Sequence[float]) -> str | None:
    """Say in a sentence that there are too few pairs, if there are.

    With ``n`` pairs a test at the 5 % level shows a true mean difference of
    ``(1.96 + 0.84) * sd / sqrt(n)`` in 80 % of all cases.

    Args:
        differences: Ours minus theirs, of each pair.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd
    edition (1988), chapter 2.
    """
    n = len(differences)
    if n < FEWEST_PAIRS:
        pairs = "1 pair is" if n == 1 else f"{n} pairs are"
        return f"{pairs} too few for a conclusion; run at least {FEWEST_PAIRS}."
    spread = 2.8 * stdev(differences)
    smallest = spread / math.sqrt(n)
    if smallest <= SMALL:
        return None
    return (
        f"{n} pairs show a mean difference with 80 % power only from {smallest:.3f} "
        f"upward; to show one of {SMALL}, run about {math.ceil((spread / SMALL) ** 2)}."
    )


def _equal(values: Sequence[float]) -> bool:
    """Whether values differ by no more than rounding."""
    return math.isclose(min(values), max(values), rel_tol=1e-12, abs_tol=1e-12)


def _bca(values: Sequence[float], seed: int, resamples: int) -> tuple[float, float]:
    import numpy as np

    with needs_extra("for intervals"):
        from scipy.stats import bootstrap

    interval = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=resamples,
        method="BCa",
        # Ten thousand prompts at once would fill the memory.
        batch=1_000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
