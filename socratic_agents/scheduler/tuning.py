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
    default: _Number, unit: str, *, low: _Number = 0, high: _Number = math.inf
) -> Any:
    """Return a field with a default, a unit, and the range that makes sense."""
    return field(default=default, metadata={"unit": unit, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class SchedulerTuning:
    """What the scheduler's decisions depend on; units and ranges are metadata.

    Raises:
        ConfigurationError: If a value is out of its range.
    """

    good_size_factor: float = _tunable(1.03, "factor", low=1)
    """A batch is large enough when an item takes at most so many times its best."""
    best_size_factor: float = _tunable(1.005, "factor", low=1)
    """Where many wait, batches grow until an item takes at most so many times its best;
    smaller differences between two sizes do not count."""
    calls_per_size: int = _tunable(9, "calls", low=1)
    """The median of the last ones is what a size costs."""
    trusted_calls: int = _tunable(3, "calls", low=1)
    """A median is believed after so many, since the first calls may compile."""
    extrapolated_share: float = _tunable(0.5, "share", high=1)
    """An item beyond the largest batch seen is taken to cost this share of the others,
    or batches would never grow."""
    negligible_seconds: float = _tunable(1e-3, "s")
    """Where even the largest call is quicker, nothing is planned."""
    stored_curves: int = _tunable(256, "curves", low=1)
    """What a program remembers of costs is bounded."""
    key_slack_seconds: float = _tunable(0.25, "s")
    """A key may be so far ahead of another of its stage, so that the oldest session
    mostly decides."""
    batches_before_captions: int = _tunable(2, "batches", low=1)
    """So many full batches of images go before captions, which accumulate; one where
    captions dominate."""
    dominant_share: float = _tunable(0.4, "share", high=1)
    """Captions and scores dominate when they are a larger share of the device's
    work."""
    unknown_item_seconds: float = _tunable(1e-3, "s")
    """An item of unknown cost counts so much for its user."""
    admitted_batches: float = _tunable(3, "batches", low=1)
    """So many full batches of sessions are in flight beside those that think, so that
    each batch is full."""
    same_key_batches: int = _tunable(16, "batches")
    """How many with one key in a row, before an idle device waits for sessions to
    return with that key."""
    return_wait_share: float = _tunable(0.02, "share", high=1)
    """An idle device waits for just-answered sessions for this share of a good batch of
    images at most."""
    return_wait_pause: int = _tunable(16, "batches")
    """So many begin without a return wait after one in vain."""
    group_gain: float = _tunable(1.05, "factor", low=1)
    """An idle device waits for a group if that makes all at least so much faster."""
    group_return_share: float = _tunable(0.3, "share")
    """The next session has to return within this share of what the batch takes."""
    group_wait_share: float = _tunable(0.5, "share")
    """A group wait ends after this share of what the largest batch takes."""
    group_wait_failures: int = _tunable(3, "waits", low=1)
    """After so many in vain, waiting for groups pauses."""
    group_wait_pause: int = _tunable(16, "chances")
    """How many chances to wait for a group are passed up then."""
    swap_patience: float = _tunable(20, "factor")
    """A batch whose model is not on the device is passed over while there is other work,
    for so many times what bringing it takes: swaps cost a twentieth of the time at
    most, and nobody waits for ever."""
    swap_wait_share: float = _tunable(0.1, "share", high=1)
    """Before models are swapped, a device waits for just-answered sessions for this share
    of what that takes at most."""
    swap_rate: float = _tunable(5, "GB/s", low=1e-3)
    """So fast a model is taken to be brought before that was measured."""
    think_times_kept: int = _tunable(64, "think times", low=1)
    """The last ones predict the next."""
    sessions_predicted: int = _tunable(32, "sessions", low=1)
    """The return of so many is predicted, those that think longest, so that a decision
    stays quick."""
    remembered_users: int = _tunable(1024, "users", low=1)
    """Shares of the device are remembered for so many, or for all that have something
    waiting."""

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
