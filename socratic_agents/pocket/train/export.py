"""Trained models as the stock classes save them: safetensors, in half precision."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from transformers import Blip2Processor, BlipImageProcessor

from socratic_agents.pocket.scene import SIDE
from socratic_agents.pocket.train.captioner import QUERIES, captioner_tokenizer
from socratic_agents.pocket.train.generator import build_pipeline
from socratic_agents.pocket.train.scorer import MODEL_CONFIG, scorer_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from open_clip.model import CLIP
    from transformers import Blip2ForConditionalGeneration, CLIPTextModel

__all__ = ("export_captioner", "export_generator", "export_scorer")

MIDDLE = [0.5, 0.5, 0.5]
"""Mean and deviation that take pixels from [0, 1] to [-1, 1]."""


def export_generator(
    folder: Path,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    denoiser: UNet2DConditionModel,
) -> None:
    """Save the generator as a Stable Diffusion pipeline."""
    pipeline = build_pipeline(autoencoder.half(), text_encoder.half(), denoiser.half())
    pipeline.save_pretrained(folder, safe_serialization=True)
    # diffusers notes where a part was loaded from: a path of this machine.
    for config in folder.rglob("config.json"):
        facts = json.loads(config.read_text("utf-8"))
        facts.pop("_name_or_path", None)
        config.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def export_captioner(folder: Path, model: Blip2ForConditionalGeneration) -> None:
    """Save the captioner as a BLIP-2 with its processor."""
    # transformers keeps the Q-Former in float32 unless it is halved by hand.
    for parameter in model.parameters():
        parameter.data = parameter.data.half()
    model.save_pretrained(folder, safe_serialization=True)
    images = BlipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=MIDDLE, image_std=MIDDLE
    )
    processor = Blip2Processor(images, captioner_tokenizer(), num_query_tokens=QUERIES)
    processor.save_pretrained(folder)


def export_scorer(folder: Path, model: CLIP) -> None:
    """Save the scorer as a folder that OpenCLIP's ``local-dir:`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous() for name, value in _saved(model).items()}
    save_file(state, folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": MODEL_CONFIG,
        "preprocess_cfg": {
            "size": SIDE,
            "mean": MIDDLE,
            "std": MIDDLE,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    scorer_tokenizer().save_pretrained(folder)


def _saved(model: CLIP) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
