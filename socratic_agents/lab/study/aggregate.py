"""The values of a study: for every arm and prompt, averaged over the seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_agents.core.outcome import Failure
from socratic_agents.lab.metrics.scores import Scores, Value
from socratic_agents.lab.study.trajectory import Trajectory, trajectory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from socratic_agents.core.outcome import Refinement
    from socratic_agents.lab.study.folder import ArmRun

__all__ = ("QUANTITIES", "ArmValues", "StudyValues", "study_values")

QUANTITIES = {
    "first": "the first image: the user prompt as it stands",
    "terminated": "the last round: where the arm ended",
    "selected": "the image that is returned",
    "maximum": "the highest of all, picked by the metric itself: a ceiling, no result",
}
"""What is asked of every refinement, and what that is."""

ALL = "all"
NOT_RUN = "not run yet"
ENDED = "the refinement had ended"


@dataclass(frozen=True, kw_only=True)
class ArmValues:
    """What one arm reached on every prompt, with every seed."""

    name: str
    outcomes: tuple[tuple[Refinement | Failure | None, ...], ...]
    """By seed, then by prompt; ``None``: not run yet."""
    trajectories: Mapping[str, tuple[tuple[Trajectory | Value, ...], ...]]
    """Metric to the trajectory of each, or to why there is none."""
    records: Mapping[str, Scores]
    """Metric to scores without values, for their record."""

    def scores(self, metric: str, get: Callable[[Trajectory], Value]) -> Scores:
        """Return one value a prompt: the mean over the seeds, if all have one."""
        by_seed = [
            [one if isinstance(one, Value) else get(one) for one in trajectories]
            for trajectories in self.trajectories[metric]
        ]
        return Scores(
            metric=metric,
            record=self.records[metric].record,
            higher_is_better=self.records[metric].higher_is_better,
            values=tuple(map(_mean, zip(*by_seed, strict=True))),
            bounds=self.records[metric].bounds,
        )

    def quantity(self, metric: str, name: str) -> Scores:
        """Return the scores of one of ``QUANTITIES``."""
        return self.scores(metric, lambda trajectory: getattr(trajectory, name))

    def by_round(self, metric: str) -> list[Scores]:
        """Return the scores of each round; who had ended has none."""
        every = [
            c
            for of in self.trajectories[metric]
            for c in of
            if isinstance(c, Trajectory)
        ]
        rounds = max((len(trajectory.by_round) for trajectory in every), default=0)

        def at(number: int) -> Callable[[Trajectory], Value]:
            def get(trajectory: Trajectory) -> Value:
                if number < len(trajectory.by_round):
                    return trajectory.by_round[number]
                return Value.missing(ENDED)

            return get

        return [self.scores(metric, at(number)) for number in range(rounds)]


@dataclass(frozen=True, kw_only=True)
class StudyValues:
    """What all arms reached."""

    manifest: Mapping[str, Any]
    arms: Mapping[str, ArmValues]
    sets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Name of a set to the places of its prompts; ``all``, if there are several."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, the main one first."""
        return tuple(one["name"] for one in self.manifest["metrics"])

    @property
    def against(self) -> str:
        """The arm that all are compared with."""
        return str(self.manifest["against"])

    @property
    def whole(self) -> str:
        """The name under which all prompts are."""
        return next(iter(self.sets))

    def each_arm(
        self, row: Callable[[str, str, Sequence[int], ArmValues], list[Any]]
    ) -> tuple[tuple[Any, ...], ...]:
        """Return the rows of every metric, set and arm.

        Args:
            row: Given the metric, the set, the places of its prompts and the arm.
        """
        return tuple(
            (metric, name, arm.name, *cells)
            for metric in self.metrics
            for name, places in self.sets.items()
            for arm in self.arms.values()
            for cells in row(metric, name, places, arm)
        )


def study_values(manifest: Mapping[str, Any], runs: Iterable[ArmRun]) -> StudyValues:
    """Return what all arms of a study reached.

    Args:
        manifest: Of the study.
        runs: Of every arm with every seed.
    """
    by_arm: dict[str, list[ArmRun]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, []).append(run)
    prompts, metrics = manifest["prompts"], [one["name"] for one in manifest["metrics"]]
    blank = {
        one["name"]: Scores(
            metric=one["name"],
            record={},
            higher_is_better=one["higher_is_better"],
            values=(),
        )
        for one in manifest["metrics"]
    }
    arms = {}
    for name, several in by_arm.items():
        trajectories: dict[str, list[tuple[Trajectory | Value, ...]]] = {
            m: [] for m in metrics
        }
        records = dict(blank)
        for run in several:
            for metric in metrics:
                trajectories[metric].append(_courses(run, metric, len(prompts)))
                records[metric] = run.scores.get(metric, records[metric])
        arms[name] = ArmValues(
            name=name,
            outcomes=tuple(
                tuple(run.outcomes.get(place) for place in range(len(prompts)))
                for run in several
            ),
            trajectories={metric: tuple(of) for metric, of in trajectories.items()},
            records=records,
        )
    return StudyValues(manifest=manifest, arms=arms, sets=_sets(prompts))


def _courses(run: ArmRun, metric: str, prompts: int) -> tuple[Trajectory | Value, ...]:
    """Return the trajectory of every prompt; the scores are of the refined ones in order."""
    scores, at = run.scores.get(metric), 0
    found: list[Trajectory | Value] = []
    for place in range(prompts):
        outcome = run.outcomes.get(place)
        if outcome is None:
            found.append(Value.missing(NOT_RUN))
        elif isinstance(outcome, Failure):
            found.append(Value.missing(f"it failed ({outcome.kind}: {outcome.error})"))
        elif scores is None:
            found.append(Value.missing("not measured yet"))
        else:
            size = len(outcome.history.candidates)
            some = scores.values[at : at + size]
            at += size
            if len(some) < size:  # somebody has changed the file
                found.append(Value.missing("not measured yet"))
            else:
                found.append(trajectory_of(outcome, some))
    return tuple(found)


def _sets(prompts: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, ...]]:
    sets: dict[str, tuple[int, ...]] = {}
    for place, prompt in enumerate(prompts):
        sets[prompt["set"]] = (*sets.get(prompt["set"], ()), place)
    if len(sets) == 1:
        return sets
    name = ALL if ALL not in sets else "all sets"
    return {name: tuple(range(len(prompts))), **sets}


def _mean(values: Sequence[Value]) -> Value:
    missing = next((v for v in values if v.value is None), None)
    if missing is not None:
        return missing
    return Value(value=fmean(v.value for v in values if v.value is not None))
