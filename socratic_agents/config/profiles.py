"""Profiles and presets: named sets of settings that everything else starts from.

A profile says with which models, a preset with which policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.config.card import cards_for
from socratic_agents.config.catalog import PROFILES
from socratic_agents.config.field import Group, Part
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.recipes.recognition import recipe_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = (
    "LOCAL",
    "PRESETS",
    "default_in_words",
    "pick_profile",
    "prompts_for",
    "resolve_other_generator",
    "resolve_preset",
    "resolve_profile",
)

LOCAL = "local"
"""Stands for the profile that suits the graphics card which is found."""
FINAL = "final_generator"
SIZES = {"local-80gb": 80, "local-24gb": 24, "local-16gb": 16}
"""The card that each is for, in GB; every smaller one gets ``local-8gb``."""
ROUGHLY = 0.9
"""What of its GB a card has at least, whichever way its maker counts."""

_CHECKED: dict[str, Any] = {
    "judge": "confirmed",
    "selector": "checklist",
    "guard": "llm",
    "seeds_per_prompt": 1,
    "fresh_noise": False,
    "rounds": None,
}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {**_CHECKED, "max_images": 6},
    "default": {**_CHECKED, "max_images": 12},
    "thorough": {**_CHECKED, "max_images": 24},
    "classic": {
        "scorer": None,
        "judge": "caption",
        "selector": "caption",
        "guard": None,
        "optimizer_template": "classic",
        "rounds": 6,
        "max_images": None,
        "prompts_per_round": 1,
        "seeds_per_prompt": 1,
        "fresh_noise": True,
    },
}
"""What each preset sets. ``docs/presets.md`` has the measurements behind them."""

FEW, MANY = 6, 12
"""Images of one refinement from which on a round has two and four prompts."""


def prompts_for(images: int) -> int:
    """Return how many prompts a round has where so many images may be drawn in all.

    A second round that spends all would leave none to learn from, and short rounds
    cost requests to the language model.

    Args:
        images: At least 1.
    """
    return 1 if images < FEW else 2 if images < MANY else 4


def resolve_preset(preset: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset sets, fitted to what else was said.

    Few images are spread over its rounds, and its checklist gives way where nobody
    can answer it.

    Args:
        preset: Its name; one that is none sets nothing.
        given: What stronger sources say, as they wrote it.
    """
    values = _named(PRESETS, preset)
    if "max_images" in given:
        values.pop("max_images", None)
    elif given.get("rounds") is not None and values:
        values["max_images"] = None
    most = str(given.get("max_images", values.get("max_images")) or "").strip()
    if values and most.isdecimal() and "prompts_per_round" not in values:
        values["prompts_per_round"] = prompts_for(int(most))
    if values.get("judge") == "confirmed" and _cannot_answer(given):
        # Nobody chose this selector, so it must not be the one that needs a scorer.
        scored = str(given.get("scorer", "pocket")).strip().lower() != "none"
        selector = "clip" if scored else "caption"
        values |= {"judge": "caption", "selector": selector, "guard": None}
    return values


def pick_profile(given: Mapping[str, Any]) -> Any:
    """Return the profile that is meant; ``local`` is one of its own by then.

    It goes by all memory of the card, and not by what is free of it now, so that the
    same command means the same tomorrow.

    Args:
        given: What stronger sources say, as they wrote it.
    """
    profile = given.get("profile", FIELDS["profile"].default)
    if not isinstance(profile, str) or profile.strip() != LOCAL:
        return profile
    device = given.get("device")
    named = device is None or isinstance(device, str)
    cards = cards_for(device) if named else ()
    memory = min((card.memory for card in cards), default=0) / 10**9
    fitting = (name for name, size in SIZES.items() if memory >= ROUGHLY * size)
    return next(fitting, "local-8gb")


def resolve_profile(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what profile and preset set, of which stronger sources change parts.

    Args:
        given: What stronger sources say, as they wrote it.
    """
    profile = _named(PROFILES, pick_profile(given))
    if profile.get("scorer") == "captioner" and not _can_score(given):
        profile["scorer"] = None
    preset = given.get("preset", profile.get("preset", FIELDS["preset"].default))
    fitted = ("scorer", "rounds", "max_images")
    own = {name: profile[name] for name in fitted if name in profile}
    values = {**resolve_preset(preset, {**own, **given}), **profile}
    for part in Part:
        name = str(part.name).lower()
        own = values.get(name, FIELDS[name].default)
        if given.get(name, own) != own:
            # What a profile says of its own model, it says of no other.
            for detail in _details(part):
                values.pop(detail, None)
            if part is Part.GENERATOR:
                values.pop(FINAL, None)
    if given.get("workers") is not None:
        values.pop(FINAL, None)  # which draws here alone
    chosen = given.get("generator", values.get("generator"))
    base = given.get("generator_config")
    return recipe_settings(chosen, given.keys() | values.keys(), base=base) | values


def resolve_other_generator(
    profile: str, known: Mapping[str, Any], generator: object, base: object
) -> dict[str, Any]:
    """Return what changes where another generator takes the place of a known one.

    What profile and recipe said of the known one goes with it.

    Args:
        profile: Its name.
        known: The settings until now.
        generator: The other one.
        base: Of a file: what it was made from.
    """
    own = {name: known[name] for name in ("generator", "generator_config")}
    brought = resolve_profile({"profile": profile, **own})
    gone = {
        name: FIELDS[name].default
        for name in _details(Part.GENERATOR)
        if name in brought and known[name] == brought[name]
    }
    if known[FINAL] is not None and known[FINAL] == PROFILES[profile].get(FINAL):
        gone[FINAL] = None
    stay = {name for name in known if known[name] != FIELDS[name].default} - gone.keys()
    return gone | recipe_settings(generator, stay, base=base)


def _details(part: Part) -> Iterator[str]:
    """Yield the settings that are about the calls of a model.

    Those that it shares with others go with the generator.
    """
    for name, field in FIELDS.items():
        if field.group is not Group.MODELS and (
            field.of is part or (part is Part.GENERATOR and field.of & part)
        ):
            yield name


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


def _named(sets: Mapping[str, dict[str, Any]], name: object) -> dict[str, Any]:
    return dict(sets.get(name.strip(), {})) if isinstance(name, str) else {}


def _can_score(given: Mapping[str, Any]) -> bool:
    """Return whether the captioner may say how surely an image shows a prompt."""
    captioner = given.get("captioner", "")
    return isinstance(captioner, str) or hasattr(captioner, "fit")


def _cannot_answer(given: Mapping[str, Any]) -> bool:
    """Return whether a captioner of the user's own only captions."""
    captioner = given.get("captioner")
    if captioner is None or isinstance(captioner, str) or given.get("answerer"):
        return False
    return not hasattr(captioner, "decide") and not hasattr(captioner, "answer")
