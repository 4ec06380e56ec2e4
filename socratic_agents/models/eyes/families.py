"""Families: how captioners without a chat template are asked, each by what it learned.

A model with a chat template is asked in plain words, whatever its family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from socratic_agents.config.catalog import QWEN3_VL_2B
from socratic_agents.core.errors import ConfigurationError

__all__ = ("ANOTHER", "Family", "check_sees", "family_of")

ANOTHER = QWEN3_VL_2B
"""What is named where a captioner is none."""

BLIP_2_QUESTION = "Question: {question} Answer:"
"""Source: Li et al., BLIP-2 (2023), section 4.1."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family is asked; texts are for models without a chat template."""

    instruction: str = "Question: What does the image show? Answer:"
    """What it is told when it shall caption; nothing: the image alone."""
    question: str = BLIP_2_QUESTION
    reading: str = ""
    """What it is told when it shall read; nothing: a question as any other."""
    answers: bool = True
    """Whether it answers questions."""
    describes: bool = True
    """Whether it captions; what does not only reads."""
    marks: bool = True
    """Whether a text must say where the image stands; else its processor knows."""
    padded: bool = True
    """Whether texts may be filled up; if not, it counts places from the left end."""
    nested: bool = False
    """Whether its processor wants a list of images for each text."""


_ALONE = Family(instruction="", marks=False)
_READER = Family(instruction="", answers=False, describes=False)

FAMILIES: dict[str, Family] = {
    "": _ALONE,
    "blip-2": _ALONE,
    "blip": replace(_ALONE, padded=False),
    "git": replace(_ALONE, padded=False),
    # Its own words matter to its Q-Former, and it repeats none of them. Source: W. Dai
    # et al., InstructBLIP (NeurIPS 2023), appendix, among the templates.
    "instructblip": replace(_ALONE, instruction="A short image description:"),
    # Source: B. Xiao et al., Florence-2 (CVPR 2024), section 3; it knows tasks alone.
    "florence2": replace(
        _ALONE, instruction="<DETAILED_CAPTION>", reading="<OCR>", answers=False
    ),
    # Source: L. Beyer et al., PaliGemma (2024), section 3.2.
    "paligemma": Family(
        instruction="caption en", question="answer en {question}", reading="ocr"
    ),
    # Source: Z. Peng et al., Kosmos-2 (2023), section 4.
    "kosmos-2": replace(_ALONE, instruction="An image of", padded=False),
    "idefics": Family(marks=False, padded=False),
    "idefics2": Family(nested=True),
    "idefics3": Family(nested=True),
    "smolvlm": Family(nested=True),
    "mllama": Family(nested=True),
    "got_ocr2": replace(_READER, marks=False),
    # Source: the model cards of their makers; a chat template puts these words in place.
    "glm_ocr": replace(_READER, reading="Text Recognition:"),
    "paddleocr_vl": replace(_READER, reading="OCR:"),
    "deepseek_ocr2": replace(_READER, reading="Free OCR."),
    "lighton_ocr": _READER,
}
"""By ``model_type``; the first is of models that say none."""

BLIND: dict[str, str] = {
    "pix2struct": "reads questions that are painted onto the image",
    "udop": "needs the words of a page and their places",
    "pp_formulanet": "reads formulas alone",
    "pp_chart2table": "reads charts alone",
    "shieldgemma2": "only says whether an image is allowed",
    "vision-encoder-decoder": "has no processor of images and words in one",
    "pi0": "moves a robot",
    "evolla": "describes proteins",
    "diffusion_gemma": "has no words one by one",
    "instructblipvideo": "takes videos",
    "llava_next_video": "takes videos",
    "video_llava": "takes videos",
}
"""What transformers lists among image-text-to-text models, and why it is no captioner."""


def check_sees(config: Any, name: str, *, reader: bool = False) -> None:
    """Check that a model can look at images for us, before its weights are loaded.

    Args:
        config: Of the model.
        name: What was asked for.
        reader: Whether it need only read.

    Raises:
        ConfigurationError: If it is no captioner.
    """
    kind = getattr(config, "model_type", "")
    if kind in BLIND:
        message = (
            f"expected a model that describes images, got {name!r}, a {kind}, which "
            f"{BLIND[kind]}; name another, such as {ANOTHER!r}"
        )
        raise ConfigurationError(message)
    if not reader and not family_of(config).describes:
        message = (
            f"expected a model that describes images, got {name!r}, a {kind}, which only "
            "reads text; name it as reader, and another as captioner"
        )
        raise ConfigurationError(message)


def family_of(config: Any) -> Family:
    """Return how models of this kind are asked, if they have no chat template.

    Args:
        config: Of the model.
    """
    return FAMILIES.get(getattr(config, "model_type", ""), Family())
