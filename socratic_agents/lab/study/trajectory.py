"""The trajectory of a refinement: what its rounds, its end and its choice are worth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from socratic_agents.core.history import StopReason
from socratic_agents.lab.metrics.scores import Subject, Value
from socratic_agents.lab.stats.bootstrap import mean_interval
from socratic_agents.lab.stats.proportions import proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.core.outcome import Refinement
    from socratic_agents.lab.datasets.types import PromptRow
    from socratic_agents.lab.stats.bootstrap import Interval
    from socratic_agents.lab.stats.proportions import Proportion

__all__ = (
    "LoopFigures",
    "Trajectory",
    "loop_figures",
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


@dataclass(frozen=True, kw_only=True)
class LoopFigures:
    """What many refinements did, whatever their images are worth."""

    n: int
    excluded: int
    """Prompts whose refinement failed; they are in none of the figures."""
    cycles: Interval
    early_stop: Proportion
    """How many of them the judge ended."""


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
    if not refinement.stop.cut_short:
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
    return LoopFigures(
        n=len(trajectories),
        excluded=excluded,
        cycles=mean_interval([float(one.cycles) for one in trajectories], seed=seed),
        early_stop=proportion(
            sum(ended), len(ended), excluded=len(trajectories) - len(ended)
        ),
    )


def _mean(values: Sequence[Value]) -> Value:
    known = [v.value for v in values if v.value is not None]
    if known:
        return Value(value=fmean(known))
    reasons = Counter(v.reason for v in values if v.reason is not None)
    (reason, _), *_ = reasons.most_common() or [("no image", 0)]
    return Value.missing(reason)
