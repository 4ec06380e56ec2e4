"""The autoencoder: 64 x 64 pixels to 8 x 8 latents of 8 channels, and back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL

from socratic_agents.pocket.scene import SIDE
from socratic_agents.pocket.train.data import draw_scenes, pixels
from socratic_agents.pocket.train.trainer import fit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("build_autoencoder", "train_autoencoder")

BATCH = 24


def build_autoencoder() -> AutoencoderKL:
    """Return the untrained autoencoder.

    Four groups in the norms: with eight on few channels, colour is normalised away.
    """
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIDE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def train_autoencoder(folder: Path, *, steps: int) -> AutoencoderKL:
    """Train the autoencoder, and scale its latents to mean 0 and deviation 1."""
    model = build_autoencoder()
    rng = random.Random(1)
    torch.manual_seed(1)

    def loss(_: int) -> torch.Tensor:
        images = pixels(draw_scenes(rng, BATCH))
        posterior = model.encode(images).latent_dist
        drawn = model.decode(posterior.sample()).sample.float()
        ground = images[:, :, :1, :1]
        # The objects are a small part of the pixels and all of the meaning.
        weight = 1 + 4 * ((images - ground).abs().amax(1, keepdim=True) > 0.1)
        away = drawn - images
        error = (away.abs() * weight).mean() + (away.square() * weight).mean()
        return error + 2e-6 * posterior.kl().float().mean()

    def evaluate(_: int) -> dict[str, float]:
        images = pixels(draw_scenes(random.Random(2), 64))
        with torch.no_grad():
            drawn = model.decode(model.encode(images).latent_dist.mean).sample
        error = (drawn.clamp(-1, 1) - images).square().mean()
        return {"psnr": (10 * torch.log10(4 / error)).item()}

    fit(
        model,
        loss,
        folder,
        steps=steps,
        learning_rate=2e-3,
        float32_share=0.15,
        evaluate=evaluate,
        evaluate_every=500,
    )
    _standardize(model)
    return model.eval()


@torch.no_grad()
def _standardize(model: AutoencoderKL) -> None:
    """Fold each latent channel's mean and deviation into the 1 x 1 convolutions.

    A stock pipeline knows one scaling factor for all channels; the generator learns
    faster when every channel has the same.
    """
    images = pixels(draw_scenes(random.Random(3), 512))
    latents = torch.cat([model.encode(i).latent_dist.mean for i in images.split(64)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    inward, outward = model.quant_conv, model.post_quant_conv
    channels = len(mean)
    inward.weight[:channels] /= deviation[:, None, None, None]
    inward.bias[:channels] = (inward.bias[:channels] - mean) / deviation
    inward.bias[channels:] -= 2 * deviation.log()
    outward.bias += outward.weight[:, :, 0, 0] @ mean
    outward.weight *= deviation[None, :, None, None]
