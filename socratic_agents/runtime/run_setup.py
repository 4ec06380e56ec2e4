"""Runs: the directory that keeps what some settings do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.agents.registry import find_templates
from socratic_agents.storage.provenance import encode_png, provenance_of
from socratic_agents.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings

__all__ = ("open_run_directory",)


def open_run_directory(
    path: Path,
    settings: Settings,
    *,
    shown: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunDirectory:
    """Return the directory of a run, whose images tell what they were made from.

    Args:
        path: The folder; made when it is opened, if it is not there.
        settings: What the run refines with.
        shown: What is kept of the settings; ``None``: all that may be shown.
        options: As for ``RunDirectory``.

    Raises:
        TemplateError: If a template cannot be found or read.
    """
    found = find_templates(settings)
    templates = {role: {"sha256": one.sha256} for role, one in found.items()}

    def encode(image: Image, prompt: str, seed: int) -> bytes:
        source = None
        if settings.metadata:
            source = provenance_of(settings, templates, prompt=prompt, seed=seed)
        return encode_png(image, source)

    return RunDirectory(
        path,
        settings=settings.public() if shown is None else shown,
        templates={role: template.sha256 for role, template in found.items()},
        encode=encode,
        **options,
    )
