"""What can be turned: each dial with its settings, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from socratic_agents.lab.stress.world import Dials

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("STRESSES", "Stress")

_CALM = Dials()


@dataclass(frozen=True, kw_only=True)
class Stress:
    """One dial that is turned, in a world that is otherwise the same."""

    name: str
    """Also the field of ``Dials`` that is turned, unless ``turned`` says another."""
    title: str
    """What goes wrong, in a line."""
    values: tuple[float, ...]
    """Its settings, each from 0 to 1."""
    world: Dials = _CALM
    """What goes wrong beside it, so that there is something to search for."""
    turned: str = ""
    prompts: Literal["canonical", "foreign"] = "canonical"

    def at(self, value: float) -> Dials:
        """Return the world with this dial at a value."""
        turned: dict[str, Any] = {self.turned or self.name: value}
        return replace(self.world, **turned)


_NOISY = Dials(seed_noise=0.2)

_ALL = (
    Stress(
        name="seed_noise",
        title="An attribute fails by prompt and seed together.",
        values=(0.1, 0.2, 0.3),
    ),
    Stress(
        name="noise_of_seed",
        title="An attribute fails by the seed alone.",
        values=(0.1, 0.2, 0.3),
    ),
    Stress(
        name="wording",
        title="An attribute fails by the words alone.",
        values=(0.1, 0.2, 0.3),
    ),
    Stress(
        name="distilled",
        title="It fails by the words alone, and no seed changes the image.",
        values=(0.1, 0.2, 0.3),
        world=Dials(distilled=True),
        turned="wording",
    ),
    Stress(
        name="hard_concepts",
        title="Some values fail with every other seed, whatever the words.",
        values=(0.1, 0.2, 0.4),
    ),
    Stress(
        name="swapped_colours",
        title="Two objects have each other's colour.",
        values=(0.2, 0.5, 0.8),
    ),
    Stress(
        name="missed_objects",
        title="The second object is left out.",
        values=(0.2, 0.5, 0.8),
    ),
    Stress(
        name="foreign_words",
        title="Words that the generator never learned are drawn as others.",
        values=(0.3, 0.6, 1.0),
        prompts="foreign",
    ),
    Stress(
        name="vqa_error",
        title="Answers are wrong; attributes fail by prompt and seed.",
        values=(0.05, 0.1, 0.2),
        world=_NOISY,
    ),
    Stress(
        name="yes_bias",
        title="A no is answered by yes; attributes fail by prompt and seed.",
        values=(0.2, 0.5, 0.8),
        world=_NOISY,
    ),
    Stress(
        name="caption_error",
        title="Captions name attributes wrongly; attributes fail by prompt and seed.",
        values=(0.1, 0.2, 0.4),
        world=_NOISY,
    ),
    Stress(
        name="llm_error",
        title="The chat model is wrong; attributes fail by prompt and seed.",
        values=(0.1, 0.3, 1.0),
        world=Dials(seed_noise=0.1),
    ),
    Stress(
        name="mixed",
        title="Attributes fail by the words as often as by prompt and seed.",
        values=(0.05, 0.1, 0.2),
        world=_NOISY,
        turned="wording",
    ),
)

STRESSES: Mapping[str, Stress] = MappingProxyType({one.name: one for one in _ALL})
"""Every dial by name, in the order of the table."""
