"""Which recipe is a model's: by a hub id's name, or by what its files say.

A name alone is the last resort where there are files. Nothing is downloaded or imported
for it.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.config.recipes.table import RECIPES

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from socratic_agents.config.recipes.recipe import Recipe

__all__ = ("nearest_sizes", "recipe_of", "recipe_settings", "unchosen")

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FEW_STEPS = re.compile(
    r"turbo|lightning|hyper|lcm|tcd|dmd|schnell|flash|fast|distill|\d-?steps?\b"
)
"""What names say of models that were distilled to few steps."""
_OTHER_WORK = re.compile(
    r"edit|kontext|fill|inpaint|control|redux|canny|depth|refiner|layered|omni"
    r"|img2img|pix2pix|i2i|upscal|video|[it]2v"
)
"""What names say of models that do something else than draw from a text."""
_FEW_STEP_SCHEDULERS = ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler")


def recipe_of(model: object, *, base: object = None) -> Recipe | None:
    """Return the recipe of a model, or ``None`` if nobody knows it.

    Args:
        model: A hub id, the path of a folder or a file, or a diffusers pipeline.
        base: Of a file: what it was made from, by a hub id or a folder. It is told by
            that, and by its own name only that it takes few steps.
    """
    if base is not None:
        recipe = recipe_of(base)
        few = recipe and _unlike(recipe, _normal(Path(str(model)).stem))
        return None if few else recipe
    if isinstance(model, str | os.PathLike):
        return _of_name(str(os.fspath(model)).strip())
    if hasattr(model, "scheduler") and hasattr(model, "components"):
        return _of_object(model)
    return None


def recipe_settings(
    model: object, taken: Container[str], *, base: object = None
) -> dict[str, int | float]:
    """Return what a model's recipe says of settings about which nobody said anything.

    Args:
        model: As for ``recipe_of``.
        taken: Settings of which somebody did.
        base: As for ``recipe_of``.
    """
    recipe = recipe_of(model, base=base)
    said = recipe.settings if recipe else {}
    return {name: value for name, value in said.items() if name not in taken}


def unchosen(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return which numbers of a recipe a pipeline takes of itself; empty: none.

    Args:
        given: Settings of its calls, ``None`` where nobody said anything.
        defaults: What its calls do where they are told nothing.
    """
    scales = {"guidance_scale", "true_cfg_scale"}
    chosen = {name for name, value in given.items() if value is not None}
    left = {"steps"} - chosen | (set() if chosen & scales else scales)
    return ", ".join(f"{name} {defaults[name]}" for name in defaults if name in left)


def nearest_sizes(
    model: object, pixels: int, *, base: object = None
) -> tuple[Recipe, int, int] | None:
    """Return a model's recipe and the nearest sides that it draws; ``None`` if it fits.

    Args:
        model: As for ``recipe_of``.
        pixels: Of a side.
        base: As for ``recipe_of``.
    """
    recipe = recipe_of(model, base=base)
    if recipe is None or pixels % recipe.multiple == 0:
        return None
    below = pixels // recipe.multiple * recipe.multiple
    return recipe, max(below, recipe.multiple), below + recipe.multiple


def _of_name(name: str) -> Recipe | None:
    path = Path(name).expanduser()
    with suppress(OSError, ValueError):  # no path at all, or one that nobody may read
        if path.is_dir():
            return _of_folder(path)
        if path.is_file():
            return _named(path.stem)
    return _named(name.rpartition("/")[2]) if _HUB_ID.fullmatch(name) else None


def _of_folder(folder: Path) -> Recipe | None:
    def fact(key: str) -> object:
        part, _, name = key.rpartition(".")
        files = {"": "model_index.json", "scheduler": "scheduler_config.json"}
        file = folder / part / files.get(part, "config.json")
        return _json(file).get(name)

    return _told(str(fact("_class_name")), fact, folder.resolve().name)


def _json(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):  # what is wrong with it, loading it says
        read = json.loads(file.read_bytes())
        if isinstance(read, dict):
            return read
    return {}


def _of_object(pipeline: Any) -> Recipe | None:
    def config(part: str) -> Any:
        of = getattr(pipeline, part, None) if part else pipeline
        return getattr(of, "config", None)

    def fact(key: str) -> object:
        part, _, name = key.rpartition(".")
        if name == "_class_name":
            return type(getattr(pipeline, part, None)).__name__
        return getattr(config(part), name, None)

    name = str(getattr(config(""), "_name_or_path", "") or "")
    return _told(type(pipeline).__name__, fact, name.rpartition("/")[2])


def _told(pipeline: str, fact: Callable[[str], object], name: str) -> Recipe | None:
    """Return the recipe of a pipeline class by facts, and its name where they tell not."""
    text = _normal(name)
    for recipe in RECIPES:
        if recipe.pipeline != pipeline:
            continue
        found = {key: fact(key) for key in recipe.told_by}
        told = bool(found) and found == recipe.told_by
        # A scheduler may be another one than its model came with.
        denied = any(
            value is not None and value != recipe.told_by[key]
            for key, value in found.items()
            if not key.startswith("scheduler.")
        )
        if told or (re.search(recipe.names, text) and not denied):
            return None if _unlike(recipe, text) else recipe
        few = fact("scheduler._class_name") in _FEW_STEP_SCHEDULERS
        if recipe.general:
            return None if few or _unlike(recipe, text) else recipe
    return None


def _named(name: str) -> Recipe | None:
    text = _normal(name)
    known = (recipe for recipe in RECIPES if re.search(recipe.names, text))
    recipe = next(known, None)
    if recipe is None or _OTHER_WORK.search(text):
        return None
    return None if _unlike(recipe, text) else recipe


def _unlike(recipe: Recipe, text: str) -> bool:
    """Return whether a name speaks of few steps, of which the recipe knows nothing."""
    return not recipe.distilled and _FEW_STEPS.search(text) is not None


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
