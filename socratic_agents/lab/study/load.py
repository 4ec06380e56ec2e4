"""The file of a study: found, read and validated."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.study.spec import (
    POCKET,
    Ablation,
    ArmEntry,
    Examples,
    Grid,
    Pocket,
    PromptSource,
    Spending,
    Study,
)
from socratic_agents.llm.yaml_files import parse_yaml
from socratic_agents.storage.files import read_file

__all__ = ("read_study", "shipped_studies")

LARGEST = 2**20
"""Bytes of a study's file."""


def shipped_studies() -> dict[str, Path]:
    """Return the studies that come with the package, by name."""
    folder = Path(__file__).parent / "catalog"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_study(name: str) -> tuple[Study, Path]:
    """Return a ready-made study by its name, or one's own by its path, and its file.

    Raises:
        ConfigurationError: If there is none, or it is not a good one; on one line.
    """
    ready = shipped_studies()
    file = ready.get(name, Path(name))
    if name not in ready and file.suffix not in {".yaml", ".yml"}:
        close = difflib.get_close_matches(name, list(ready), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "name one of these"
        message = f"expected a study ({', '.join(ready)}) or a .yaml file, got {name!r}; {hint}"
        raise ConfigurationError(message)
    try:
        data = parse_yaml(read_file(file, LARGEST))
    except OSError as problem:
        message = f"expected a file with a study, got {name!r} ({problem.strerror}); correct the path"
        raise ConfigurationError(message) from problem
    except ValueError as problem:
        message = f"{problem} (in {name!r})"
        raise ConfigurationError(message) from problem
    try:
        return Study.model_validate(data), file
    except ValidationError as problem:
        message = f"{_fault(problem)} (in {name!r})"
        raise ConfigurationError(message) from None


def _fault(problem: ValidationError) -> str:
    """Say in one line what is wrong first, where, and what was meant perhaps."""
    errors = problem.errors(include_url=False, include_context=False)
    # A key that is misspelt is missing as well, and says more.
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] != "extra_forbidden":
        came = f", got {' '.join(repr(error['input']).split())[:60]}"
        missing = error["type"] == "missing"
        return f"{place}: {error['msg']}{'' if missing else came}; see docs/studies.md"
    key, inside = str(error["loc"][-1]), str(error["loc"][0])
    models: dict[str, Any] = {
        "arms": ArmEntry,
        "prompts": PromptSource,
        "grid": Grid,
        "ablation": Ablation,
        "budget": Spending,
        POCKET: Pocket,
    }
    model: Any = models.get(inside, Study) if len(error["loc"]) > 1 else Study
    if "examples" in error["loc"][:-1]:
        model = Examples
    if inside == POCKET and len(error["loc"]) > 2:
        model = PromptSource
    known = [field.alias or name for name, field in model.model_fields.items()]
    known += list(Settings.model_fields) if model is ArmEntry else []
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"expected a key of a study, got {place}; {hint}"
