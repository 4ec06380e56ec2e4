"""The final generator: with which settings it is opened beside that of the drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socratic_agents.config.field import Decides, Part
from socratic_agents.config.fields import deciding, defaults_of
from socratic_agents.config.recipes.recognition import recipe_settings

if TYPE_CHECKING:
    from socratic_agents.config.settings import Settings

__all__ = ("final_settings",)

OPENAI = "https://api.openai.com"
SHARED = frozenset(
    ("width", "height", "negative_prompt", "dtype", "quantization", "batching")
) | frozenset(("channels_last", "compile", "vae_batch", "strict"))
"""What is meant for both generators; the rest is the drafts' alone."""


def final_settings(settings: Settings) -> Settings | None:
    """Return the settings under which the final generator is the generator.

    Steps, guidance and what else belongs to the model of the drafts are not its own;
    the recipe of its family says what nobody said. A key goes to no other images server
    than the one that it is for.

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
        "guidance_grid": None,
    }
    drafts, final = map(_server, (settings.generator, settings.final_generator))
    if drafts is not None and drafts != final:
        # The key is for the drafts' server, and so is the other one where no language
        # model is asked with it.
        changes["image_api_key"] = None
        if not isinstance(settings.llm, str) or ":" not in settings.llm:
            changes["api_key"] = None
    return settings.model_copy(update=changes)


def _server(generator: object) -> tuple[str, ...] | None:
    """Return the images server that a generator is asked at; ``None``: it is at none."""
    if not isinstance(generator, str):
        return None
    if generator.startswith("openai:"):
        generator = OPENAI
    if not generator.startswith(("http://", "https://")):
        return None
    address = urlsplit(generator)
    port = {"http": "80", "https": "443"}[address.scheme]
    name, _, given = address.netloc.rpartition("@")[2].partition(":")
    return address.scheme, name.lower(), given or port
