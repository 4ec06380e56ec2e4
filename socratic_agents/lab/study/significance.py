"""The tests of a study: every arm beside another one, and beside its own first image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.lab.metrics.paired import PairedTest, compare_scores, with_holm
from socratic_agents.lab.stats.bootstrap import SMALL
from socratic_agents.lab.stats.power import pairs_needed
from socratic_agents.lab.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.study.aggregate import StudyValues

__all__ = ("difference_table", "differences", "power_table", "since_first_table")

TESTED = (
    *("difference", "difference low", "difference high", "won", "tied", "lost"),
    *("p", "p Holm", "n", "excluded", "shown with 80 % power"),
)


def _tested(test: PairedTest) -> tuple[Any, ...]:
    one = test.difference
    return (
        *(one.mean, one.low, one.high, one.win, one.tie, one.loss),
        *(test.p, test.p_holm, one.n, test.excluded, test.smallest),
    )


def differences(
    values: StudyValues, metric: str, places: Sequence[int]
) -> dict[str, PairedTest]:
    """Return each arm minus the one that all are compared with, as one family.

    Args:
        values: Of the study.
        metric: One of its metrics.
        places: Of the prompts to compare on.
    """
    base = values.arms[values.against]
    other = base.quantity(metric, "selected").take(places)
    tests = {
        name: compare_scores(arm.quantity(metric, "selected").take(places), other)
        for name, arm in values.arms.items()
        # What was not measured yet has no record that could be the same.
        if name != base.name and arm.records[metric].record and other.record
    }
    return with_holm(tests)


def difference_table(values: StudyValues) -> Table:
    """Return every arm minus the one that all are compared with."""
    rows = tuple(
        (metric, name, arm, *_tested(test))
        for metric in values.metrics
        for name, places in values.sets.items()
        for arm, test in differences(values, metric, places).items()
    )
    return Table(
        name="differences",
        title=f"What is returned, minus that of {values.against}",
        note="Prompt by prompt, with 95 % BCa intervals, sign-flip tests, and Holm's "
        "adjustment over the arms of one metric and set.",
        columns=("metric", "set", "arm", *TESTED),
        rows=rows,
    )


def since_first_table(values: StudyValues) -> Table:
    """Return every arm minus its own first image."""
    rows = []
    for metric in values.metrics:
        for name, places in values.sets.items():
            tests = {}
            for arm in values.arms.values():
                first = arm.quantity(metric, "first").take(places)
                for kind in ("terminated", "selected"):
                    ours = arm.quantity(metric, kind).take(places)
                    tests[arm.name, kind] = compare_scores(ours, first)
            named = with_holm({"\n".join(key): one for key, one in tests.items()})
            rows += [
                (metric, name, *key.split("\n"), *_tested(one))
                for key, one in named.items()
            ]
    return Table(
        name="since_first",
        title="Minus the arm's own first image",
        note="Whether anything after the first image was worth it, prompt by prompt.",
        columns=("metric", "set", "arm", "image", *TESTED),
        rows=tuple(rows),
    )


def power_table(values: StudyValues) -> Table:
    """Return what these prompts can show, and how many would show more."""
    rows = []
    for metric in values.metrics:
        places = values.sets[values.whole]
        for arm, test in differences(values, metric, places).items():
            spread = _spread(values, arm, metric)
            needed = pairs_needed(SMALL, spread) if spread else None
            rows.append((metric, arm, test.difference.n, spread, test.smallest, needed))
    return Table(
        name="power",
        title="What these prompts can show",
        note="The true difference that they show with 80 % power, and how many prompts "
        f"one of {SMALL} needs; by normal approximation from the spread of the "
        "differences.",
        columns=(
            *("metric", "arm", "n", "spread", "shown with 80 % power"),
            f"needed for {SMALL}",
        ),
        rows=tuple(rows),
    )


def _spread(values: StudyValues, arm: str, metric: str) -> float | None:
    import numpy as np

    ours = values.arms[arm].quantity(metric, "selected").values
    theirs = values.arms[values.against].quantity(metric, "selected").values
    apart = [
        a.value - b.value
        for a, b in zip(ours, theirs, strict=True)
        if a.value is not None and b.value is not None
    ]
    return float(np.std(apart, ddof=1)) if len(apart) > 1 else None
