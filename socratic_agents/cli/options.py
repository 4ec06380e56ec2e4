"""The settings as options of the command line."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.config.fields import FIELDS
from socratic_agents.config.profiles import default_in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.config.field import Field

__all__ = ("with_settings",)


def with_settings(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command every setting as an option; they arrive as ``overrides``.

    Settings themselves check the values. Secrets are no options, and where the command
    has a parameter of that name, it means something else by it.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "overrides"]
    taken = {p.name for p in own}
    options = [
        _option(field)
        for field in FIELDS.values()
        if not field.secret and field.name not in taken
    ]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> int:
        given = {option.name: kwargs.pop(option.name) for option in options}
        overrides = {name: value for name, value in given.items() if value is not None}
        return command(*args, overrides=overrides, **kwargs)

    parameters = [*own, *options]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def _option(field: Field) -> inspect.Parameter:
    """Return a setting as a parameter whose default says that nobody gave it."""
    names = [f"{field.option}/--no-{field.option[2:]}"] if field.is_flag else []
    info = typer.Option(
        *names,
        metavar=None if field.is_flag else field.metavar,
        help=field.help,
        show_default=default_in_words(field.name),
        rich_help_panel=field.group,
    )
    kind = bool | None if field.is_flag else str | None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, info],
    )
