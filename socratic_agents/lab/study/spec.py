"""A study: which prompts, which arms and which metrics, as one file says it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from socratic_agents.config.settings import Settings
from socratic_agents.core.budget import Budget
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.file_names import file_name_fault

__all__ = (
    "MOST_IMAGES",
    "POCKET",
    "Ablation",
    "ArmEntry",
    "Examples",
    "Grid",
    "Pocket",
    "PromptSource",
    "Spending",
    "Study",
)

MOST_IMAGES = 64
"""Images of an arm for a prompt; the settings allow no more seeds of it."""

MOST_ARMS = 1_000
"""Combinations of a grid; each is a folder, and a refinement of every prompt."""

POCKET = "pocket"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.=+-]{0,63}$")]
"""Of an arm; it names a folder, too."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PromptSource(_Strict):
    """Some prompts of one set."""

    set_name: str = Field(alias="set")
    """One of ``PROMPT_SETS``, or ``pocket``."""
    name: str | None = None
    """What the report calls it; ``None``: the set's own."""
    file: Path | None = None
    """Where the set lies, relative to the study's file; ``None`` downloads it."""
    column: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    """``None``: all of them."""
    method: Literal["random", "systematic", "stratified"] = "random"
    stratify: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    kind: Literal["foreign", "canonical", "terse"] = "foreign"
    """Of the pocket world's prompts."""
    min_words: Annotated[int, Field(ge=1)] | None = None
    max_words: Annotated[int, Field(ge=1)] | None = None

    @property
    def title(self) -> str:
        """What the report calls it."""
        return self.name or self.set_name


class Examples(_Strict):
    """The examples that an arm's template shows, in place of its own."""

    bank: Path | None = None
    """A file of ``socratic lab harvest``; ``None``: the template's own examples."""
    number: Annotated[int, Field(ge=1)] | None = None
    """``None``: all of them."""
    choice: Literal["fixed", "similar", "mmr"] = "fixed"


class ArmEntry(_Strict):
    """One way to refine."""

    about: str = ""
    policy: str | None = None
    """One of ``ARMS`` that needs no more than settings, such as ``best_of_n``."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it sets beyond the study's own; any setting may stand beside this as well."""
    blocks: dict[str, str] = Field(default_factory=dict)
    """Blocks of its optimizer's template to their texts in this arm."""
    examples: Examples | None = None
    continued_by: str | None = None
    """The arm that draws the same and does not stop, to see what stopping cost."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        """Take settings that stand beside the other keys."""
        if given is None:
            return {}
        if not isinstance(given, dict):
            return given
        beside = {k: v for k, v in given.items() if k in Settings.model_fields}
        rest = {k: v for k, v in given.items() if k not in beside}
        return rest | {"settings": (rest.get("settings") or {}) | beside}


class Grid(_Strict):
    """All combinations of some settings, each an arm."""

    factors: dict[str, dict[Name, Any] | list[Any]]
    """Setting to its values, or to a name of each value."""
    settings: dict[str, Any] = Field(default_factory=dict)


class Ablation(_Strict):
    """A template whole, and without one of its blocks at a time."""

    template: str
    without: list[str] = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)


class Spending(_Strict):
    """What may be spent."""

    images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] | None = None
    """Of each arm for a prompt; ``None``: the arms' own settings decide."""
    run: dict[str, float | int] | str | None = None
    """What the whole study may spend, as ``run_budget``."""


class Pocket(_Strict):
    """What is other where the pocket world draws."""

    prompts: list[PromptSource] | None = None
    metrics: list[str] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    bank: Path | None = None
    """Examples for the arms that show some, in place of their template's own."""


class Study(_Strict):
    """A study as its file says it."""

    title: str = Field(min_length=1)
    about: str = ""
    notes: list[str] = Field(default_factory=list)
    """What a reader of the report must know, a sentence each."""
    prompts: list[PromptSource] = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    arms: dict[Name, ArmEntry] = Field(default_factory=dict)
    grid: Grid | None = None
    ablation: Ablation | None = None
    against: str | None = None
    """The arm that all others are compared with; ``None``: the first one."""
    metrics: list[str] = Field(min_length=1)
    """The first one is what the study is about."""
    budget: Spending = Spending()
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    """Each is a repeat of everything; a prompt's values are averaged over them."""
    pocket: Pocket = Pocket()

    @property
    def run_budget(self) -> Budget:
        """What the whole study may spend."""
        return Budget.parse(self.budget.run)

    def every_arm(self) -> dict[str, ArmEntry]:
        """Return the arms that are written out, those of the grid, and the ablations.

        Raises:
            ConfigurationError: If there are none, or two have one name.
        """
        found = [*self.arms.items(), *self._of_grid(), *self._of_ablation()]
        # Not every file system tells apart what differs by capital letters.
        names = Counter(name.lower() for name, _ in found)
        twice = [name for name, _ in found if names[name.lower()] > 1]
        if twice or not found:
            came = " and ".join(map(repr, twice[:2])) or "none"
            message = (
                "expected arms, each with a folder name of its own, whatever its "
                f"capital letters, got {came}"
            )
            raise ConfigurationError(message)
        for name, _ in found:
            if fault := file_name_fault(name):
                message = (
                    f"expected names of arms that can name folders, got {name!r}: "
                    f"{fault}; name it otherwise"
                )
                raise ConfigurationError(message)
        return dict(found)

    def _of_grid(self) -> list[tuple[str, ArmEntry]]:
        if self.grid is None:
            return []
        combinations = math.prod(map(len, self.grid.factors.values()))
        if combinations > MOST_ARMS:
            message = (
                f"expected a grid of at most {MOST_ARMS:,} arms, got {combinations:,}; "
                "leave some values out"
            )
            raise ConfigurationError(message)
        alone = len(self.grid.factors) == 1
        factors = [
            [
                (_plain(label) if alone else f"{factor}={_plain(label)}", factor, value)
                for label, value in pairs
            ]
            for factor, values in self.grid.factors.items()
            for pairs in [
                list(values.items())
                if isinstance(values, dict)
                else [(value, value) for value in values]
            ]
        ]
        arms = []
        for chosen in itertools.product(*factors):
            settings = self.grid.settings | {f: value for _, f, value in chosen}
            name = "+".join(label for label, _, _ in chosen)
            arms.append((name, ArmEntry(settings=settings)))
        return arms

    def _of_ablation(self) -> list[tuple[str, ArmEntry]]:
        if self.ablation is None:
            return []
        one = self.ablation
        whole = ArmEntry(settings={**one.settings, "optimizer_template": one.template})
        arms = [("whole", whole)]
        for block in one.without:
            template = f"{one.template} without {block}"
            settings = {**one.settings, "optimizer_template": template}
            arms.append((f"without_{block}", ArmEntry(settings=settings)))
        return arms


def _plain(label: Any) -> str:
    """Return a value as a part of an arm's name."""
    text = "".join(c if c.isalnum() or c in "_.-" else "_" for c in str(label))
    return text[:24]
