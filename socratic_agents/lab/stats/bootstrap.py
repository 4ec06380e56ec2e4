"""Statistics: a mean, a paired difference, and how sure one can be of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
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
"""Pairs that must differ before a sign is believed, and values that must differ from
the most frequent one before they are resampled.

Were there no difference, five would all fall on one side in one of 16 cases, and six
in one of 32, so fewer than six never are evidence at the 5 % level. And resampling a
few values among many equal ones finds the equal ones, and looks sure.
"""

FEWEST_AT_BOUNDS = 10
"""Values that must differ from the most frequent one before they are resampled where
there is a better way, since bounds are known. Simulated, with six of them intervals hold
the truth as often as they should, but only just."""

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
    """Ends of the interval; ``None``: there is none."""
    high: float | None
    n: int
    """How many values there are."""
    why: str | None = field(default=None, compare=False)
    """Why there is no interval; ``None`` exactly if there is one."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much one arm is above another on the same prompts."""

    mean: float | None
    """Mean of ours minus theirs; ``None`` if there are no pairs."""
    low: float | None
    """Ends of the mean's 95 % interval; ``None`` if fewer than six pairs are untied,
    or all but a few differ by as much."""
    high: float | None
    win: int
    """Pairs in which ours is above theirs by more than the margin."""
    tie: int
    loss: int
    n: int
    """How many pairs there are: ``win + tie + loss``."""
    why: str | None = field(default=None, compare=False)
    """Why there is no interval; ``None`` exactly if there is one."""

    @property
    def sign(self) -> int:
        """1 if it is above 0, -1 if it is below, 0 if one cannot tell."""
        if self.win + self.loss < FEWEST_UNTIED:
            return 0
        if self.low is None or self.high is None:  # nearly all differ by as much
            return int(not self.loss) - int(not self.win)
        return int(self.low > 0) - int(self.high < 0)


def mean_interval(
    values: Sequence[float],
    *,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of values with its 95 % interval.

    It is the bias-corrected and accelerated bootstrap (BCa), so that it may be lopsided
    where the values are, as shares between 0 and 1 often are. Where fewer than six
    values differ from the most frequent one, resampling would show a certainty that
    nobody has, and there is no interval. Where bounds are known and fewer than ten
    differ, it is Gaffke's interval, which takes the next value to be the
    worst that the bounds allow (of zeros and ones it is Clopper and Pearson's).

    Args:
        values: What was measured, finite.
        bounds: Least and greatest value that there can be; ``None``: not known.
        seed: Of the resampling; the same seed gives the same interval.
        resamples: 1 or more.

    Raises:
        ValueError: If a value is not finite.

    Sources: Efron, "Better bootstrap confidence intervals", Journal of the American
    Statistical Association 82 (1987), pages 171-185; Gaffke, "Three test statistics for
    a nonparametric one-sided hypothesis on the mean of a nonnegative variable",
    Mathematical Methods of Statistics 14 (2005), pages 451-467.
    """
    for value in values:
        if not math.isfinite(value):
            message = f"expected finite values, got {value}; exclude it with its cause"
            raise ValueError(message)
    n = len(values)
    if n < 2:
        mean = float(values[0]) if values else None
        why = f"{'1 value is' if values else 'no value is'} too few"
        return Interval(mean=mean, low=None, high=None, n=n, why=why)
    counts = Counter(float(f"{value:.12g}") for value in values)
    differ = n - max(counts.values())
    if differ >= (FEWEST_UNTIED if bounds is None else FEWEST_AT_BOUNDS):
        low, high = _bca(values, seed, resamples)
    elif bounds is not None:
        low, high = _gaffke(counts, bounds, seed, resamples)
    else:
        why = f"{differ} of {n} values differ from the most frequent one"
        why += f", and at least {FEWEST_UNTIED} must"
        return Interval(mean=fmean(values), low=None, high=None, n=n, why=why)
    return Interval(mean=fmean(values), low=low, high=high, n=n)


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
    known, why = win + loss >= FEWEST_UNTIED, interval.why
    if not known and interval.n:
        why = f"{win + loss} of {interval.n} pairs differ"
        why += f", and at least {FEWEST_UNTIED} must"
    return Difference(
        mean=interval.mean,
        low=interval.low if known else None,
        high=interval.high if known else None,
        win=win,
        tie=interval.n - win - loss,
        loss=loss,
        n=interval.n,
        why=why,
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


def _gaffke(
    counts: Mapping[float, int],
    bounds: tuple[float, float],
    seed: int,
    resamples: int,
) -> tuple[float, float]:
    """Return quantiles of means under random weights, with each bound as one value."""
    import numpy as np

    values = np.array([*counts])
    random = np.random.default_rng(seed)
    # The weights of equal values, added up.
    weights = random.standard_gamma([*counts.values()], size=(resamples, len(counts)))
    extra = random.standard_exponential(resamples)
    total = weights.sum(axis=1) + extra
    least, most = min(bounds[0], values.min()), max(bounds[1], values.max())
    low = (weights @ values + extra * least) / total
    high = (weights @ values + extra * most) / total
    return float(np.quantile(low, 0.025)), float(np.quantile(high, 0.975))
