"""Findings: what a comparison says in sentences, whichever way it came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.lab.compare.result import SCHEMA
from socratic_agents.lab.stats.bootstrap import (
    FEWEST_PAIRS,
    FEWEST_UNTIED,
    paired_values,
    power_warning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from socratic_agents.lab.compare.result import Comparison
    from socratic_agents.lab.stats.bootstrap import Difference, Interval

__all__ = ("comparison_json", "findings", "warnings", "without_interval")

RELATION = {1: "is above", 0: "cannot be distinguished from", -1: "is below"}
"""Sign of a difference to what it says."""

REPEATED = {1: "contradicts", 0: "neither repeats nor contradicts", -1: "repeats"}
"""Sign of a difference to what it says of a finding that it is negative."""


def findings(comparison: Comparison) -> tuple[str, ...]:
    """Return what came out, a sentence for each thing that was asked."""
    return (*_relations(comparison), *_predecessors(comparison), *_own(comparison))


def warnings(comparison: Comparison) -> tuple[str, ...]:
    """Return what weakens the comparison, a sentence each."""
    return (
        *_missing(comparison),
        *_spent(comparison),
        *without_interval(comparison.intervals, "mean"),
        *without_interval(comparison.differences, "difference"),
        *_power(comparison),
    )


def without_interval(
    found: Mapping[str, Interval | Difference], what: str
) -> Iterator[str]:
    """Say of what there is no interval, and why, unless there are too few for any.

    Args:
        found: By the arm's name.
        what: ``mean`` or ``difference``.
    """
    of = dict[str, list[str]]()
    for name, one in found.items():
        if one.why is not None and one.n >= FEWEST_PAIRS:
            of.setdefault(one.why, []).append(name)
    for why, names in of.items():
        yield f"{', '.join(names)}: the {what} has no interval, since {why}."


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the JSON form of a comparison: its figures, and what they say."""
    return {
        "schema": SCHEMA,
        "metric": comparison.metric,
        "images": comparison.images,
        "n": len(comparison.prompts),
        "against": comparison.against,
        **comparison.figures(),
        "warnings": list(warnings(comparison)),
        "findings": list(findings(comparison)),
        "settings": dict(comparison.settings),
        "seed": comparison.seed,
        "command": comparison.command,
    }


def _relations(comparison: Comparison) -> Iterator[str]:
    """Say of each arm how it compares with the one that all are compared with."""
    other = comparison.against
    for name, difference in comparison.differences.items():
        if not difference.n:
            yield (
                f"{name} cannot be compared with {other}: no prompt has a value of both."
            )
            continue
        relation = RELATION[difference.sign]
        yield f"{name} {relation} {other}: {_in_words(difference, comparison.metric)}."


def _predecessors(comparison: Comparison) -> Iterator[str]:
    """Say whether the predecessor's policies still lose to their own first image.

    Source: the predecessor's published CLIPScores on COCO, 0.798 and 0.799 for what
    its policies return, 0.808 for the first image.
    """
    for name, difference in comparison.since_first.items():
        if not difference.n:
            continue
        relation = RELATION[difference.sign]
        yield (
            f"What {name} returns {relation} its own first image: "
            f"{_in_words(difference, comparison.metric)}. This "
            f"{REPEATED[difference.sign]} the predecessor's finding that it is below."
        )


def _own(comparison: Comparison) -> Iterator[str]:
    """Say how often an arm returned less than its first image, by its own scores."""
    counts = [
        f"{arm.name} {arm.below_first} of {len(scored)}"
        for arm in comparison.arms
        if (scored := [t for t in arm.trials if t.selection and t.first_selection])
    ]
    if counts:
        yield (
            "Returned less than the first image, by the arm's own scores: "
            f"{', '.join(counts)}."
        )


def _in_words(difference: Difference, metric: str) -> str:
    """Return the figures of a difference that has at least one pair."""
    text = f"{metric} {_signed(difference.mean)} on average"
    if difference.low is not None:
        low, high = _signed(difference.low), _signed(difference.high)
        text += f", 95 % interval {low} to {high}"
    text += f"; {difference.win} won, {difference.tie} tied, {difference.loss} lost"
    if difference.win + difference.loss < FEWEST_UNTIED:
        text += "; too few differ to tell"
    return text


def _signed(value: float | None) -> str:
    assert value is not None  # noqa: S101 - there are pairs
    return f"{round(value, 4) + 0.0:+.4f}"


def _missing(comparison: Comparison) -> Iterator[str]:
    """Say what was not run, and what was left out of which arm."""
    if comparison.against not in {arm.name for arm in comparison.arms}:
        yield f"{comparison.against} was not run, so nothing is compared with it."
    n = len(comparison.prompts)
    for arm in comparison.arms:
        if len(arm.trials) < n:
            yield f"{arm.name} was run on {len(arm.trials)} of {n} prompts only."
        if arm.causes:
            cause, count = next(iter(arm.causes.items()))
            share = f"{sum(arm.causes.values())} of {len(arm.trials)}"
            yield (
                f"{arm.name}: {share} prompts are left out of all means, "
                f"{count} because: {cause}"
            )


def _spent(comparison: Comparison) -> Iterator[str]:
    """Say which arm drew more than all were allowed."""
    for arm in comparison.arms:
        most = max((trial.images for trial in arm.trials), default=0)
        if most > comparison.images:
            yield (
                f"{arm.name} drew up to {most} images for a prompt, though "
                f"{comparison.images} were allowed, so it is not an equal comparison."
            )


def _power(comparison: Comparison) -> Iterator[str]:
    """Say which difference rests on too few pairs."""
    values = {arm.name: arm.values for arm in comparison.arms}
    warned: dict[str, list[str]] = {}
    for name in comparison.differences:
        pairs = paired_values(values[name], values[comparison.against])
        warning = power_warning([ours - theirs for ours, theirs in pairs])
        if warning is not None:
            warned.setdefault(warning, []).append(name)
    for warning, names in warned.items():
        yield f"{', '.join(names)}: {warning}"
