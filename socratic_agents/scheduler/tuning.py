"""The scheduler's tunables: every number that its decisions depend on, in one value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import TypeAlias

    _Number: TypeAlias = int | float

__all__ = ("DEFAULT_TUNING", "SchedulerTuning")


def _tunable(
    default: _Number, unit: str, why: str, *, low: _Number = 0, high: _Number = math.inf
) -> Any:
    """Return a field with a default, a unit, the range that makes sense, and why."""
    facts = {"unit": unit, "low": low, "high": high, "why": why}
    return field(default=default, metadata=facts)


@dataclass(frozen=True, kw_only=True)
class SchedulerTuning:
    """What the scheduler's decisions depend on; unit, range and reason are metadata.

    Raises:
        ConfigurationError: If a value is out of its range.
    """

    good_size_factor: float = _tunable(
        1.03,
        "factor",
        "a batch is large enough when an item takes at most so many times its best",
        low=1,
    )
    best_size_factor: float = _tunable(
        1.005,
        "factor",
        "where many wait, batches grow until an item takes at most so many times its "
        "best; smaller differences between two sizes do not count",
        low=1,
    )
    calls_per_size: int = _tunable(
        9, "calls", "the median of the last ones is what a size costs", low=1
    )
    trusted_calls: int = _tunable(
        3,
        "calls",
        "a median is believed after so many, since the first calls may compile",
        low=1,
    )
    extrapolated_share: float = _tunable(
        0.5,
        "share",
        "an item beyond the largest batch seen is taken to cost this share of the "
        "others, or batches would never grow",
        high=1,
    )
    negligible_seconds: float = _tunable(
        1e-3, "s", "where even the largest call is quicker, nothing is planned"
    )
    stored_curves: int = _tunable(
        256, "curves", "what a program remembers of costs is bounded", low=1
    )
    key_slack_seconds: float = _tunable(
        0.25,
        "s",
        "a key may be so far ahead of another of its stage, so that the oldest session "
        "mostly decides",
    )
    batches_before_captions: int = _tunable(
        2,
        "batches",
        "so many full batches of images go before captions, which accumulate; one "
        "where captions dominate",
        low=1,
    )
    dominant_share: float = _tunable(
        0.4,
        "share",
        "captions and scores dominate when they are a larger share of the "
        "device's work",
        high=1,
    )
    unknown_item_seconds: float = _tunable(
        1e-3, "s", "an item of unknown cost counts so much for its user"
    )
    admitted_batches: float = _tunable(
        3,
        "batches",
        "so many full batches of sessions are in flight beside those that think, "
        "so that each batch is full",
        low=1,
    )
    same_key_batches: int = _tunable(
        16,
        "batches",
        "how many with one key in a row, before an idle device waits for "
        "sessions to return with that key",
    )
    return_wait_share: float = _tunable(
        0.02,
        "share",
        "an idle device waits for just-answered sessions for this share of a "
        "good batch of images at most",
        high=1,
    )
    return_wait_pause: int = _tunable(
        16, "batches", "so many begin without a return wait after one in vain"
    )
    group_gain: float = _tunable(
        1.05,
        "factor",
        "an idle device waits for a group if that makes all at least so much faster",
        low=1,
    )
    group_return_share: float = _tunable(
        0.3,
        "share",
        "the next session has to return within this share of what the batch takes",
    )
    group_wait_share: float = _tunable(
        0.5,
        "share",
        "a group wait ends after this share of what the largest batch takes",
    )
    group_wait_failures: int = _tunable(
        3, "waits", "after so many in vain, waiting for groups pauses", low=1
    )
    group_wait_pause: int = _tunable(
        16, "chances", "how many chances to wait for a group are passed up then"
    )
    think_times_kept: int = _tunable(
        64, "think times", "the last ones predict the next", low=1
    )
    sessions_predicted: int = _tunable(
        32,
        "sessions",
        "the return of so many is predicted, those that think longest, so that a "
        "decision stays quick",
        low=1,
    )
    remembered_users: int = _tunable(
        1024,
        "users",
        "shares of the device are remembered for so many, or for all that have "
        "something waiting",
        low=1,
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value, facts = getattr(self, one.name), one.metadata
            if not facts["low"] <= value <= facts["high"]:
                message = (
                    f"expected {one.name} from {facts['low']} to {facts['high']} "
                    f"({facts['unit']}), got {value!r}"
                )
                raise ConfigurationError(message)


DEFAULT_TUNING = SchedulerTuning()
"""What is used where nobody hands in another."""
