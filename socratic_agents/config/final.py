"""The final generator: with which settings it is opened beside that of the drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.config.field import Decides, Part
from socratic_agents.config.fields import deciding, defaults_of
from socratic_agents.config.recipes.recognition import recipe_settings

if TYPE_CHECKING:
    from socratic_agents.config.settings import Settings

__all__ = ("final_settings",)

SHARED = frozenset(
    ("width", "height", "negative_prompt", "dtype", "quantization", "batching")
) | frozenset(("channels_last", "compile", "vae_batch", "strict"))
"""What is meant for both generators; the rest is the drafts' alone."""


def final_settings(settings: Settings) -> Settings | None:
    """Return the settings under which the final generator is the generator.

    Steps, guidance and what else belongs to the model of the drafts are not its own;
    the recipe of its family says what nobody said.

    Args:
        settings: Name both generators.

    Returns:
        ``None`` where they name no final generator.
    """
    if settings.final_generator is None:
        return None
    own = set(deciding(Decides.IMAGE | Decides.ROUNDING, Part.GENERATOR)) - SHARED
    given = {
        "steps": settings.final_steps,
        "guidance_scale": settings.final_guidance_scale,
    }
    said = {name: value for name, value in given.items() if value is not None}
    changes: dict[str, Any] = {
        **defaults_of(own),
        **recipe_settings(settings.final_generator, said),
        **said,
        "generator": settings.final_generator,
        "final_generator": None,
    }
    return settings.model_copy(update=changes)
