"""Scores: the values of a metric for many images, and which have none."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.stats.bootstrap import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from socratic_agents.core.history import Candidate, History
    from socratic_agents.lab.datasets.types import PromptRow

__all__ = ("Scores", "Subject", "Summary", "Value", "same_record", "summarise")

SCHEMA = 1
"""Version of the JSON form."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One image to be measured, with all that a metric may need to know of it."""

    user_prompt: str
    """What it is compared with; never the rewrite that it was drawn from."""
    candidate: Candidate
    row: PromptRow | None = None
    """The prompt set's row, with its questions and its reference image."""
    history: History | None = None
    """The refinement that it is of, for what is measured between its rounds."""

    @property
    def image(self) -> Any:
        """The candidate's image, for those who know that there is one."""
        return self.candidate.image


@dataclass(frozen=True, kw_only=True)
class Value:
    """What was measured of one subject, or why nothing was."""

    value: float | None
    reason: str | None = None
    """Why there is no value; ``None`` exactly if there is one."""
    note: str | None = None
    """What weakens the value, such as a text that was cut."""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.reason is not None) or (
            self.value is not None and not math.isfinite(self.value)
        ):
            message = (
                f"expected either a finite value or why there is none, got "
                f"{self.value!r} and {self.reason!r}"
            )
            raise ValueError(message)

    @classmethod
    def missing(cls, reason: str) -> Value:
        """Return that nothing could be measured."""
        return cls(value=None, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The values of one metric, in the order of their subjects."""

    metric: str
    record: Mapping[str, Any]
    """What the values depend on: model, weights, prefix and the like."""
    higher_is_better: bool | None
    """``None``: neither more nor less of it is good in itself."""
    values: tuple[Value, ...]
    bounds: tuple[float, float] | None = None
    """Least and greatest value that there can be; ``None``: not known."""

    @property
    def known(self) -> tuple[float, ...]:
        """The values that there are."""
        return tuple(v.value for v in self.values if v.value is not None)

    @property
    def excluded(self) -> int:
        """How many subjects have no value."""
        return len(self.values) - len(self.known)

    @property
    def causes(self) -> dict[str, int]:
        """Why subjects have no value, the most frequent first, to how many."""
        return _counted(v.reason for v in self.values)

    @property
    def notes(self) -> dict[str, int]:
        """What weakens values, the most frequent first, to how many."""
        return _counted(v.note for v in self.values)

    def take(self, places: Iterable[int]) -> Scores:
        """Return the scores of the subjects at these places, in this order."""
        return replace(self, values=tuple(self.values[place] for place in places))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; a value keeps its record."""
        return {
            "schema": SCHEMA,
            "metric": self.metric,
            "record": dict(self.record),
            "higher_is_better": self.higher_is_better,
            **({"bounds": list(self.bounds)} if self.bounds else {}),
            "values": [v.value for v in self.values],
            "reasons": {
                str(i): v.reason for i, v in enumerate(self.values) if v.reason
            },
            "notes": {str(i): v.note for i, v in enumerate(self.values) if v.note},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        """Read the JSON form, ours or that of a metric that ran elsewhere.

        Raises:
            ConfigurationError: If it is none.
        """
        try:
            reasons, notes = data.get("reasons", {}), data.get("notes", {})
            bounds = data.get("bounds")
            least, most = (0.0, 1.0) if bounds is None else map(float, bounds)
            return cls(
                metric=str(data["metric"]),
                record=dict(data["record"]),
                higher_is_better=data["higher_is_better"],
                values=tuple(
                    Value(
                        value=None if value is None else float(value),
                        reason=reasons.get(str(place)),
                        note=notes.get(str(place)),
                    )
                    for place, value in enumerate(data["values"])
                ),
                bounds=None if bounds is None else (least, most),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            message = (
                "expected scores with metric, record, higher_is_better, values, and a "
                f"reason for each null, got {type(problem).__name__}: {problem}; see "
                "docs/metrics.md"
            )
            raise ConfigurationError(message) from problem


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The mean of one metric's values, and what was left out of it."""

    mean: float | None
    """``None`` if there are no values."""
    low: float | None
    """Ends of the mean's 95 % interval; ``None``: there is none."""
    high: float | None
    n: int
    excluded: int
    """How many subjects have no value and are in no mean."""
    causes: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)


def summarise(scores: Scores, *, seed: int = 0) -> Summary:
    """Return the mean of scores with its 95 % interval.

    Args:
        scores: Of one metric.
        seed: Of the resampling.
    """
    interval = mean_interval(scores.known, bounds=scores.bounds, seed=seed)
    return Summary(
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        excluded=scores.excluded,
        causes=scores.causes,
        notes=scores.notes,
    )


def same_record(several: Sequence[Scores]) -> None:
    """Check that scores may be set beside each other.

    Args:
        several: Scores, of the same metric as is hoped.

    Raises:
        ConfigurationError: If metric or record differ: their numbers have different
            scales, even where the names are the same.
    """
    for other in several[1:]:
        first = several[0]
        if other.metric != first.metric:
            message = (
                f"expected scores of one metric, got {first.metric!r} and "
                f"{other.metric!r}; measure both sides with the same one"
            )
            raise ConfigurationError(message)
        ours, theirs = dict(first.record), dict(other.record)
        differ = sorted(
            name
            for name in {*ours, *theirs}
            if _plain(ours.get(name)) != _plain(theirs.get(name))
        )
        if differ:
            both = ", ".join(
                f"{name} {ours.get(name)!r} and {theirs.get(name)!r}" for name in differ
            )
            message = (
                f"expected scores of {first.metric} with one record, got {both}; "
                "measure both sides with the same model and settings"
            )
            raise ConfigurationError(message)


def _plain(value: Any) -> str:
    """Return a value as JSON writes it: a list read back equals the tuple it was."""
    return json.dumps(value, sort_keys=True)


def _counted(texts: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(text for text in texts if text is not None).most_common())
