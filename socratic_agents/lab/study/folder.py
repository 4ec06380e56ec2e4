"""The folder of a study: what was planned, what came of it, and what it is worth.

``DIR/`` holds ``study.json``, ``arms/<arm>/<seed>/`` (each a run directory with a
``scores.json``), ``templates/``, ``cache/`` and the report.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.agents.registry import find_templates
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.scores import Scores
from socratic_agents.lab.study.manifest import check_manifest
from socratic_agents.storage.files import read_file, write_files
from socratic_agents.storage.results import NOT_ONE, RESULTS, read_outcomes
from socratic_agents.storage.run_config import PERFORMANCE_ONLY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socratic_agents.core.outcome import Failure, Refinement
    from socratic_agents.lab.study.arms import PlannedArm
    from socratic_agents.lab.study.plan import StudyPlan

__all__ = ("MANIFEST", "ArmRun", "StudyFolder", "manifest_of", "public_settings")

SCHEMA = 1
"""Version of ``study.json``."""

MANIFEST = "study.json"
SCORES = "scores.json"

PACKAGES = (
    *("socratic-agents", "torch", "diffusers", "transformers", "open_clip_torch"),
    *("langchain-core", "numpy", "scipy", "sacrebleu"),
)
"""Whose versions a reader may need."""

DECIDES = ("name", "prompts", "arms", "seeds")
"""What a resumed study must have as it was begun."""


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """One arm with one seed: what came of each prompt, and its scores."""

    arm: str
    seed: int
    folder: str
    """Relative to the study's, with ``/``."""
    outcomes: Mapping[int, Refinement | Failure]
    """By the prompt's place; those that are not run yet are not there."""
    scores: Mapping[str, Scores]
    """By metric, of all candidates of the refined prompts, in order."""


class StudyFolder:
    """Where a study is kept.

    Args:
        path: Made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Write what is planned, or resume it.

        Raises:
            ConfigurationError: If another study was begun here.
        """
        before = None
        with suppress(OSError):
            before = (self.path / MANIFEST).lstat()
        if before is not None:
            old, new = self.manifest(), json.loads(json.dumps(manifest))
            changed = [name for name in DECIDES if old.get(name) != new[name]]
            if changed:
                message = (
                    f"expected the study with which {self.path} was started, got other "
                    f"{' and '.join(changed)}; run the same one, or choose another "
                    "folder"
                )
                raise ConfigurationError(message)
        elif self.path.is_dir() and any(self.path.iterdir()):
            message = (
                f"expected an empty folder or that of a study, got {self.path}, where "
                "something else lies; choose another one"
            )
            raise ConfigurationError(message)
        text = json.dumps(manifest, indent=1, allow_nan=False)
        write_files(self.path, {MANIFEST: f"{text}\n".encode()})

    def manifest(self) -> dict[str, Any]:
        """Return what was planned.

        Raises:
            ConfigurationError: If nothing was, or it cannot be read.
        """
        try:
            data: dict[str, Any] = json.loads(read_file(self.path / MANIFEST))
            if data["schema"] == SCHEMA:
                check_manifest(data)
                return data
            came = f"version {str(data['schema'])[:20]!r}"
        except OSError:
            came = "none"
        except (ValueError, KeyError, TypeError, RecursionError):
            came = f"a {MANIFEST} that is damaged"
        message = (
            f"expected a folder of 'socratic lab run', got {came} in {self.path}; "
            "run a study there first"
        )
        raise ConfigurationError(message)

    def run_folder(self, arm: str, seed: int) -> Path:
        """Return the run directory of an arm and a seed."""
        return self.path / "arms" / arm / str(seed)

    def outcomes(self, arm: str, seed: int) -> dict[int, Refinement | Failure]:
        """Return what came of the prompts so far, by their places."""
        folder = self.run_folder(arm, seed)
        if not (folder / RESULTS).exists():
            return {}
        return {one.index: one for one in read_outcomes(folder)}

    def scores(self, arm: str, seed: int) -> dict[str, Scores]:
        """Return what was measured; nothing, where the results are other ones now."""
        try:
            path = self.run_folder(arm, seed) / SCORES
            data = json.loads(read_file(path))
            if data["results"] != self._hash(arm, seed):
                return {}
            return {one["metric"]: Scores.from_json(one) for one in data["scores"]}
        except (OSError, *NOT_ONE, ConfigurationError):
            return {}

    def keep_scores(self, arm: str, seed: int, scores: Mapping[str, Scores]) -> None:
        """Write what was measured of an arm and a seed."""
        data = {
            "results": self._hash(arm, seed),
            "scores": [one.to_json() for one in scores.values()],
        }
        text = json.dumps(data, allow_nan=False).encode()
        write_files(self.run_folder(arm, seed), {SCORES: text})

    def runs(self, manifest: Mapping[str, Any]) -> list[ArmRun]:
        """Return all arms with all seeds, as far as they are."""
        return [
            ArmRun(
                arm=arm["name"],
                seed=seed,
                folder=f"arms/{arm['name']}/{seed}",
                outcomes=self.outcomes(arm["name"], seed),
                scores=self.scores(arm["name"], seed),
            )
            for arm in manifest["arms"]
            for seed in manifest["seeds"]
        ]

    def _hash(self, arm: str, seed: int) -> str:
        path = self.run_folder(arm, seed) / RESULTS
        data = path.read_bytes() if path.is_file() else b""
        return hashlib.sha256(data).hexdigest()


def manifest_of(plan: StudyPlan, command: str | None) -> dict[str, Any]:
    """Return what a study's folder says of it, as JSON.

    Args:
        plan: Of the study.
        command: What was typed.
    """
    return {
        "schema": SCHEMA,
        "name": plan.name,
        "title": plan.study.title,
        "about": plan.study.about,
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
        "sets": plan.drawn,
        "prompts": [
            {"set": prompt.source, **prompt.row.to_json()} for prompt in plan.prompts
        ],
        "arms": list(map(_arm_json, plan.arms)),
        "metrics": [
            {"name": m.name, "title": m.title, "higher_is_better": m.higher_is_better}
            for m in plan.metrics
        ],
        "against": plan.against,
        "seeds": list(plan.seeds),
        "command": command,
        "versions": _versions(),
    }


def public_settings(arm: PlannedArm, seed: int) -> dict[str, Any]:
    """Return the settings of an arm as they are kept: without what is only here."""
    shown = arm.settings.public() | {"seed": seed}
    if arm.template is not None:
        shown["optimizer_template"] = f"templates/{arm.name}.yaml"
    return shown


def _arm_json(arm: PlannedArm) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        templates = find_templates(arm.ready(Path(place)))
    hidden = {"seed", "run_budget", *PERFORMANCE_ONLY}
    return {
        "name": arm.name,
        "about": arm.about,
        "continued_by": arm.continued_by,
        "settings": {
            k: v for k, v in public_settings(arm, 0).items() if k not in hidden
        },
        "templates": {
            role: {"name": one.name, "sha256": one.sha256}
            for role, one in templates.items()
        },
    }


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
