"""The plan of a study: everything that it names, found and checked before it runs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.registry import (
    METRICS,
    find_metrics,
    metrics_that_select,
)
from socratic_agents.lab.study.arms import PlannedArm, plan_arm
from socratic_agents.lab.study.prompts import study_prompts
from socratic_agents.lab.study.spec import POCKET, Study

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socratic_agents.core.budget import Budget
    from socratic_agents.lab.metrics.metric import MetricSpec
    from socratic_agents.lab.study.prompts import StudyPrompt

__all__ = ("StudyPlan", "plan_study")


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A study that can be run."""

    name: str
    study: Study
    base: Settings
    """The models, and what the arms leave open."""
    prompts: tuple[StudyPrompt, ...]
    drawn: list[dict[str, Any]]
    """How the prompts of each set were chosen."""
    arms: tuple[PlannedArm, ...]
    metrics: tuple[MetricSpec, ...]
    seeds: tuple[int, ...]
    against: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def run_budget(self) -> Budget:
        """What all of it may spend."""
        return self.study.run_budget


def plan_study(
    study: Study,
    *,
    name: str,
    overrides: Mapping[str, Any] | None = None,
    n: int | None = None,
    folder: Path = Path(),
    files: Mapping[str, Path] | None = None,
    bank: Path | None = None,
) -> StudyPlan:
    """Find everything that a study names; nothing is opened or written.

    Args:
        study: As from ``read_study``.
        name: What to call it.
        overrides: Settings that win over the study's own, but not over its arms'.
        n: Prompts in all; ``None``: as the study says.
        folder: Where the study's file lies; its paths are relative to that.
        files: Prompt set to its file.
        bank: Examples for every arm that chooses examples, in place of its own bank.

    Raises:
        ConfigurationError: If anything in it cannot be used, on one line.
    """
    given = dict(overrides or {})
    seeds = [int(given.pop("seed"))] if str(given.get("seed", "")).isdecimal() else []
    base = Settings(**{**study.settings, **given})
    pocket = base.generator == POCKET
    other = study.pocket
    if pocket:
        base = Settings(**{**study.settings, **other.settings, **given})
    entries = study.every_arm()
    prompts, drawn = study_prompts(
        (other.prompts if pocket else None) or study.prompts,
        n=n,
        folder=folder,
        files=files,
    )
    if pocket:
        from socratic_agents.pocket import check

        for prompt in prompts:
            check(prompt.row.text)
    shared = {**study.settings, **(other.settings if pocket else {}), **given}
    usual = None
    if pocket and other.bank is not None:
        usual = folder / other.bank
    arms = tuple(
        plan_arm(
            arm, entry, study, shared, base=base, folder=folder, bank=bank, usual=usual
        )
        for arm, entry in entries.items()
    )
    metrics = find_metrics((other.metrics if pocket else None) or study.metrics, base)
    against = study.against or arms[0].name
    _known("against", against, entries)
    for arm in arms:
        if arm.continued_by is not None:
            _known(f"arms.{arm.name}.continued_by", arm.continued_by, entries)
    chosen = seeds or study.seeds
    if len(set(chosen)) < len(chosen):
        message = f"expected seeds that differ, got {chosen}; each is a repeat"
        raise ConfigurationError(message)
    _check_budget(study, len(prompts) * len(arms) * len(chosen), base)
    return StudyPlan(
        name=name,
        study=study,
        base=base,
        prompts=prompts,
        drawn=drawn,
        arms=arms,
        metrics=metrics,
        seeds=tuple(chosen),
        against=against,
        notes=(*study.notes, *(other.notes if pocket else ())),
        warnings=tuple(_check_independence(arms, metrics)),
    )


def _known(place: str, name: str, arms: Mapping[str, Any]) -> None:
    if name not in arms:
        close = difflib.get_close_matches(name, list(arms), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "name one of these"
        message = f"{place}: expected an arm ({', '.join(arms)}), got {name!r}; {hint}"
        raise ConfigurationError(message)


def _check_budget(study: Study, refinements: int, base: Settings) -> None:
    """Refuse a budget of which every arm would not even see the first images."""
    budget = study.run_budget
    budget.check(base.prices)
    if budget.images is not None and budget.images < refinements:
        message = (
            f"expected a budget of at least {refinements:,} images, one for every "
            f"prompt, arm and seed, got {budget.images:,}; raise it, or take fewer"
        )
        raise ConfigurationError(message)


def _check_independence(
    arms: tuple[PlannedArm, ...], metrics: tuple[MetricSpec, ...]
) -> list[str]:
    """Refuse a main metric that selects; say which others do."""
    selects: dict[str, list[str]] = {}
    for arm in arms:
        for metric in metrics_that_select(metrics, arm.settings):
            selects.setdefault(metric, []).append(arm.name)
    main = metrics[0].name
    if main in selects:
        left = [one for one in METRICS if one not in selects]
        message = (
            f"expected a first metric that no arm selects with, got {main!r}, with which "
            f"{', '.join(selects[main])} selects; take another one, such as {left[0]!r}"
        )
        raise ConfigurationError(message)
    return [
        f"{metric} uses the model that selects in {', '.join(names)}: there it "
        "describes, and is no evidence."
        for metric, names in selects.items()
    ]
