"""Choice: what the settings chose, and what each part of it needs to run here."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from socratic_agents.agents.registry import find_roles, find_templates
from socratic_agents.config.card import Card, cards_for
from socratic_agents.config.loras import parse_loras
from socratic_agents.config.profiles import LOCAL, pick_profile
from socratic_agents.config.recipes.recognition import recipe_of
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.assembly.weights_file import ENDINGS, HUB_FILE
from socratic_agents.pocket.mixing import check_mixing
from socratic_agents.runtime.readiness.endings import endings
from socratic_agents.runtime.readiness.finding import Finding
from socratic_agents.runtime.readiness.licences import licence_finding
from socratic_agents.runtime.readiness.memory import memory_findings
from socratic_agents.runtime.readiness.parts import model_parts, read_weights
from socratic_agents.runtime.readiness.places import locate
from socratic_agents.runtime.readiness.servers import server_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from socratic_agents.config.settings import Settings
    from socratic_agents.models.hub import HubProblem
    from socratic_agents.runtime.readiness.parts import Part, Weights

__all__ = ("choice_findings", "needed_packages")

HUB = re.compile(r"[\w-][\w.-]*(/[\w-][\w. -]*)+")
"""A model of the hub, or something of one."""
BITS = ("4bit", "8bit")
"""Quantization that only NVIDIA's cards do."""
GENERATORS = ("generator", "final_generator")
LARGE = 10**9
"""Numbers of a model from which on a processor takes minutes for an image."""
PACKAGES = {
    "pocket": ("torch", "diffusers", "transformers", "open_clip"),
    "diffusers": ("torch", "diffusers", "transformers", "accelerate"),
    "transformers": ("torch", "torchvision", "transformers"),
    "clip": ("torch", "open_clip"),
}
"""What each back end imports."""


def choice_findings(settings: Settings, today: date) -> Iterator[Finding]:
    """Check what the settings chose, part by part.

    The hub is asked for models of it that are not on this machine, once each, and
    nothing but their names goes there.

    Args:
        settings: The choice.
        today: By which models have ended.
    """
    card, cards, kind = _cards(settings)
    yield card
    found: dict[str, Weights] = {}
    known: list[HubProblem] = []
    for part in model_parts(settings):
        place = locate(part, known)
        yield place.finding
        weights = read_weights(part, place.folder) if part.is_loaded else None
        if weights is not None:
            found[part.role] = weights
        yield from _recipe(part, settings)
        if part.is_own:
            yield from licence_finding(part.role, part.name, place.folder)
    yield from _brought(settings)
    yield from _hardware(settings, kind, found)
    yield from memory_findings(settings, found, cards)
    speaks = bool(find_templates(settings)) or find_roles(settings).needs_llm
    yield from server_findings(settings, speaks=speaks)
    yield from endings(settings, today)
    try:
        check_mixing(settings, speaks=speaks)
    except ConfigurationError as error:
        yield Finding("problem", "pocket models", str(error))


def _cards(settings: Settings) -> tuple[Finding, tuple[Card, ...], str]:
    """Return where the image models run: on these cards of a kind, as torch calls it.

    Without cards they run on the processor.
    """
    there = cards_for(settings.device)
    named = " and ".join(f"{c.name}, {c.memory / 10**9:.1f} GB" for c in there)
    pick = (
        f"; {LOCAL!r} is {pick_profile({'profile': LOCAL, 'device': settings.device})}"
    )
    if find_spec("torch") is None:
        kind = "cuda" if there else "cpu"
        return Finding("ok", "card", (named or "none is found") + pick), there, kind
    try:
        kinds, found = zip(*map(_card_of, settings.devices), strict=True)
    except ConfigurationError as error:
        return Finding("problem", "card", str(error)), (), "cpu"
    used = tuple(filter(None, found))
    if there and not used:
        text = (
            f"{named} is there, but this torch cannot use it; install one that is built "
            "for it, and its driver"
        )
        return Finding("problem", "card", text), (), "cpu"
    if not used:
        text = f"none is found, so models run on the processor{pick}"
        return Finding("ok", "card", text), (), "cpu"
    named = " and ".join(f"{c.name}, {c.memory / 10**9:.1f} GB" for c in used)
    return Finding("ok", "card", named + pick), used, kinds[0]


def _card_of(device: str | None) -> tuple[str, Card | None]:
    """Return what torch means by a device, and its card; a processor has none."""
    import torch

    from socratic_agents.models.devices import choose_device

    chosen = choose_device(device)
    if chosen.type == "cuda":
        card = torch.cuda.get_device_properties(chosen)
        return chosen.type, Card(card.name, card.total_memory)
    on_card = chosen.type == "mps"
    return chosen.type, next(iter(cards_for(device)), None) if on_card else None


def _recipe(part: Part, settings: Settings) -> Iterator[Finding]:
    """Say how a generator is drawn with where the settings say nothing."""
    if part.role not in GENERATORS or not part.is_loaded:
        return
    base = settings.generator_config if part.role == "generator" else None
    recipe = recipe_of(part.name, base=base)
    name = part.role.replace("generator", "recipe")
    if recipe is not None:
        yield Finding("ok", name, str(recipe))
    else:
        text = f"none for {part.shown!r}; its pipeline's own defaults are used"
        yield Finding("warning", name, text)


def _brought(settings: Settings) -> Iterator[Finding]:
    """Say where what the generator is put together from is, beside its own files."""
    sources = [("lora", one.source) for one in parse_loras(settings.lora or ())]
    sources += [(name, getattr(settings, name)) for name in ("vae", "generator_config")]
    for name, source in sources:
        if source is None:
            continue
        if Path(source).expanduser().exists():
            yield Finding("ok", name, f"{source}: on this machine")
        elif (HUB_FILE if source.endswith(ENDINGS) else HUB).fullmatch(source):
            text = f"{source}: not a path of this machine, so the hub is asked for it"
            yield Finding("warning", name, text)
        else:
            yield Finding("problem", name, f"{source}: there is none; check the path")


def _hardware(
    settings: Settings, kind: str, weights: Mapping[str, Weights]
) -> Iterator[Finding]:
    """Say what only a card can do, and what a processor does slowly."""
    for name in ("quantization", "captioner_quantization"):
        if (bits := getattr(settings, name)) in BITS and kind != "cuda":
            text = f"{bits} needs an NVIDIA graphics card, and models run on {kind}"
            yield Finding("problem", name, f"{text}; leave it out")
    if kind != "cpu":
        return
    for name in ("offload", "captioner_offload"):
        if value := getattr(settings, name):
            text = f"{value} needs a graphics card, and none is used; leave it out"
            yield Finding("problem", name, text)
    large = [role for role, one in weights.items() if one.parameters >= LARGE]
    if large:
        text = f"{' and '.join(large)} on the processor: minutes for an image"
        yield Finding("warning", "speed", text)


def needed_packages(settings: Settings) -> dict[str, str]:
    """Return the modules that the choice imports, each with what imports it first.

    Args:
        settings: The choice.
    """
    needed: dict[str, str] = {}
    for part in model_parts(settings):
        for module in PACKAGES.get(part.backend, ()):
            needed.setdefault(module, part.role)
    for name in ("quantization", "captioner_quantization"):
        if getattr(settings, name) in BITS:
            needed.setdefault("bitsandbytes", name)
    if settings.lora is not None:
        needed.setdefault("peft", "lora")
    if settings.llm == "captioner":
        needed.setdefault("llguidance", "llm")
    return needed
