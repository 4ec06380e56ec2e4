"""Conflicts: settings that are fine each, and contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.config.messages import public_value

if TYPE_CHECKING:
    from socratic_agents.config.settings import Settings

__all__ = ("conflict",)


def conflict(settings: Settings) -> str | None:
    """Return what contradicts what, and what to do, or ``None``.

    What only the registries know, such as which judges need a scorer, is not looked
    at here.
    """
    most, seeds = settings.max_images, settings.seeds_per_prompt
    unfit = not isinstance(settings.captioner, str) and not hasattr(
        settings.captioner, "fit"
    )
    models = {n: getattr(settings, n) for n in ("generator", "captioner", "scorer")}
    given = ", ".join(
        f"{name} {public_value(model)!r}"
        for name, model in models.items()
        if not isinstance(model, str | None)
    )
    contradictions = {
        "expected names for workers, which open the models elsewhere, got the "
        f"object {given}; name it, or leave workers out": settings.workers and given,
        f"expected max_images to be at least seeds_per_prompt ({seeds}), "
        f"got {most}; raise the one or lower the other": most and most < seeds,
        "expected a captioner with 'fit' for scorer 'captioner', got "
        f"{public_value(settings.captioner)!r}; give one, or name another scorer": unfit
        and settings.scorer == "captioner",
        "expected a guidance_scale above 1 for a negative prompt, which has no "
        f"effect otherwise, got {settings.guidance_scale}; raise the one, or leave out "
        "the other": settings.negative_prompt is not None
        and settings.guidance_scale is not None
        and settings.guidance_scale <= 1,
        "expected an llm that base_url leads to, got 'pocket', which needs no "
        "server; name one, such as llm='openai:MODEL'": settings.base_url
        and settings.llm == "pocket",
        f"expected a device to offload from, got offload {settings.offload!r} on the "
        "cpu; leave offload out": settings.offload and settings.device == "cpu",
    }
    return next((message for message, found in contradictions.items() if found), None)
