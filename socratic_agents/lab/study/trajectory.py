"""The course of a refinement: what its rounds, its end and its choice are worth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_agents.core.history import StopReason
from socratic_agents.lab.metrics.scores import Subject, Value
from socratic_agents.lab.stats.bootstrap import mean_interval
from socratic_agents.lab.stats.proportions import proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.core.outcome import Refinement
    from socratic_agents.lab.datasets.types import PromptRow
    from socratic_agents.lab.metrics.scores import Scores
    from socratic_agents.lab.stats.bootstrap import Interval
    from socratic_agents.lab.stats.proportions import Proportion

__all__ = (
    "LoopFigures",
    "Trajectory",
    "course_scores",
    "loop_figures",
    "round_scores",
    "subjects_of",
    "trajectory_of",
)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """How one metric went over one refinement."""

    cycles: int
    """Rounds after the first: how often the prompts were rewritten and drawn."""
    stopped: bool | None
    """Whether the judge ended it, satisfied; ``None``: it was cancelled."""
    by_round: tuple[Value, ...]
    """The mean of each round's images, of those that have a value."""
    first: Value
    """Of the first image: the user prompt as it stands."""
    maximum: Value
    """The highest of all. It was picked by the metric itself, so it flatters, the more
    images there are: nothing that is returned may be compared with it as an equal."""
    terminated: Value
    """Of the last round, whichever it was: what a loop without a selector returns."""
    selected: Value
    """Of the image that is returned."""
    best_round: int | None
    """The first round that has the maximum; ``None`` if nothing has a value."""

    @property
    def stop_is_best(self) -> bool | None:
        """Whether the last round has the maximum; ``None``: nobody can say."""
        last = self.terminated.value
        if self.maximum.value is None or last is None:
            return None
        return self.best_round == self.cycles


@dataclass(frozen=True, kw_only=True)
class LoopFigures:
    """What many refinements did, without a metric but for ``stop_is_best``."""

    n: int
    excluded: int
    """Prompts whose refinement failed; they are in none of the figures."""
    cycles: Interval
    early_stop: Proportion
    stop_rounds: tuple[tuple[int, int], ...]
    """Of those that the judge ended: cycles done, and how many they are."""
    stop_is_best: Proportion

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "n": self.n,
            "excluded": self.excluded,
            "cycles": dict(vars(self.cycles)),
            "early_stop": dict(vars(self.early_stop)),
            "stop_rounds": {str(cycles): n for cycles, n in self.stop_rounds},
            "stop_is_best": dict(vars(self.stop_is_best)),
        }


def subjects_of(
    refinement: Refinement, row: PromptRow | None = None
) -> tuple[Subject, ...]:
    """Return every image of a refinement as a subject, in the order of its candidates.

    Args:
        refinement: What was tried.
        row: Of the prompt set.
    """
    history = refinement.history
    return tuple(
        Subject(
            user_prompt=refinement.user_prompt,
            candidate=candidate,
            row=row,
            history=history,
        )
        for candidate in history.candidates
    )


def trajectory_of(refinement: Refinement, values: Sequence[Value]) -> Trajectory:
    """Return how a metric went over a refinement.

    Args:
        refinement: What was tried.
        values: One for each candidate, in order.

    Raises:
        ValueError: If there are more or fewer values than candidates.
    """
    sizes = [len(round_.candidates) for round_ in refinement.rounds]
    if sum(sizes) != len(values):
        message = f"expected {sum(sizes)} values, one a candidate, got {len(values)}"
        raise ValueError(message)
    rest, rounds = list(values), list[list[Value]]()
    for size in sizes:
        rounds.append(rest[:size])
        rest = rest[size:]
    known = [
        (v.value, n) for n, of in enumerate(rounds) for v in of if v.value is not None
    ]
    most = max((value for value, _ in known), default=None)
    place, by_round = refinement.best_place, tuple(map(_mean, rounds))
    stopped = None
    if refinement.stop is not StopReason.CANCELLED:
        stopped = refinement.stop is StopReason.SATISFIED
    return Trajectory(
        cycles=len(rounds) - 1,
        stopped=stopped,
        by_round=by_round,
        first=values[0],
        maximum=_mean(values) if most is None else Value(value=most),
        terminated=by_round[-1],
        selected=rounds[place.round][place.candidate],
        best_round=next((n for value, n in known if value == most), None),
    )


def course_scores(
    trajectories: Sequence[Trajectory], scores: Scores
) -> dict[str, Scores]:
    """Return the scores ``first``, ``maximum``, ``terminated`` and ``selected``.

    Args:
        trajectories: One a prompt.
        scores: Of the metric that they were measured with, for its record.
    """
    names = ("first", "maximum", "terminated", "selected")
    return {
        name: replace(scores, values=tuple(getattr(one, name) for one in trajectories))
        for name in names
    }


def round_scores(
    trajectories: Sequence[Trajectory], scores: Scores
) -> tuple[Scores, ...]:
    """Return the scores of each round, of all prompts.

    A refinement that has ended has no value of the rounds after, and is excluded there
    with this reason: late rounds are of the prompts that were hard, and must not be
    compared with early ones but prompt by prompt.

    Args:
        trajectories: One a prompt.
        scores: Of the metric that they were measured with, for its record.
    """
    ended = Value.missing("the refinement had ended")
    rounds = max((len(one.by_round) for one in trajectories), default=0)
    return tuple(
        replace(
            scores,
            values=tuple(
                one.by_round[n] if n < len(one.by_round) else ended
                for one in trajectories
            ),
        )
        for n in range(rounds)
    )


def loop_figures(
    trajectories: Sequence[Trajectory], *, excluded: int = 0, seed: int = 0
) -> LoopFigures:
    """Return what refinements did.

    Args:
        trajectories: One a prompt that could be refined.
        excluded: Prompts that could not.
        seed: Of the resampling.
    """
    ended = [one.stopped for one in trajectories if one.stopped is not None]
    best = [one.stop_is_best for one in trajectories if one.stop_is_best is not None]
    stops = Counter(one.cycles for one in trajectories if one.stopped)
    return LoopFigures(
        n=len(trajectories),
        excluded=excluded,
        cycles=mean_interval([float(one.cycles) for one in trajectories], seed=seed),
        early_stop=proportion(
            sum(ended), len(ended), excluded=len(trajectories) - len(ended)
        ),
        stop_rounds=tuple(sorted(stops.items())),
        stop_is_best=proportion(
            sum(best), len(best), excluded=len(trajectories) - len(best)
        ),
    )


def _mean(values: Sequence[Value]) -> Value:
    known = [v.value for v in values if v.value is not None]
    if known:
        return Value(value=fmean(known))
    reasons = Counter(v.reason for v in values if v.reason is not None)
    (reason, _), *_ = reasons.most_common() or [("no image", 0)]
    return Value.missing(reason)
