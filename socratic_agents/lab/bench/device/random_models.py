"""Random models: known architectures at full size, with weights out of thin air.

What a call costs depends on sizes and not on what a model has learned, so nothing has
to be downloaded.

Source:
    The sizes are those of Stable Diffusion 1.5, Stable Diffusion XL, and SD-Turbo,
    which has those of Stable Diffusion 2.1, as their cards give them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from socratic_agents.lab.bench.device.random_vision_models import (
    VOCABULARY,
    Placement,
    RandomCaptioner,
    random_scorer,
)
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.models.clip import Clip

__all__ = ("build",)

CALM = 0.01
"""Share of a random denoiser's answer that counts. Seventy random layers and guidance
make rounding so large that an image drawn in another batch would be another image."""
SMALL: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """A generator's sizes, and what it is called with."""

    unet: Mapping[str, Any]
    texts: Sequence[Mapping[str, Any]]
    """Of its text encoders."""
    pixels: int
    call: Mapping[str, Any] = field(default_factory=dict)


CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
CLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 512,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
CLIP_BIGG = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
}
ADDED = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

ARCHITECTURES = {
    "sd15": _Architecture(
        unet={"attention_head_dim": 8, "cross_attention_dim": 768},
        texts=(CLIP_L,),
        pixels=512,
        call={"steps": 20, "guidance_scale": 7.5},
    ),
    "sdxl": _Architecture(
        unet={
            **ADDED,
            "attention_head_dim": (5, 10, 20),
            "block_out_channels": (320, 640, 1280),
            "cross_attention_dim": 2048,
            "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
            "transformer_layers_per_block": (1, 2, 10),
            "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
            "use_linear_projection": True,
        },
        texts=(CLIP_L, CLIP_BIGG),
        pixels=1024,
        call={"steps": 20, "guidance_scale": 7.5},
    ),
    "turbo": _Architecture(
        unet={
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        texts=(CLIP_H,),
        pixels=512,
        call={"steps": 1, "guidance_scale": 0.0},
    ),
}
"""By the workload's name."""


def build(
    name: str, *, device: torch.device, dtype: torch.dtype, tiny: bool
) -> tuple[Diffusion, RandomCaptioner, Clip]:
    """Build a generator, a captioner and a scorer.

    Args:
        name: Of the workload.
        device: Where they run.
        dtype: Number format of the weights.
        tiny: Whether all of them are small.
    """
    placement = Placement(device=device, dtype=dtype, tiny=tiny)
    torch.manual_seed(0)
    with quiet(), torch.device(device):  # there is no faster way to fill a card
        generator = _generator(ARCHITECTURES[name], placement)
        return generator, RandomCaptioner(placement), random_scorer(placement)


def _generator(kind: _Architecture, placement: Placement) -> Diffusion:
    import diffusers

    latents = 8 if placement.tiny else kind.pixels // 8
    texts = [_text(size, placement, kind.texts.index(size)) for size in kind.texts]
    unet = diffusers.UNet2DConditionModel(
        **{"sample_size": latents, **(_small(kind) if placement.tiny else kind.unet)}
    )
    with torch.no_grad():
        for weight in unet.conv_out.parameters():
            weight.mul_(CALM)
    blocks = 2 if placement.tiny else 4
    full = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    autoencoder = diffusers.AutoencoderKL(
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        **(SMALL if placement.tiny else full),
    )
    with torch.device("cpu"):  # it computes with numpy, too
        scheduler = diffusers.DDIMScheduler(steps_offset=1)
    parts = {
        "vae": placement.place(autoencoder),
        "text_encoder": texts[0],
        "tokenizer": _tokenizer(),
        "unet": placement.place(unet),
        "scheduler": scheduler,
    }
    if len(texts) > 1:
        pipeline = diffusers.StableDiffusionXLPipeline(
            **parts,
            text_encoder_2=texts[1],
            tokenizer_2=_tokenizer(),
            add_watermarker=False,
        )
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **parts,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return Diffusion(pipeline, **kind.call)


def _small(kind: _Architecture) -> dict[str, Any]:
    """Return a denoiser's sizes in small, with the same conditions."""
    sizes = SMALL | {"attention_head_dim": 8}
    sizes |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    sizes |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    sizes |= {"cross_attention_dim": 16 * len(kind.texts)}
    if "addition_embed_type" in kind.unet:
        added = {"addition_time_embed_dim": 4}
        added |= {"projection_class_embeddings_input_dim": 16 + 6 * 4}
        sizes |= {"addition_embed_type": "text_time", **added}
    return sizes


def _text(size: Mapping[str, Any], placement: Placement, place: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    if placement.tiny:
        size = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "projection_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "hidden_act": size.get("hidden_act", "quick_gelu"),
        }
    config = CLIPTextConfig(
        vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=1, pad_token_id=1, **size
    )
    # The second encoder of a pipeline tells what the whole text means, too.
    return placement.place(
        (CLIPTextModelWithProjection if place else CLIPTextModel)(config)
    )


def _tokenizer() -> Any:
    """Return a tokenizer with a token for each letter."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    specs = ["<|startoftext|>", "<|endoftext|>", *letters]
    specs += [f"{letter}</w>" for letter in letters]
    vocabulary = {spec: index for index, spec in enumerate(specs)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
