"""Profiles: named sets of settings that everything else starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_settings import PydanticBaseSettingsSource

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ("PROFILES", "REVISIONS", "ProfileSource")

PROFILES: dict[str, dict[str, Any]] = {
    "pocket": {"rounds": 5, "prompts_per_round": 4},
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
    "classic": {
        "scorer": None,
        "judge": "caption",
        "selector": "caption",
        "optimizer_template": "classic",
        "prompts_per_round": 1,
        "seeds_per_prompt": 1,
    },
}
"""What each profile sets; the rest is each field's own default, the pocket world."""

REVISIONS = {
    "HuggingFaceTB/SmolVLM-256M-Instruct": "7e3e67edbbed1bf9888184d9df282b700a323964",
    "Salesforce/blip2-opt-2.7b": "59a1ef6c1e5117b3f65523d1c6066825bcf315e3",
    "stabilityai/stable-diffusion-xl-base-1.0": (
        "462165984030d82259a11f4367a4eed129e94a7b"
    ),
}
"""The commit of each hub model that we name, so that it stays what it is."""

_GENERATOR_DETAILS = ("image_model", "steps", "guidance_scale", "width", "height")
"""What a profile says of its own generator, and of no other."""


class ProfileSource(PydanticBaseSettingsSource):
    """The profile's values; asked last, so that everything else wins."""

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 - the signature is given
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Return nothing: the values come together, from ``__call__``."""
        return (
            None,
            field_name,
            False,
        )  # pragma: no cover - pydantic-settings asks __call__

    def __call__(self) -> dict[str, Any]:
        """Return what the profile sets, of which stronger sources change parts."""
        name = self.current_state.get("profile", "pocket")
        values = dict(PROFILES.get(name, {})) if isinstance(name, str) else {}
        generator = self.current_state.get("generator", values.get("generator"))
        if generator != values.get("generator"):
            for detail in _GENERATOR_DETAILS:
                values.pop(detail, None)
        return values
