"""What the registries hold, and which packages it is from."""

from __future__ import annotations

import json
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.config.registry import PluginWarning
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.config.registry import Registry

__all__ = ("REGISTRIES", "register")

REGISTRIES = (
    "agents.judges:JUDGES",
    "agents.selectors:SELECTORS",
    "agents.optimizer:OPTIMIZERS",
    "agents.search.registry:SEARCHES",
    "agents.guard:GUARDS",
    "agents.checklist_answerers:ANSWERERS",
    "runtime.generators:GENERATORS",
    "runtime.captioners:CAPTIONERS",
    "runtime.open_models:SCORERS",
    "lab.metrics.registry:METRICS",
    "lab.compare.arms:ARMS",
    "lab.datasets.catalog:PROMPT_SETS",
)
"""Where each one is, below ``socratic_agents``; imported when they are listed."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("plugins")(_plugins)


def _plugins(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON on stdout.")
    ] = False,
) -> int:
    """List judges, selectors and all else that has a name, with the package it is from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # each is printed below
        rows = list(_rows())
    for row in rows:
        if row["error"]:
            warning = "warning: cannot load {kind} '{name}' of {package}: {error}"
            sys.stderr.write(f"{sanitize_for_terminal(warning.format(**row))}\n")
    if as_json:
        typer.echo(json.dumps(rows))
        return 0
    names = ("kind", "name", "package", "title")
    lines = [
        [sanitize_for_terminal(row[name] or "cannot be loaded") for name in names]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for texts in lines:
        cells = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    return 0


def _rows() -> Iterator[dict[str, str | None]]:
    for place in REGISTRIES:
        module, _, name = place.partition(":")
        registry: Registry[Any] = getattr(
            import_module(f"socratic_agents.{module}"), name
        )
        for one in registry.listed():
            yield {
                "kind": registry.kind.partition(" ")[2],
                "name": one.name,
                "package": one.package,
                "title": one.entry.title if one.entry is not None else None,
                "error": one.error,
            }
