"""Places: whether a model's files are here, and whether they can be had if not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import install_line, require
from socratic_agents.models.assembly.weights_file import (
    ENDINGS,
    HUB_FILE,
    Holds,
    expect,
    find_file,
    read_weights_file,
)
from socratic_agents.models.clip import cached_weights
from socratic_agents.models.hub import (
    HubProblem,
    cached_folder,
    hub_problem,
    unfinished,
)
from socratic_agents.models.loading import check_folder
from socratic_agents.runtime.readiness.finding import Finding
from socratic_agents.runtime.readiness.parts import model_parts

if TYPE_CHECKING:
    from pathlib import Path

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.readiness.parts import Part

__all__ = ("Place", "check_hub", "locate")


@dataclass(frozen=True)
class Place:
    """Where a model's files are, in words and as a folder if they are here."""

    finding: Finding
    folder: Path | None = None


def locate(part: Part, known: list[HubProblem]) -> Place:
    """Return where a model's files are, or why they cannot be had.

    Args:
        part: The model.
        known: Why the hub was not reached before, which is not tried again; what is
            found of that now is added.
    """
    try:
        return _here(part) or _of_hub(part, known)
    except ConfigurationError as error:
        return _told(part, "problem", str(error))
    except ImportError as error:
        line = install_line(error)
        return _told(part, "problem", f"not looked for on the hub; run {line}")


def _told(part: Part, state: str, text: str, folder: Path | None = None) -> Place:
    return Place(Finding(state, part.role, f"{part.shown}: {text}"), folder)


def _here(part: Part) -> Place | None:
    """Return where a model is on this machine, if its name says that it is there.

    Raises:
        ConfigurationError: If it cannot be opened.
    """
    if not part.is_loaded:
        return _told(part, "ok", part.note)
    if part.file is not None:
        file = read_weights_file(part.file)
        expect(file, part.role, Holds.CHECKPOINT, Holds.DENOISER)
        return _told(part, "ok", f"a file of this machine, {file.holds}")
    if part.name.endswith(ENDINGS) and HUB_FILE.fullmatch(part.name):
        return _told(part, "warning", "a file of the hub, which is asked for it")
    find_file(
        part.name
    )  # which says so where it can only be a file's, and there is none
    folder = part.folder
    if folder is None:
        return None
    check_folder(folder, part.index)
    lacking = ", ".join(list(unfinished(folder))[:3])
    if lacking:
        return _told(part, "problem", f"its folder lacks {lacking}; copy it again")
    return _told(part, "ok", "a folder of this machine", folder)


def check_hub(settings: Settings) -> None:
    """Check that every model of the hub can be had, before the first one is loaded.

    A name that is wrong is told now, and not after gigabytes of another model.

    Args:
        settings: Name the models.

    Raises:
        ConfigurationError: If there is nothing to load it with.
        LoadError: If one is neither on this machine nor given out, and why.
    """
    for part in model_parts(settings):
        if not part.is_loaded:
            continue
        require("torch", purpose="to run models on this machine")
        try:
            if _here(part) is not None:
                continue
            problem = _asked(part) if _cached(part) is None else None
        except (ConfigurationError, ImportError):
            continue  # which is told where it is opened
        if problem is not None:
            raise problem.error(part.what, part.shown)


def _cached(part: Part) -> Path | None:
    """Return the folder in which the hub's cache has a model."""
    if part.hub_place is None:
        return None
    name, revision = part.hub_place
    if part.backend == "clip":
        return cached_weights(part.hub_place)
    return cached_folder(name, index=part.index, revision=revision)


def _asked(part: Part) -> HubProblem | None:
    """Return why the hub does not give a model out; ``None``: it does."""
    if part.hub_place is None:
        return None
    name, revision = part.hub_place
    return hub_problem(name, index=part.index, revision=revision)


def _of_hub(part: Part, known: list[HubProblem]) -> Place:
    if part.hub_place is None:
        text = "not of the hub, so it is not known whether it is here"
        return _told(part, "warning", text)
    cached = _cached(part)
    if cached is not None:
        return _told(part, "ok", "in the hub's cache", cached)
    problem = next(iter(known), None) or _asked(part)
    if problem is None:
        text = "not here yet; the hub gives it out, at the first run"
        return _told(part, "warning", text)
    if problem.everywhere and not known:
        known.append(problem)
    text = f"not on this machine, and {problem.reason}; {problem.advice}"
    return _told(part, "problem", text)
