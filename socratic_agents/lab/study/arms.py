"""The arms of a study: their settings, and the templates that are their own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.agents.registry import find_templates
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.compare.arms import ARMS, unchanged
from socratic_agents.lab.study.spec import MOST_IMAGES
from socratic_agents.lab.study.template_variants import read_bank, variant
from socratic_agents.runtime.build import check_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socratic_agents.lab.study.spec import ArmEntry, Study

__all__ = ("PlannedArm", "plan_arm")

OURS = "optimizer"
"""Whose template an arm changes."""


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """An arm with its settings."""

    name: str
    about: str
    settings: Settings
    template: str | None = None
    """Text of the optimizer's template, where it is the study's own variant."""
    continued_by: str | None = None

    def ready(self, folder: Path) -> Settings:
        """Return its settings, with its own template lying in a folder."""
        if self.template is None:
            return self.settings
        path = folder / f"{self.name}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(self.template, encoding="utf-8")
        return self.settings.but(optimizer_template=str(path))


def plan_arm(
    name: str,
    entry: ArmEntry,
    study: Study,
    shared: Mapping[str, Any],
    *,
    base: Settings,
    folder: Path,
    bank: Path | None,
    usual: Path | None,
) -> PlannedArm:
    """Return an arm with its settings, if all that it names is there.

    Args:
        name: Of the arm.
        entry: What the study says of it.
        study: Has the budget.
        shared: Settings of all arms, by name.
        base: The same, resolved.
        folder: Paths of the study are relative to it.
        bank: Examples that win over the arm's own bank.
        usual: Examples where the arm names no bank.

    Raises:
        ConfigurationError: If something cannot be used; the message names the arm.
    """
    images = study.budget.images
    try:
        settings = _settings(entry, shared, base=base, images=images)
        text = _template(entry, settings, folder, bank, usual)
        arm = PlannedArm(
            name=name,
            about=entry.about or _in_words(entry),
            settings=settings,
            template=text,
            continued_by=entry.continued_by,
        )
        with tempfile.TemporaryDirectory() as place:  # a trial: is the template good?
            speaks = bool(find_templates(arm.ready(Path(place))))
        check_models(settings, speaks=speaks)
    except ConfigurationError as problem:
        message = f"{problem} (in the arm {name!r})"
        raise ConfigurationError(message) from problem
    return arm


def _settings(
    entry: ArmEntry,
    shared: Mapping[str, Any],
    *,
    base: Settings,
    images: int | None,
) -> Settings:
    """Return the settings of an arm: its own win, then the shared ones."""
    if entry.policy is not None:
        arm = ARMS.find(entry.policy)
        if arm.wrap_agents is not unchanged:
            message = (
                "expected a policy that needs no more than settings, got "
                f"{entry.policy!r}, which runs in 'socratic lab compare' alone"
            )
            raise ConfigurationError(message)
        most = images or base.max_images
        if most is None or most > MOST_IMAGES:
            message = (
                f"expected a budget of images for the policy {entry.policy!r}, got "
                f"{most or 'none'}; write 'budget: {{images: 6}}' into the study"
            )
            raise ConfigurationError(message)
        own = {**shared, **entry.settings}
        return arm.settings(base, most, own).but(**entry.settings)
    own = {**shared, **entry.settings}
    if images is not None:
        own["max_images"] = images
    return Settings(**own)


def _template(
    entry: ArmEntry,
    settings: Settings,
    folder: Path,
    bank: Path | None,
    usual: Path | None,
) -> str | None:
    """Return the text of an arm's own template, or ``None`` if it has none."""
    chosen, examples, choice = entry.examples, None, None
    if chosen is None and not entry.blocks:
        return None
    if chosen is not None:
        own = None if chosen.bank is None else folder / chosen.bank
        file = next((one for one in (bank, own, usual) if one is not None), None)
        examples = None if file is None else read_bank(file)
        many = chosen.number or len(examples or ()) or None
        # Also where all are shown: one of the very prompt is then left out.
        choice = many and (chosen.choice, many)
    return variant(
        OURS,
        settings.optimizer_template,
        blocks=entry.blocks,
        examples=examples,
        choice=choice or None,
    )


def _in_words(entry: ArmEntry) -> str:
    """Return what an arm is, where its file does not say."""
    if entry.policy is not None:
        return ARMS.find(entry.policy).title
    return ", ".join(f"{name} {value}" for name, value in entry.settings.items())
