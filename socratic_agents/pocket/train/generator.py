"""The generator: a text encoder that knows the words, and a denoiser that follows it."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from socratic_agents.pocket import SAMPLING
from socratic_agents.pocket.oracle import read_scene
from socratic_agents.pocket.prompt_writer import sample_prompts
from socratic_agents.pocket.scene import SIDE, Scene
from socratic_agents.pocket.train.data import SLOTS, describe, draw_scenes, pixels
from socratic_agents.pocket.train.tokenizers import CANONICAL, GLUE, build_tokenizer
from socratic_agents.pocket.train.trainer import fit

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL
    from transformers import PreTrainedTokenizerFast

__all__ = (
    "LENGTH",
    "build_denoiser",
    "build_pipeline",
    "build_scheduler",
    "build_text_encoder",
    "generator_tokenizer",
    "save_grid",
    "train_denoiser",
    "train_text_encoder",
)

WIDTH = 128
LENGTH = 24
"""Tokens of a prompt; the longest canonical one has 18."""
BATCH = 64
DROPPED = 0.1
"""Share of empty prompts in training, for classifier-free guidance."""


def generator_tokenizer() -> PreTrainedTokenizerFast:
    """Return the generator's tokenizer: canonical words only."""
    return build_tokenizer((*CANONICAL, *GLUE), LENGTH)


def build_text_encoder() -> CLIPTextModel:
    """Return the untrained text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(generator_tokenizer()),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=3,
        )
    )


def build_denoiser() -> UNet2DConditionModel:
    """Return the untrained denoiser, with cross-attention at both levels."""
    return UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        block_out_channels=(80, 96),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_scheduler() -> DDIMScheduler:
    """Return the scheduler: v-prediction down to pure noise."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_pipeline(
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    denoiser: UNet2DConditionModel,
) -> StableDiffusionPipeline:
    """Put the parts together as a stock Stable Diffusion pipeline."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=generator_tokenizer(),
        unet=denoiser,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def train_text_encoder(folder: Path, *, steps: int) -> CLIPTextModel:
    """Train the text encoder to say, from its pooled state, what was asked for.

    Trained together with the denoiser it forgets the words; it is frozen after this.
    """
    encoder, tokenizer = build_text_encoder(), generator_tokenizer()
    heads = torch.nn.ModuleDict(
        {slot: torch.nn.Linear(WIDTH, classes) for slot, classes in SLOTS.items()}
    )
    both = torch.nn.ModuleDict({"encoder": encoder, "heads": heads})
    rng = random.Random(11)
    torch.manual_seed(11)

    def loss(_: int) -> torch.Tensor:
        descriptions = [describe(scene, rng) for scene in draw_scenes(rng, 128)]
        tokens = tokenizer(
            [description.text for description in descriptions],
            padding="max_length",
            return_tensors="pt",
        )
        pooled = encoder(tokens.input_ids).pooler_output
        slots = [description.slots() for description in descriptions]
        losses = [
            torch.nn.functional.cross_entropy(
                head(pooled).float(), torch.tensor([said[slot] for said in slots])
            )
            for slot, head in heads.items()
        ]
        return torch.stack(losses).mean()

    fit(both, loss, folder, steps=steps, learning_rate=1e-3, float32_share=1.0)
    return encoder.eval().requires_grad_(requires_grad=False)


def train_denoiser(
    folder: Path,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    *,
    steps: int,
    scenes: int = 60_000,
) -> UNet2DConditionModel:
    """Train the denoiser on encoded scenes, and return its averaged weights."""
    denoiser, scheduler = build_denoiser(), build_scheduler()
    average = copy.deepcopy(denoiser).requires_grad_(requires_grad=False).eval()
    both = torch.nn.ModuleDict({"denoiser": denoiser, "average": average})
    tokenizer = generator_tokenizer()
    rng = random.Random(21)
    torch.manual_seed(21)
    shown = draw_scenes(rng, scenes)
    latents = _encoded(autoencoder, folder, shown)
    kept = scheduler.alphas_cumprod

    def loss(_: int) -> torch.Tensor:
        chosen = [rng.randrange(scenes) for _ in range(BATCH)]
        texts = [
            "" if rng.random() < DROPPED else describe(shown[i], rng).text
            for i in chosen
        ]
        tokens = tokenizer(texts, padding="max_length", return_tensors="pt")
        clean = latents[chosen]
        noise = torch.randn_like(clean)
        times = (torch.sigmoid(torch.randn(BATCH) * 1.1 + 0.3) * 1000).long()
        signal = kept[times].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - kept[times]).sqrt().view(-1, 1, 1, 1)
        with torch.no_grad():
            states = text_encoder(tokens.input_ids).last_hidden_state
        velocity = denoiser(signal * clean + sigma * noise, times, states).sample
        target = signal * noise - sigma * clean
        return torch.nn.functional.mse_loss(velocity.float(), target)

    def after(step: int) -> None:
        keep = min(0.999, 1 - 1 / (1 + step / 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(denoiser.parameters()), 1 - keep
            )

    pipeline = build_pipeline(autoencoder, text_encoder, average)
    pipeline.set_progress_bar_config(disable=True)

    def evaluate(step: int) -> dict[str, float]:
        prompts = sample_prompts(min(96, scenes // 10), 5, "canonical")
        seeds = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
        images = pipeline(
            prompts,
            generator=seeds,
            num_inference_steps=int(SAMPLING["steps"]),
            guidance_scale=SAMPLING["guidance_scale"],
        ).images
        save_grid(images[:48], folder / f"samples-{step}.png")
        scores = [
            read_scene(image).agreement(prompt)
            for image, prompt in zip(images, prompts, strict=True)
        ]
        whole = sum(score == 1 for score in scores) / len(scores)
        return {"agreement": sum(scores) / len(scores), "whole": whole}

    fit(
        both,
        loss,
        folder,
        steps=steps,
        learning_rate=1.2e-3,
        weight_decay=0.01,
        float32_share=1.0,
        after_step=after,
        evaluate=evaluate,
    )
    return average


def save_grid(images: list[Image.Image], path: Path, columns: int = 12) -> None:
    """Save images of one size as a grid."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (width * columns, height * rows))
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        grid.paste(image, (column * width, row * height))
    grid.save(path)


@torch.no_grad()
def _encoded(
    autoencoder: AutoencoderKL, folder: Path, scenes: list[Scene]
) -> torch.Tensor:
    """Return the scenes' latents, from the last run's file if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "latents.pt"
    if kept.exists():
        return torch.load(kept, weights_only=True)
    latents = torch.cat(
        [
            autoencoder.encode(pixels(scenes[i : i + 100])).latent_dist.mean
            for i in range(0, len(scenes), 100)
        ]
    )
    torch.save(latents, kept)
    return latents
