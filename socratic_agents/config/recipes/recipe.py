"""Recipe: how the authors of a model family draw with it, and on which terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Licence", "Recipe")


@dataclass(frozen=True)
class Licence:
    """On which terms weights may be used."""

    name: str
    commercial: bool | None
    """Whether commercial use is free; ``None``: under conditions."""

    def __str__(self) -> str:
        """Return it in words."""
        use = {True: "free", False: "not free", None: "free under conditions"}
        return f"{self.name}, commercial use {use[self.commercial]}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What suits the models of one family."""

    family: str
    pipeline: str
    """Class of diffusers that draws with it."""
    names: str
    """Pattern of its hub ids and folders: lower case, without owner, words with ``-``."""
    told_by: Mapping[str, object] = field(default_factory=dict)
    """What a folder's configurations say of it alone: ``"part.key"`` to the value."""
    general: bool = False
    """Whether whatever its pipeline class draws with is taken for it."""
    distilled: bool = False
    """Whether it needs few steps, so that a name which says so is its own."""
    steps: int
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    """Guidance by a second call with a negative prompt; without one it needs ``" "``."""
    max_sequence_length: int | None = None
    """Tokens of a prompt that it was trained to read, where its pipeline reads more."""
    size: int = 1024
    """Pixels of a side that its pipeline draws where nobody says how many."""
    multiple: int = 16
    """Of which sides must be multiples."""
    licence: Licence
    needs: str = ""
    memory: str = ""
    """Of a card, as others say (2nd) or as the weights add up (sum)."""

    @property
    def settings(self) -> dict[str, int | float]:
        """What it says of settings."""
        names = ("steps", "guidance_scale", "true_cfg_scale", "max_sequence_length")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def __str__(self) -> str:
        """Return it on one line."""
        said = [
            f"{n.replace('_', ' ')} {value:g}" for n, value in self.settings.items()
        ]
        drawn = f"{self.size}x{self.size} by default, in multiples of {self.multiple}"
        parts = [f"{self.family}: {', '.join(said)}", drawn, str(self.licence)]
        parts += [f"needs {self.needs}"] if self.needs else []
        parts += [f"memory {self.memory}"] if self.memory else []
        return "; ".join(parts)
