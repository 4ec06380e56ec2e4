"""A table of a study, in long form: a row says of what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.lab.stats.proportions import Proportion
    from socratic_agents.lab.study.aggregate import ArmValues, StudyValues

__all__ = ("StudyTable", "each_arm", "ends_of", "proportion_cells")

RANGE = ("low", "high")
"""What stands after the name of a column that has an interval."""


@dataclass(frozen=True, kw_only=True)
class StudyTable:
    """A table: its columns by name, its cells as they were measured."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return each row as an object."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def each_arm(
    values: StudyValues, row: Callable[[str, str, Sequence[int], ArmValues], list[Any]]
) -> tuple[tuple[Any, ...], ...]:
    """Return the rows of every metric, set and arm."""
    return tuple(
        (metric, name, arm.name, *cells)
        for metric in values.metrics
        for name, places in values.sets.items()
        for arm in values.arms.values()
        for cells in row(metric, name, places, arm)
    )


def ends_of(name: str) -> tuple[str, ...]:
    """Return the names of the columns with the ends of an interval."""
    return tuple(f"{name} {end}" for end in RANGE)


def proportion_cells(share: Proportion) -> tuple[Any, ...]:
    """Return count, number of cases, share and its interval."""
    return share.count, share.n, share.share, share.low, share.high
