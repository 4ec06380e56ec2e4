"""Profiles and presets: named sets of settings that everything else starts from.

A profile says with which models, a preset with which policy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from socratic_agents.config.field import Decides, Part
from socratic_agents.config.fields import FIELDS, deciding

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "PRESETS",
    "PROFILES",
    "REVISIONS",
    "default_in_words",
    "resolve_preset",
    "resolve_profile",
    "spread_images",
)

PROFILES: dict[str, dict[str, Any]] = {
    # Calls of one size: what is there to be tried out comes out alike every time.
    "pocket": {"strict": True},
    "local": {
        "generator": "stabilityai/stable-diffusion-xl-base-1.0",
        "captioner": "Salesforce/blip2-opt-2.7b",
        "scorer": "ViT-B-32-quickgelu/openai",
        "llm": "openai:gpt-5-mini",
        "steps": 25,
        "width": 1024,
        "height": 1024,
    },
    "api": {
        "generator": "https://api.openai.com/v1",
        "image_model": "gpt-image-1",
        "captioner": "HuggingFaceTB/SmolVLM-256M-Instruct",
        "scorer": "ViT-B-32-quickgelu/openai",
        "llm": "openai:gpt-5-mini",
        "width": 1024,
        "height": 1024,
        "in_flight": 16,
    },
    "classic": {"preset": "classic", "strict": True},
}
"""What each profile sets; the rest is each field's own default, the pocket world."""

_CHECKED: dict[str, Any] = {
    "judge": "checklist",
    "selector": "checklist",
    "guard": "llm",
    "seeds_per_prompt": 1,
    "fresh_noise": False,
}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {**_CHECKED, "rounds": 4, "prompts_per_round": 2},
    "default": {**_CHECKED, "rounds": 4, "prompts_per_round": 4},
    "thorough": {**_CHECKED, "rounds": 6, "prompts_per_round": 6},
    "classic": {
        "scorer": None,
        "judge": "caption",
        "selector": "caption",
        "guard": None,
        "optimizer_template": "classic",
        "rounds": 6,
        "prompts_per_round": 1,
        "seeds_per_prompt": 1,
        "fresh_noise": True,
    },
}
"""What each preset sets. ``docs/presets.md`` has the measurements behind them."""

REVISIONS = {
    "HuggingFaceTB/SmolVLM-256M-Instruct": "7e3e67edbbed1bf9888184d9df282b700a323964",
    "Salesforce/blip2-opt-2.7b": "59a1ef6c1e5117b3f65523d1c6066825bcf315e3",
    "stabilityai/stable-diffusion-xl-base-1.0": (
        "462165984030d82259a11f4367a4eed129e94a7b"
    ),
}
"""The commit of each hub model that we name, so that it stays what it is."""


def spread_images(preset: Mapping[str, Any], images: int) -> dict[str, Any]:
    """Return a preset that spreads few images over all its rounds.

    A second round that spends all would leave none to learn from.

    Args:
        preset: With ``rounds`` and ``prompts_per_round``.
        images: In all, at least 1.
    """
    each = math.ceil((images - 1) / max(1, preset["rounds"] - 1))
    fewer = min(preset["prompts_per_round"], max(1, each))
    return {**preset, "prompts_per_round": fewer}


def resolve_preset(preset: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset sets, fitted to what else was said.

    Few images are spread over its rounds, and its checklist gives way where nobody
    can answer it.

    Args:
        preset: Its name; one that is none sets nothing.
        given: What stronger sources say, as they wrote it.
    """
    values = _named(PRESETS, preset)
    most = str(given.get("max_images") or "").strip()
    outright = {"rounds", "prompts_per_round"} & given.keys()
    if values and most.isdecimal() and not outright:
        values = spread_images(values, int(most))
    if values.get("judge") == "checklist" and _cannot_answer(given):
        # Nobody chose this selector, so it must not be the one that needs a scorer.
        scored = str(given.get("scorer", "pocket")).strip().lower() != "none"
        selector = "clip" if scored else "caption"
        values |= {"judge": "caption", "selector": selector, "guard": None}
    return values


def resolve_profile(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what profile and preset set, of which stronger sources change parts.

    Args:
        given: What stronger sources say, as they wrote it.
    """
    profile = _named(PROFILES, given.get("profile", FIELDS["profile"].default))
    preset = given.get("preset", profile.get("preset", FIELDS["preset"].default))
    values = {**resolve_preset(preset, given), **profile}
    own = values.get("generator", FIELDS["generator"].default)
    if given.get("generator", own) != own:
        # What a profile says of its own generator, it says of no other.
        for detail in deciding(Decides.IMAGE | Decides.ROUNDING, Part.GENERATOR):
            values.pop(detail, None)
    return values


def default_in_words(name: str) -> str:
    """Return what a setting is where nobody says anything, and who decides that."""
    field = FIELDS[name]
    value = resolve_profile({}).get(name, field.default)
    if isinstance(value, bool):
        shown = "on" if value else "off"
    elif value is None:
        shown = field.unset or "none"
    else:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
    by = [
        kind
        for kind, sets in (("preset", PRESETS), ("profile", PROFILES))
        if any(name in values for values in sets.values())
    ]
    return f"{shown}, by {' and '.join(by)}" if by else shown


def _named(sets: dict[str, dict[str, Any]], name: object) -> dict[str, Any]:
    return dict(sets.get(name.strip(), {})) if isinstance(name, str) else {}


def _cannot_answer(given: Mapping[str, Any]) -> bool:
    """Return whether a captioner of the user's own only captions."""
    captioner = given.get("captioner")
    if captioner is None or isinstance(captioner, str) or given.get("answerer"):
        return False
    return not hasattr(captioner, "decide") and not hasattr(captioner, "answer")
