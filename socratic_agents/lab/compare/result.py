"""A comparison: what several arms reached on the same prompts, and what it says."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.stats.bootstrap import mean_interval, paired_difference
from socratic_agents.lab.stats.proportions import proportion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from socratic_agents.lab.stats.bootstrap import Difference, Interval
    from socratic_agents.lab.stats.proportions import Proportion

__all__ = ("SCHEMA", "ArmResult", "Comparison", "Step", "Trial", "trials_jsonl")

SCHEMA = 1
"""Version of the JSON form."""

PREDECESSORS = ("classic_last", "classic_caption")
"""Arms of the predecessor, whose images became worse than its first one."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One image of a trial, in the order in which they were drawn."""

    round: int
    """Counted from 0."""
    reported: float | None
    """Its value on the reported metric; ``None`` if it has none."""
    returned: float | None
    """Value of what the arm would return after this image; ``None`` if unknown."""

    def __post_init__(self) -> None:
        _check(self.reported)
        _check(self.returned)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One arm on one prompt."""

    index: int
    """The prompt's place, the same in every arm."""
    user_prompt: str
    reported: float | None
    """The returned image's value on the reported metric."""
    excluded: str | None = None
    """Why there is no value; ``None`` exactly if there is one."""
    images: int = 0
    llm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    stop: str = ""
    """Why it ended."""
    selection: Mapping[str, float] = field(default_factory=dict)
    """The returned image's scores, by which the arm itself selects."""
    first_selection: Mapping[str, float] = field(default_factory=dict)
    """The same scores of the first image."""
    image: str | None = None
    """Where the returned image is kept; ``None`` if it is not."""
    below_first: bool = False
    """Whether the arm, by its own scores, returned less than its first image."""
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        _check(self.reported)
        if (self.reported is None) != (self.excluded is not None):
            message = (
                f"expected either a value or why there is none, got "
                f"{self.reported!r} and {self.excluded!r}"
            )
            raise ValueError(message)

    @property
    def first(self) -> float | None:
        """The first image's value on the reported metric, if it has one."""
        return self.steps[0].reported if self.steps else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, every number as it was measured."""
        return vars(self) | {
            "seconds": _finite(self.seconds),
            "selection": {k: _finite(v) for k, v in self.selection.items()},
            "first_selection": {k: _finite(v) for k, v in self.first_selection.items()},
            "steps": [dict(vars(step)) for step in self.steps],
        }


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One policy on all prompts."""

    name: str
    trials: tuple[Trial, ...]

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The trials that have a value; all means are of these."""
        return tuple(trial for trial in self.trials if trial.reported is not None)

    @property
    def reported(self) -> tuple[float, ...]:
        """The values of these trials."""
        return tuple(t.reported for t in self.trials if t.reported is not None)

    @property
    def values(self) -> dict[int, float | None]:
        """Prompt's index to the returned image's value."""
        return {trial.index: trial.reported for trial in self.trials}

    @property
    def firsts(self) -> dict[int, float | None]:
        """Prompt's index to the first image's value."""
        return {trial.index: trial.first for trial in self.trials}

    @property
    def causes(self) -> dict[str, int]:
        """Why trials are left out, the most frequent first, to how many."""
        counted = Counter(t.excluded for t in self.trials if t.excluded is not None)
        return dict(counted.most_common())

    @property
    def whole(self) -> Proportion:
        """How many values are 1: prompts that were met in full."""
        met = sum(math.isclose(value, 1.0) for value in self.reported)
        return proportion(met, len(self.reported))

    @property
    def below_first(self) -> int:
        """Trials that returned less than their first image, by the arm's scores."""
        return sum(trial.below_first for trial in self.trials)

    def anytime(self, images: int) -> tuple[float | None, ...]:
        """Return the mean value of what would be returned after 1 to ``images``.

        A trial that stopped earlier keeps its last value.
        """
        stepped = [trial.steps for trial in self.measured if trial.steps]
        return tuple(
            _mean(steps[min(spent, len(steps) - 1)].returned for steps in stepped)
            for spent in range(images)
        )

    def by_round(self) -> tuple[float | None, ...]:
        """Return the mean value of the images of each round.

        Only trials that came so far are in the mean of a late round.
        """
        steps = [step for trial in self.measured for step in trial.steps]
        last = max((step.round for step in steps), default=-1)
        return tuple(
            _mean(step.reported for step in steps if step.round == number)
            for number in range(last + 1)
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several arms on the same prompts, each set beside one of them."""

    metric: str
    """What is reported; no arm selected with it."""
    images: int
    """How many images an arm may draw for a prompt."""
    against: str
    """Name of the arm that every other is compared with."""
    arms: tuple[ArmResult, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings, secrets left out."""
    command: str | None = None
    """What to type to run it again."""
    seed: int = 0
    """Of the intervals' resampling."""
    bounds: tuple[float, float] | None = None
    """Least and greatest value of the metric; ``None``: not known."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            message = f"expected each arm once, got {', '.join(names)}"
            raise ValueError(message)

    @property
    def prompts(self) -> dict[int, str]:
        """Every prompt that an arm was given, by its index."""
        given = {t.index: t.user_prompt for arm in self.arms for t in arm.trials}
        return dict(sorted(given.items()))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Arm's name to its mean value."""
        return {
            arm.name: mean_interval(arm.reported, bounds=self.bounds, seed=self.seed)
            for arm in self.arms
        }

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """Arm's name to how much it is above the one they are compared with."""
        return {
            arm.name: paired_difference(arm.values, base.values, seed=self.seed)
            for base in self.arms
            if base.name == self.against
            for arm in self.arms
            if arm is not base
        }

    @cached_property
    def since_first(self) -> dict[str, Difference]:
        """Predecessor's arm to how much its returned image is above its first."""
        return {
            arm.name: paired_difference(arm.values, arm.firsts, seed=self.seed)
            for arm in self.arms
            if arm.name in PREDECESSORS
        }

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON values, rounded, without the single trials.

        Means are of the trials that have a value, and ``null`` where there is none.
        """
        return {
            "arms": {arm.name: self._arm_json(arm) for arm in self.arms},
            "differences": _differences_json(self.differences),
            "since_first": _differences_json(self.since_first),
        }

    def _arm_json(self, arm: ArmResult) -> dict[str, Any]:
        interval, trials = self.intervals[arm.name], arm.measured
        return {
            "mean": _rounded(interval.mean),
            "ci": [_rounded(interval.low), _rounded(interval.high)],
            "n": interval.n,
            "whole": _rounded(arm.whole.share),
            "whole_ci": [_rounded(arm.whole.low), _rounded(arm.whole.high)],
            "images": _rounded(_mean(t.images for t in trials)),
            "llm_calls": _rounded(_mean(t.llm_calls for t in trials)),
            "input_tokens": _rounded(_mean(t.input_tokens for t in trials)),
            "output_tokens": _rounded(_mean(t.output_tokens for t in trials)),
            "seconds": _rounded(_mean(t.seconds for t in trials)),
            "excluded": sum(arm.causes.values()),
            "excluded_causes": arm.causes,
            "below_first": arm.below_first,
            "anytime": [_rounded(value) for value in arm.anytime(self.images)],
            "rounds": [_rounded(value) for value in arm.by_round()],
        }


def trials_jsonl(comparison: Comparison) -> Iterator[str]:
    """Yield each trial as one line of JSON, so that it can be analysed again."""
    for arm in comparison.arms:
        for trial in arm.trials:
            record = {"schema": SCHEMA, "arm": arm.name, **trial.to_json()}
            # ASCII, because some readers take U+2028 for the end of a line.
            yield json.dumps(record, allow_nan=False)


def _differences_json(differences: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        name: {
            "mean": _rounded(difference.mean),
            "ci": [_rounded(difference.low), _rounded(difference.high)],
            "win": difference.win,
            "tie": difference.tie,
            "loss": difference.loss,
            "n": difference.n,
        }
        for name, difference in differences.items()
    }


def _check(value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        message = f"expected a finite value or None, got {value}"
        raise ValueError(message)


def _finite(value: float) -> float | None:
    """Return a number that JSON has, or nothing."""
    return value if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4) + 0.0  # never -0.0


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
