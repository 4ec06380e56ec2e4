"""Agreement: how far people say the same, beyond what chance would bring about."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ("exact_agreement", "krippendorff_alpha")


def _nominal(one: float, other: float) -> float:
    return float(one != other)


def _interval(one: float, other: float) -> float:
    return (one - other) ** 2


DISTANCES: dict[str, Callable[[float, float], float]] = {
    "nominal": _nominal,
    "interval": _interval,
}
"""Level of measurement to how far two values are apart."""


def krippendorff_alpha(
    units: Iterable[Sequence[float]], *, level: str = "interval"
) -> float | None:
    """Return Krippendorff's alpha: 1 is perfect agreement, 0 is chance.

    Any number of people may have judged a unit, and any of them may be missing.

    Args:
        units: The values that each unit was given; one with fewer than two is left out.
        level: ``nominal`` (values differ or not) or ``interval`` (squared distance).

    Returns ``None`` if no unit has two values, or all values are the same, so that
    there is nothing to agree about.

    Source: Krippendorff, "Computing Krippendorff's alpha-reliability" (2011).
    """
    distance = DISTANCES[level]
    judged = [Counter(unit) for unit in units if len(unit) > 1]
    values = Counter[float]()
    for unit in judged:
        values.update(unit)
    n = values.total()
    expected = _disagreement(values, distance) / (n - 1) if n else 0.0
    if expected == 0:
        return None
    seen = sum(_disagreement(unit, distance) / (unit.total() - 1) for unit in judged)
    return 1 - seen / expected


def exact_agreement(units: Iterable[Sequence[float]]) -> float | None:
    """Return the share of pairs of people who said the very same of a unit."""
    same = pairs = 0
    for unit in units:
        counted, n = Counter(unit), len(unit)
        same += sum(times * (times - 1) for times in counted.values())
        pairs += n * (n - 1)
    return same / pairs if pairs else None


def _disagreement(
    values: Counter[float], distance: Callable[[float, float], float]
) -> float:
    """Return the distances of all ordered pairs of values, added up."""
    return sum(
        times * others * distance(value, other)
        for value, times in values.items()
        for other, others in values.items()
    )
