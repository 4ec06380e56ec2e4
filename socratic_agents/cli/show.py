"""The command ``socratic show``: what an image was made from, and how to reproduce it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from socratic_agents.config.fields import FIELDS
from socratic_agents.config.recipes.recognition import recipe_of
from socratic_agents.core.errors import PromptError
from socratic_agents.core.prompts import sanitize_for_terminal, validate_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from socratic_agents.storage.provenance import Provenance

__all__ = ("command_again", "register", "shell_words")

OFF = {"judge": "never", "selector": "first", "guard": "none", "scorer": "none"}
"""What switches off all that one image of one prompt does not need."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("show")(_show)


def _show(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE.png", help="An image of a run.", show_default=False
        ),
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON on stdout.")
    ] = False,
) -> int:
    """Print what an image was made from, and the command that reproduces it."""
    from socratic_agents.runtime.readiness.licences import licence_of
    from socratic_agents.storage.provenance import read_provenance
    from socratic_agents.storage.run_config import chosen_by_run

    provenance = read_provenance(image)
    words = command_again(provenance)
    command = None if words is None else shell_words(words)
    remarks = list(_remarks(provenance, words))
    named = provenance.kind == "name"
    recipe = recipe_of(provenance.model) if named else None
    licence = licence_of(provenance.model) if named else None
    chosen = chosen_by_run(image)
    if as_json:
        shown = provenance.to_json() | {
            "recipe": recipe and str(recipe),
            "licence": licence and str(licence),
            "run": chosen,
            "command": command,
            "remarks": remarks,
        }
        typer.echo(json.dumps(shown, allow_nan=False))
        return 0
    for name, value in provenance.to_json().items():
        for line in _lines(name, value):
            typer.echo(sanitize_for_terminal(line, longest=20_000))
    if recipe is not None:
        typer.echo(f"recipe: {recipe}")
    elif licence is not None:
        typer.echo(f"licence: {licence}")
    for name, value in (chosen or {}).items():
        typer.echo(sanitize_for_terminal(f"run {name.replace('_', ' ')}: {value}"))
    for remark in remarks:
        typer.echo(sanitize_for_terminal(remark))
    if command is not None:
        typer.echo(f"\n{command}")
    return 0


def command_again(provenance: Provenance) -> tuple[str, ...] | None:
    """Return the command that reproduces an image, word by word.

    ``None``: there is none, because the generator was an object of a program, or
    because the command line would not take the prompt as it is.

    Args:
        provenance: Of the image.
    """
    if provenance.kind == "object":
        return None
    try:
        if validate_prompt(provenance.prompt) != provenance.prompt:
            return None
    except PromptError:
        return None
    options = ["--profile", "pocket", "--generator", provenance.model]
    options += ["--rounds", "1", "--seeds-per-prompt", "1"]
    options += ["--seed", str(provenance.seed)]
    options += _generator_options(provenance)
    if provenance.model != "pocket":  # what pocket models say of it does not matter
        options.append("--allow-pocket")
    for name, value in OFF.items():
        options += [FIELDS[name].option, value]
    if provenance.prompt.startswith("-"):  # or it would be taken for an option
        return ("socratic", "refine", *options, "--", provenance.prompt)
    return ("socratic", "refine", provenance.prompt, *options)


def _generator_options(provenance: Provenance) -> list[str]:
    """Return the options of the settings that decide the image."""
    from socratic_agents.storage.provenance import CALL

    written, options = provenance.to_json(), []
    recipe = recipe_of(provenance.model) if provenance.kind == "name" else None
    decided = recipe.settings if recipe else {}
    for name in CALL:
        option = FIELDS[name].option
        # Given either way: a profile may switch it on.
        if isinstance(value := getattr(provenance, name), bool):
            options.append(option if value else f"--no-{option[2:]}")
        elif name in written:
            options += [option, str(value)]
        elif name in decided:  # which was not asked for, and would be now
            options += [option, "none"]
    return options


def shell_words(words: Sequence[str]) -> str:
    """Return words as a shell reads them, with nothing that could steer a terminal.

    What cannot be seen is written in octal between ``$'`` and ``'``, which bash, zsh,
    ksh and POSIX shells since 2024 know.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    shown = "".join(
        (f"\\{letter}" if letter in "'\\" else letter)
        if letter.isprintable()
        else "".join(f"\\{byte:03o}" for byte in letter.encode())
        for letter in word
    )
    return f"$'{shown}'"


def _lines(name: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{name} {key}: {each}" for key, each in value.items())
    elif name != "schema":
        yield f"{name.replace('_', ' ')}: {value}"


def _remarks(provenance: Provenance, words: Sequence[str] | None) -> Iterator[str]:
    """Yield what stands in the way of an identical image."""
    from importlib.metadata import version

    this = version("socratic-agents")
    if provenance.version != this:
        yield (
            f"made with version {provenance.version}, this is {this}: the image may "
            "come out differently"
        )
    if provenance.kind == "folder":
        yield (
            "the model was loaded from a folder of this name: give its path as "
            "--generator"
        )
    if provenance.kind == "object":
        yield "the model was a Python object: only that program can reproduce the image"
    elif words is None:
        yield "the command line does not accept this prompt unchanged"
