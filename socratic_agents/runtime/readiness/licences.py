"""Licences: on which terms the models of a choice may be used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socratic_agents.config.catalog import MODELS
from socratic_agents.config.recipes.recognition import recipe_of
from socratic_agents.runtime.readiness.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from socratic_agents.config.recipes.recipe import Licence

__all__ = ("licence_finding", "licence_of")

PAGE = 2**16
"""Bytes of a model's page that are read."""
_SAID = re.compile(rb"^license(?:_name)?:\s*['\"]?([\w. +-]{1,60})", re.MULTILINE)


def licence_of(name: str) -> Licence | None:
    """Return the licence of a model that is known, else ``None``.

    Args:
        name: As a setting has it.
    """
    if name in MODELS:
        return MODELS[name].licence
    recipe = recipe_of(name)
    return None if recipe is None else recipe.licence


def licence_finding(role: str, name: str, folder: Path | None) -> Iterator[Finding]:
    """Say on which terms a model may be used, as far as that is known here.

    Args:
        role: The setting that names it.
        name: The model.
        folder: Where its files are, which may say it.
    """
    if name == "pocket":
        yield Finding("ok", f"{role} licence", "that of this package, MIT")
        return
    licence = licence_of(name)
    if licence is not None:
        state = "ok" if licence.commercial else "warning"
        yield Finding(state, f"{role} licence", str(licence))
    elif said := folder and _said_in(folder):
        text = f"{said}, as its folder says; read whether that allows what you do"
        yield Finding("ok", f"{role} licence", text)
    else:
        text = "not known here; read it where the model comes from"
        yield Finding("warning", f"{role} licence", text)


def _said_in(folder: Path) -> str | None:
    try:
        with (folder / "README.md").open("rb") as page:
            start = page.read(PAGE)
    except OSError:
        return None
    head = start.split(b"\n---", 1)[0] if start.startswith(b"---") else b""
    found = _SAID.search(head)
    return found and found[1].decode("ascii", "replace").strip()
