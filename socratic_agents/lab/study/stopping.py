"""How the arms of a study end: where they stop, and what stopping cost them."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.stats.proportions import proportion
from socratic_agents.lab.study.trajectory import Trajectory, loop_figures
from socratic_agents.lab.table import Table, ends_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.stats.proportions import Proportion
    from socratic_agents.lab.study.aggregate import ArmValues, StudyValues

__all__ = ("ending_table", "stop_table")


def stop_table(values: StudyValues) -> Table:
    """Return at which iteration the judge of each arm stops."""
    rows = []
    for name, places in values.sets.items():
        for arm in values.arms.values():
            trajectories = _known(arm, values.metrics[0], places)
            most = max((c.cycles for c in trajectories), default=-1)
            stopped = [c.cycles for c in trajectories if c.stopped]
            if not stopped:
                continue
            for cycle in range(most + 1):
                share = proportion(stopped.count(cycle), len(trajectories))
                rows.append((name, arm.name, str(cycle), *_cells_of(share)))
            share = proportion(len(trajectories) - len(stopped), len(trajectories))
            rows.append((name, arm.name, "never", *_cells_of(share)))
    return Table(
        name="stops",
        title="Where the judge stops",
        note="Share of prompts by the iteration at which the judge was satisfied, with "
        "Wilson's 95 % intervals; repeats count each.",
        columns=("set", "arm", "iteration", "prompts", "n", "share", *ends_of("share")),
        rows=tuple(rows),
    )


def ending_table(values: StudyValues) -> Table:
    """Return how often the end is the best, and how often the first image is."""
    further = {one["name"]: one["continued_by"] for one in values.manifest["arms"]}

    def row(metric: str, _: str, places: Sequence[int], arm: ArmValues) -> list[Any]:
        trajectories = _known(arm, metric, places)
        figures = loop_figures(trajectories, excluded=_missing(arm, metric, places))
        later = further.get(arm.name) or arm.name
        pairs = _paired(arm, values.arms[later], metric, places)
        hits = [whole.best_round == own.cycles for own, whole in pairs]
        chance = [1 / len(whole.by_round) for _, whole in pairs]
        beaten = [
            whole.best_round != 0 for _, whole in pairs if len(whole.by_round) > 1
        ]
        cycles, early = figures.cycles, figures.early_stop
        return [
            (
                *(later, cycles.mean, cycles.low, cycles.high),
                *(early.share, early.low, early.high),
                *_cells_of(proportion(sum(hits), len(hits)))[1:],
                *(fmean(chance) if chance else None,),
                *_cells_of(proportion(sum(beaten), len(beaten)))[2:],
                *(figures.n, figures.excluded),
            )
        ]

    return Table(
        name="endings",
        title="How it ends",
        note="stop is best: the last image of the arm is the highest of all images of "
        "the arm in 'of all of', which continues where this one stops; by chance it would "
        "be so in 'chance' of them. later beats first: any later image is above the "
        "first one.",
        columns=(
            *("metric", "set", "arm", "of all of", "cycles", *ends_of("cycles")),
            *("early stop", *ends_of("early stop"), "compared"),
            *("stop is best", *ends_of("stop is best"), "chance"),
            *("later beats first", *ends_of("later beats first"), "n", "excluded"),
        ),
        rows=values.each_arm(row),
    )


def _known(arm: ArmValues, metric: str, places: Sequence[int]) -> list[Trajectory]:
    every = [of[place] for of in arm.trajectories[metric] for place in places]
    return [trajectory for trajectory in every if isinstance(trajectory, Trajectory)]


def _missing(arm: ArmValues, metric: str, places: Sequence[int]) -> int:
    return len(arm.trajectories[metric]) * len(places) - len(
        _known(arm, metric, places)
    )


def _paired(
    arm: ArmValues, other: ArmValues, metric: str, places: Sequence[int]
) -> list[tuple[Trajectory, Trajectory]]:
    """Return the trajectories of two arms where both have images with values."""
    return [
        (ours, theirs)
        for own, whole in zip(
            arm.trajectories[metric], other.trajectories[metric], strict=True
        )
        for place in places
        for ours, theirs in [(own[place], whole[place])]
        if isinstance(ours, Trajectory)
        and isinstance(theirs, Trajectory)
        and theirs.best_round is not None
    ]


def _cells_of(found: Proportion) -> tuple[Any, ...]:
    """Return count, number of cases, share and its interval."""
    return found.count, found.n, found.share, found.low, found.high
