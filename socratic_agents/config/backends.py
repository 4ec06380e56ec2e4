"""Back ends: what opens the image models that the settings name by a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.config.registry import Registry

__all__ = ("Backend", "choose_backend")

Opener = TypeVar("Opener")


@dataclass(frozen=True, kw_only=True)
class Backend(Generic[Opener]):
    """Opens models of one kind, such as diffusers pipelines or those of a server."""

    name: str
    """Also what a setting begins with that is for this back end, as in ``name:model``."""
    title: str
    """What it opens, in a line."""
    open: Opener
    claims: Callable[[str], bool] | None = None
    """Whether a setting's value is for this back end; ``None``: its name is, and
    whatever begins with its name and a colon."""

    def is_for(self, value: str) -> bool:
        """Return whether a setting's value is for this back end."""
        if self.claims is not None:
            return self.claims(value)
        return value == self.name or value.startswith(f"{self.name}:")


def choose_backend(
    backends: Registry[Backend[Opener]], value: str, *, default: str
) -> Backend[Opener]:
    """Return the back end that a setting's value is for.

    Args:
        backends: Are asked in their order, ours first.
        value: Of the setting.
        default: Name of the back end for what nobody claims.
    """
    for name in backends:
        # A plug-in that cannot be loaded has warned, and claims nothing.
        entry = None if name == default else backends.get(name)
        if entry is not None and entry.is_for(value):
            return entry
    return backends[default]
