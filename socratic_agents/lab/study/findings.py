"""What a study says in sentences, whichever way it came out, and how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.lab.compare.findings import RELATION, without_interval
from socratic_agents.lab.metrics.scores import summarise
from socratic_agents.lab.stats.bootstrap import FEWEST_PAIRS
from socratic_agents.lab.study.significance import differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from socratic_agents.lab.metrics.paired import PairedTest
    from socratic_agents.lab.study.aggregate import StudyValues

__all__ = ("study_findings", "study_methods", "study_warnings")

LEVEL = 0.05
"""Of the adjusted tests."""


def study_findings(values: StudyValues) -> tuple[str, ...]:
    """Return a sentence for each arm, by the main metric, on all prompts."""
    metric, found = values.metrics[0], list[str]()
    for arm, test in differences(values, metric, values.sets[values.whole]).items():
        if not test.difference.n:
            found.append(f"{arm} cannot be compared with {values.against}.")
            continue
        sure = test.difference.sign if (test.p_holm or 0) < LEVEL else 0
        found.append(
            f"{arm} {RELATION[sure]} {values.against}: {_in_words(test, metric)}."
        )
    return tuple(found)


def study_warnings(values: StudyValues) -> tuple[str, ...]:
    """Return what weakens a study, a sentence each."""
    return (
        *values.manifest["warnings"],
        *_missing(values),
        *_no_interval(values),
        *_few(values),
    )


def study_methods(values: StudyValues) -> str:
    """Return how a study was made, to be read beside its figures."""
    manifest = values.manifest
    sets = "; ".join(map(_set, manifest["sets"]))
    arms = "; ".join(
        f"{arm['name']}: {arm['about'].rstrip('.') or 'as the settings say'}"
        for arm in manifest["arms"]
    )
    metrics = "; ".join(
        f"{one['name']} ({one['title']}; {_record(values, one['name'])})"
        for one in manifest["metrics"]
    )
    templates = sorted(
        {
            f"{role} {one['name']} {one['sha256'][:12]}"
            for arm in manifest["arms"]
            for role, one in arm["templates"].items()
        }
    )
    versions = ", ".join(f"{n} {v}" for n, v in manifest["versions"].items())
    seeds = ", ".join(map(str, manifest["seeds"]))
    return " ".join(
        (
            f"{len(manifest['prompts'])} prompts: {sets}.",
            f"Arms: {arms}.",
            (
                f"Noise comes from seed {seeds}; what two arms draw alike was drawn once, "
                "and is charged to both."
            ),
            f"Metrics, each against the user prompt: {metrics}.",
            "A prompt without a value is left out of the mean and counted.",
            (
                "Means and differences have 95 % BCa bootstrap intervals over prompts "
                "(9,999 resamples), means of which fewer than six values differ from the "
                "most frequent one Gaffke's, shares Wilson's; differences are paired by prompt and "
                "tested by sign flips, two-sided, adjusted by Holm over the arms."
            ),
            f"Templates (sha256): {'; '.join(templates) or 'none'}.",
            f"Versions: {versions}.",
        )
    )


def _in_words(test: PairedTest, metric: str) -> str:
    one = test.difference
    text = f"{metric} {one.mean:+.4f} on average"
    if one.low is not None and one.high is not None:
        text += f", 95 % interval {one.low:+.4f} to {one.high:+.4f}"
    text += f"; {one.win} won, {one.tie} tied, {one.loss} lost"
    if test.p_holm is not None:
        text += f"; p = {test.p_holm:.3g} (Holm)"
    return f"{text}; {one.n} pairs, {test.excluded} left out"


def _missing(values: StudyValues) -> Iterator[str]:
    metric = values.metrics[0]
    for arm in values.arms.values():
        summary = summarise(arm.quantity(metric, "selected"))
        if summary.excluded:
            cause, count = next(iter(summary.causes.items()))
            yield (
                f"{arm.name}: {summary.excluded} of {summary.excluded + summary.n} prompts are "
                f"left out, {count} because: {cause}."
            )


def _no_interval(values: StudyValues) -> Iterator[str]:
    tests = differences(values, values.metrics[0], values.sets[values.whole])
    found = {name: test.difference for name, test in tests.items()}
    yield from without_interval(found, "difference")


def _few(values: StudyValues) -> Iterator[str]:
    for name, places in values.sets.items():
        if len(places) < FEWEST_PAIRS:
            yield (
                f"{len(places)} prompts of {name} are too few for a conclusion; run at "
                f"least {FEWEST_PAIRS}."
            )


def _set(facts: Mapping[str, Any]) -> str:
    title = facts["title"]
    text = f"{facts['n']} of {facts['name']} ({title}; {facts['method']}, seed "
    text += f"{facts['seed']}; sha256 {facts['sha256'][:12]}"
    if facts.get("file_sha256"):
        text += f"; file {facts['file_sha256'][:12]}"
    if facts.get("excluded"):
        out = ", ".join(f"{n:,} {reason}" for reason, n in facts["excluded"].items())
        text += f"; left out: {out}"
    if facts.get("citation"):
        text += f"; {facts['citation'].rstrip('.')}"
    return f"{text})"


def _record(values: StudyValues, metric: str) -> str:
    records = [arm.records[metric].record for arm in values.arms.values()]
    record = next((one for one in records if one), {})
    return ", ".join(f"{k} {v}" for k, v in record.items()) or "not measured yet"
