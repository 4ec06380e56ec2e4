"""Conflicts: settings that are fine each, and contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.config.catalog import QWEN3_VL_4B
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.messages import public_value
from socratic_agents.config.recipes.recognition import nearest_sizes, recipe_of
from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socratic_agents.config.settings import Settings

__all__ = ("conflict", "refuse_settings")


_HERE = ("pocket", "captioner")
"""Language models that no server has."""


def conflict(settings: Settings) -> str | None:
    """Return what contradicts what, and what to do, or ``None``.

    What only the registries know, such as which judges need a scorer, is not looked
    at here.
    """
    most, seeds = settings.max_images, settings.seeds_per_prompt
    unfit = not isinstance(settings.captioner, str) and not hasattr(
        settings.captioner, "fit"
    )
    names = ("generator", "captioner", "scorer", "final_generator")
    models = {name: getattr(settings, name) for name in names}
    finals = settings.final_images if settings.final_generator is not None else 0
    alone = [
        name
        for name in ("final_steps", "final_guidance_scale")
        if getattr(settings, name) is not None and not finals
    ]
    given = ", ".join(
        f"{name} {public_value(model)!r}"
        for name, model in models.items()
        if not isinstance(model, str | None)
    )
    scales = [
        scale
        for scale in (settings.guidance_scale, settings.true_cfg_scale)
        if scale is not None
    ]
    contradictions = {
        "expected names for workers, which open the models elsewhere, got the "
        f"object {given}; name it, or leave workers out": settings.workers and given,
        f"expected max_images to be at least seeds_per_prompt ({seeds}), "
        f"got {most}; raise the one or lower the other": most and most < seeds,
        f"expected max_images to be at least seeds_per_prompt and final_images together "
        f"({seeds} + {finals}), got {most}; raise the one or lower the others": most
        and finals
        and most < seeds + finals,
        f"expected a final_generator for {' and '.join(alone)}, got none; name one, or "
        "leave it out": alone,
        "expected workers or a final_generator, got both; leave one out, since workers "
        "open one generator": settings.workers and finals,
        "expected something that ends a refinement, got neither rounds nor max_images "
        "nor a budget of images; give one of them": settings.rounds is None
        and most is None
        and settings.budget.images is None
        and isinstance(settings.search, str | None),
        "expected a captioner with 'fit' for scorer 'captioner', got "
        f"{public_value(settings.captioner)!r}; give one, or name another scorer": unfit
        and settings.scorer == "captioner",
        "expected a guidance_scale (or true_cfg_scale) above 1 for a negative prompt, "
        f"which has no effect otherwise, got {', '.join(f'{s:g}' for s in scales)}; "
        "raise the one, or leave out the other": settings.negative_prompt is not None
        and scales
        and max(scales) <= 1,
        f"expected an llm that base_url leads to, got {settings.llm!r}, which needs no "
        "server; name one, such as llm='openai:MODEL'": settings.base_url
        and settings.llm in _HERE,
        "expected a captioner that can write for llm 'captioner', got 'pocket', whose "
        f"few words make no JSON; name one, such as {QWEN3_VL_4B}": (
            settings.llm == "captioner" and settings.captioner == "pocket"
        ),
        "expected a captioner or an llm that is a model, got captioner 'llm' and llm "
        "'captioner', which stand for each other; name one of them": (
            settings.llm == "captioner" and settings.captioner == "llm"
        ),
        "expected another scorer beside captioner 'llm', which gives no scores, got "
        "'captioner'; name a scorer's model, or none": (
            settings.scorer == "captioner" and settings.captioner == "llm"
        ),
        f"expected a device to offload from, got offload {settings.offload!r} on the "
        "cpu; leave offload out": settings.offload and settings.device == "cpu",
        "expected answerer 'captioner' for a reader, which reads for it, got 'llm'; "
        "leave reader out, or change answerer": settings.reader
        and settings.answerer == "llm",
        "expected a device to offload from, got captioner_offload "
        f"{settings.captioner_offload!r} on the cpu; leave captioner_offload out": (
            settings.captioner_offload and settings.device == "cpu"
        ),
    }
    found = (message for message, found in contradictions.items() if found)
    return next(found, None) or _misfit(settings) or _unguided(settings)


def _misfit(settings: Settings) -> str | None:
    """Return that a generator that is named does not draw images of some size."""
    if not isinstance(settings.generator, str):
        return None
    for name in ("width", "height"):
        if (pixels := getattr(settings, name)) is None:
            continue
        base = settings.generator_config
        found = nearest_sizes(settings.generator, pixels, base=base)
        if found is None:
            continue
        recipe, *nearest = found
        near = " or ".join(map(str, dict.fromkeys(nearest)))
        return (
            f"expected a {name} in multiples of {recipe.multiple}, in which "
            f"{recipe.family} draws, got {pixels}; take {near}"
        )
    return None


def _unguided(settings: Settings) -> str | None:
    """Return that no guidance can be chosen for the images of these settings."""
    if settings.guidance_grid is None:
        return None
    recipe = recipe_of(settings.generator, base=settings.generator_config)
    reasons = {
        f"{recipe and recipe.family}, which is distilled and guided no more": recipe
        and recipe.distilled,
        "batching 'step'": settings.batching == "step",
        f"workers {settings.workers!r}": settings.workers,
    }
    found = next((what for what, true in reasons.items() if true), None)
    return found and (
        f"expected no guidance_grid for {found}, got {settings.guidance_grid!r}; leave "
        "one of them out"
    )


def refuse_settings(settings: Settings, names: Iterable[str], what: str) -> None:
    """Say of settings that would be passed over in silence that they are of no use.

    Args:
        settings: As they were given.
        names: Of those that are of no use.
        what: Takes none of them.

    Raises:
        ConfigurationError: If one is not its default.
    """
    for name in names:
        value = getattr(settings, name)
        if value != FIELDS[name].default:
            message = (
                f"expected no {name} for {what}, which takes none, got {value!r}; "
                "leave it out"
            )
            raise ConfigurationError(message)
