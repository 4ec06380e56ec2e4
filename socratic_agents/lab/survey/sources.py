"""Sources of a survey: the image that each arm returned for each prompt."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.outcome import Refinement
from socratic_agents.storage.files import read_file
from socratic_agents.storage.objects import ObjectStore
from socratic_agents.storage.results import read_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("ShownImage", "read_arms")

TRIALS = "trials.jsonl"
FIGURES = "comparison.json"

PromptKey = tuple[str, int]
"""A user prompt, and the how manieth time it was given."""


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image that an arm returned, and what automatic judges said of it."""

    folder: Path
    path: str
    """In the folder: ``objects/<sha256>.png``."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Metric's name to value, higher is better."""

    def read(self) -> bytes:
        """Return the PNG file.

        Raises:
            ConfigurationError: If it is not there as it was written.
        """
        data = ObjectStore(self.folder).get(self.path)
        if data is None:
            message = (
                f"expected {self.path} in {self.folder} as it was written, got another "
                "file or none; restore it, or run the arm again"
            )
            raise ConfigurationError(message)
        return data


def read_arms(folder: Path, arms: str) -> dict[str, dict[PromptKey, ShownImage | None]]:
    """Return what each arm returned for every prompt; ``None`` where it has no image.

    Args:
        folder: Of a comparison, as ``socratic lab compare --out`` keeps it.
        arms: Names of its arms with commas; ``name=DIR`` is the run directory of
            ``socratic batch`` under a name.

    Raises:
        ConfigurationError: If there are fewer than two arms, one is unknown, or a
            folder does not hold what is expected.
    """
    wanted = [name.strip() for name in arms.split(",") if name.strip()]
    names = [one.partition("=")[0].strip() for one in wanted]
    if len(set(names)) < max(2, len(names)) or not all(names):
        message = f"expected two or more arms, each once, got {arms!r}; name them"
        raise ConfigurationError(message)
    compared = {}
    if any("=" not in one for one in wanted):
        compared = _compared(folder)
    found: dict[str, dict[PromptKey, ShownImage | None]] = {}
    for name, one in zip(names, wanted, strict=True):
        if "=" in one:
            found[name] = _refined(Path(one.partition("=")[2].strip()))
        elif name in compared:
            found[name] = compared[name]
        else:
            message = (
                f"expected arms of {', '.join(sorted(compared))} or name=DIR, "
                f"got {name!r}; choose among them"
            )
            raise ConfigurationError(message)
    return found


def _compared(folder: Path) -> dict[str, dict[PromptKey, ShownImage | None]]:
    """Return the arms of a comparison."""
    try:
        lines = read_file(folder / TRIALS).splitlines()
        metric = json.loads(read_file(folder / FIGURES))["metric"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        message = (
            f"expected a folder with {TRIALS} and {FIGURES}, got {folder}; make one with "
            "'socratic lab compare --out', or name folders of batches as name=DIR"
        )
        raise ConfigurationError(message) from None
    rows: dict[str, list[tuple[str, ShownImage | None]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            trial = json.loads(line)
            arm, row = str(trial["arm"]), _trial(folder, str(metric), trial)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            message = (
                f"expected line {number} of {folder / TRIALS} to be a trial, got "
                "something else; restore the file, or run the comparison again"
            )
            raise ConfigurationError(message) from None
        rows.setdefault(arm, []).append(row)
    if not any(shown for arm in rows.values() for _, shown in arm):
        message = (
            f"expected a comparison that kept its images, got {folder} without any; "
            "run 'socratic lab compare --out' again"
        )
        raise ConfigurationError(message)
    return {arm: _numbered(row) for arm, row in rows.items()}


def _trial(
    folder: Path, metric: str, trial: Mapping[str, Any]
) -> tuple[str, ShownImage | None]:
    prompt, path = str(trial["user_prompt"]), trial.get("image")
    if path is None:
        return prompt, None
    scores = {**trial["selection"], metric: trial["reported"]}
    return prompt, ShownImage(folder=folder, path=str(path), scores=_finite(scores))


def _refined(folder: Path) -> dict[PromptKey, ShownImage | None]:
    """Return a run directory as an arm."""
    rows: list[tuple[str, ShownImage | None]] = []
    for outcome in read_outcomes(folder):
        shown = None
        if isinstance(outcome, Refinement) and outcome.best.path is not None:
            best = outcome.best
            shown = ShownImage(
                folder=folder, path=str(best.path), scores=_finite(best.scores)
            )
        rows.append((outcome.user_prompt, shown))
    return _numbered(rows)


def _numbered(
    rows: Iterable[tuple[str, ShownImage | None]],
) -> dict[PromptKey, ShownImage | None]:
    """Return rows by their prompt, which may be given more than once."""
    seen = Counter[str]()
    numbered: dict[PromptKey, ShownImage | None] = {}
    for text, shown in rows:
        # Half a surrogate pair is no character, and no file can be written with it.
        prompt = text.encode("utf-8", "replace").decode("utf-8")
        numbered[prompt, seen[prompt]] = shown
        seen[prompt] += 1
    return numbered


def _finite(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores that are numbers; a missing one is left out."""
    return {
        str(name): float(value)
        for name, value in scores.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
