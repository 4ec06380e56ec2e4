"""Mixing: models of the pocket world beside a generator from outside of it.

The pocket captioner calls a photograph of a street "a large blue square", and is as sure
of it as ever: a refinement would be wrong from its first round on, and look well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.config.catalog import LANGUAGE_MODEL, QWEN3_VL_2B
from socratic_agents.config.messages import public_value
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.pocket import weights_folder

if TYPE_CHECKING:
    from socratic_agents.config.settings import Settings

__all__ = ("check_mixing",)

POCKET = "pocket"
INSTEAD = {
    "captioner": f"captioner={QWEN3_VL_2B!r}",
    "scorer": "scorer='none'",
    "llm": f"llm={LANGUAGE_MODEL!r}",
}
"""What mends each part, as one would write it."""


def check_mixing(settings: Settings, *, speaks: bool) -> None:
    """Check that no pocket model has to judge what another generator draws.

    A pocket generator with other models beside it is fine: they know more than it.

    Args:
        settings: What is to be opened; nothing is loaded for that.
        speaks: Whether a language model will be asked anything.

    Raises:
        ConfigurationError: If one has to, and ``allow_pocket`` is not set.
    """
    drawing = (settings.generator, settings.final_generator)
    others = [one for one in drawing if one is not None and not _is_pocket(one)]
    if settings.allow_pocket or not others:
        return
    used = {
        "captioner": settings.captioner,
        "scorer": settings.scorer,
        "llm": settings.llm if speaks else None,
    }
    toys = [name for name, given in used.items() if given == POCKET]
    if not toys:
        return
    message = (
        f"expected no pocket models beside the generator "
        f"{public_value(others[0])!r}, whose images and words they do not know, "
        f"got the pocket {', '.join(toys)}; name others, such as "
        f"{', '.join(INSTEAD[name] for name in toys)}, or start from profile='local', "
        "or say --allow-pocket (allow_pocket=True) to try it all the same"
    )
    raise ConfigurationError(message)


def _is_pocket(generator: Any) -> bool:
    """Return whether this is the embedded generator, by its name or as an object."""
    if isinstance(generator, str):
        place: Any = generator
    else:
        pipeline = getattr(generator, "pipeline", generator)
        place = getattr(pipeline, "name_or_path", None)
    return place in (POCKET, str(weights_folder("generator")))
