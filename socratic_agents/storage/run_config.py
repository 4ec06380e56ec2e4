"""``config.json``: what a run was started with, and whether it may be resumed so."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from socratic_agents.config.field import Decides
from socratic_agents.config.fields import CHOICE, FIELDS, defaults_of
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.outcome import SCHEMA
from socratic_agents.storage.files import quarantine_file, write_atomic
from socratic_agents.storage.folder import CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = (
    "CONFIG",
    "OtherSettingsError",
    "check_resumable",
    "chosen_by_run",
    "decisive_settings",
    "read_config",
    "write_config",
)

DEPTH = 3
"""Folders above an image of a run in which its directory is."""
LARGEST = 2**20
"""Bytes of a run's config that are read to show what it chose."""
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a config raises that is none of ours."""
_FREE = Decides.COST | Decides.PLACE | Decides.PRIVACY
PERFORMANCE_ONLY = frozenset(
    name for name, field in FIELDS.items() if not field.decides & ~_FREE
)
"""Settings that do not decide what comes out; a run is resumed with others of them."""


class OtherSettingsError(ConfigurationError):
    """A run was started with other settings."""


def write_config(
    folder: Path, settings: Mapping[str, Any], templates: Mapping[str, str]
) -> None:
    """Write what this process runs with.

    Raises:
        OSError: If it cannot be written.
    """
    config = {
        "schema": SCHEMA,
        "pid": os.getpid(),
        "settings": settings,
        "templates": templates,
    }
    config["sha256"] = _hash(config)
    write_atomic(folder / CONFIG, json.dumps(config, indent=2).encode() + b"\n")


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return what the run was started with; a corrupt file goes to quarantine.

    Raises:
        ConfigurationError: If it is of another version.
        OSError: If it cannot be read or moved.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
        intact = config.pop("sha256") == _hash(config)
    except _UNREADABLE:
        intact = False
    if not intact:
        quarantine_file(folder, path)
        return None
    if config["schema"] != SCHEMA:
        message = (
            f"expected a run of version {SCHEMA} in {folder}, got version "
            f"{config['schema']}; use the release of this package that made it, "
            "or choose another folder"
        )
        raise ConfigurationError(message)
    return config


def chosen_by_run(file: Path) -> dict[str, str | None] | None:
    """Return what the run that a file lies in chose: its models, judge and selector.

    Nothing is written or moved, and whatever cannot be read is no run.

    Args:
        file: In the run's directory, or in a folder of it.
    """
    for folder in file.absolute().parents[:DEPTH]:
        path = folder / CONFIG
        try:
            with path.open("rb") as stream:
                settings = json.loads(stream.read(LARGEST))["settings"]
            given = {name: settings.get(name) for name in CHOICE}
        except (*_UNREADABLE, OSError):
            continue
        if all(isinstance(value, str | None) for value in given.values()):
            return given
    return None


def check_resumable(
    folder: Path,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    templates: Mapping[str, str],
) -> None:
    """Refuse to resume a run with other settings than those it was started with.

    Raises:
        OtherSettingsError: If they differ; it lists the differences.
    """
    before = _decisive(config["settings"], config["templates"])
    now = _decisive(settings, templates)
    changes = [
        f"{name}: {json.dumps(before.get(name))} -> {json.dumps(now.get(name))}"
        # A setting that the release of now does not have any more decides nothing.
        for name in sorted(before.keys() & now.keys())
        if before.get(name) != now.get(name)
    ]
    if changes:
        message = (
            f"expected the settings with which {folder} was started, got other "
            f"ones ({', '.join(changes)}); use the same, choose another folder, "
            "or use --continue-with to run the rest with these"
        )
        raise OtherSettingsError(message)


def decisive_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what comes out, by name.

    One that an earlier release did not have had its default.
    """
    whole = defaults_of(FIELDS) | dict(settings)
    return {k: v for k, v in sorted(whole.items()) if k not in PERFORMANCE_ONLY}


def _decisive(
    settings: Mapping[str, Any], templates: Mapping[str, str]
) -> dict[str, Any]:
    named = {f"{role} template": sha256 for role, sha256 in templates.items()}
    return decisive_settings(settings) | named


def _hash(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
