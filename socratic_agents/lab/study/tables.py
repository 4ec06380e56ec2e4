"""The tables of a study: all of them, in the order of a report."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_agents.core.outcome import Refinement
from socratic_agents.lab.metrics.paired import compare_scores
from socratic_agents.lab.metrics.scores import summarise
from socratic_agents.lab.stats.proportions import proportion
from socratic_agents.lab.study.aggregate import ENDED, QUANTITIES
from socratic_agents.lab.study.significance import (
    difference_table,
    power_table,
    since_first_table,
)
from socratic_agents.lab.study.stopping import ending_table, stop_table
from socratic_agents.lab.table import Table, ends_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.study.aggregate import ArmValues, StudyValues

__all__ = ("study_tables",)


def study_tables(values: StudyValues) -> tuple[Table, ...]:
    """Return all tables of a study."""
    return (
        _arms(values),
        difference_table(values),
        since_first_table(values),
        _rounds(values),
        stop_table(values),
        ending_table(values),
        _costs(values),
        power_table(values),
        _left_out(values),
    )


def _arms(values: StudyValues) -> Table:
    def row(metric: str, _: str, places: Sequence[int], arm: ArmValues) -> list[Any]:
        found = [
            summarise(arm.quantity(metric, name).take(places)) for name in QUANTITIES
        ]
        cells = [end for one in found for end in (one.mean, one.low, one.high)]
        selected = found[list(QUANTITIES).index("selected")]
        return [(*cells, selected.n, selected.excluded)]

    return Table(
        name="arms",
        title="What each arm reached",
        note="; ".join(f"{name}: {what}" for name, what in QUANTITIES.items())
        + ". Means with their 95 % intervals (BCa bootstrap over prompts).",
        columns=(
            *("metric", "set", "arm"),
            *(part for name in QUANTITIES for part in (name, *ends_of(name))),
            *("n", "excluded"),
        ),
        rows=values.each_arm(row),
    )


def _rounds(values: StudyValues) -> Table:
    def row(metric: str, _: str, places: Sequence[int], arm: ArmValues) -> list[Any]:
        by_round = [scores.take(places) for scores in arm.by_round(metric)]
        rows = []
        for number, scores in enumerate(by_round):
            found, test = summarise(scores), compare_scores(scores, by_round[0])
            better = proportion(test.difference.win, test.difference.n)
            ended = scores.causes.get(ENDED, 0)
            rows.append(
                (
                    *(number, found.mean, found.low, found.high, found.n),
                    *(ended, scores.excluded - ended),
                    *(test.difference.mean, test.difference.low, test.difference.high),
                    *(better.share, better.low, better.high, test.p),
                )
            )
        return rows

    return Table(
        name="rounds",
        title="By iteration",
        note="Iteration 0 is the user prompt. Prompts that had ended are in no later "
        "mean, and those that are left were hard: compare with iteration 0 by the "
        "difference, which is of the same prompts.",
        columns=(
            *("metric", "set", "arm", "iteration", "mean", *ends_of("mean"), "n"),
            *("ended", "excluded", "since 0", *ends_of("since 0")),
            *("better than 0", *ends_of("better than 0"), "p"),
        ),
        rows=values.each_arm(row),
    )


def _costs(values: StudyValues) -> Table:
    rows = []
    for name, places in values.sets.items():
        for arm in values.arms.values():
            every = [of[place] for of in arm.outcomes for place in places]
            done = [one for one in every if isinstance(one, Refinement)]
            usage = [one.usage.to_json() for one in done]
            rows.append(
                (
                    *(name, arm.name),
                    *(
                        fmean(one[key] for one in usage) if usage else None
                        for key in ("images", "llm_calls", "input_tokens")
                    ),
                    fmean(one["output_tokens"] for one in usage) if usage else None,
                    *(len(done), len(every) - len(done)),
                )
            )
    return Table(
        name="costs",
        title="What it took",
        note="For a prompt, as if no arm had drawn what another one had; failed images "
        "and repeated calls are counted.",
        columns=(
            *("set", "arm", "images", "calls", "tokens in", "tokens out"),
            *("refined", "failed or missing"),
        ),
        rows=tuple(rows),
    )


def _left_out(values: StudyValues) -> Table:
    rows = [
        (metric, arm.name, count, cause)
        for metric in values.metrics
        for arm in values.arms.values()
        for cause, count in arm.quantity(metric, "selected").causes.items()
    ]
    return Table(
        name="left_out",
        title="Left out",
        note="Prompts of which an arm has no value of the returned image, and why. They "
        "are in no mean, and count as nothing.",
        columns=("metric", "arm", "prompts", "cause"),
        rows=tuple(rows),
    )
