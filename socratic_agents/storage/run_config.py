"""``config.json``: what a run was started with, and whether it may be resumed so."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from socratic_agents.config.field import Decides
from socratic_agents.config.fields import FIELDS, defaults_of
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
    "decisive_settings",
    "read_config",
    "write_config",
)

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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
