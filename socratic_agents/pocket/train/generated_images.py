"""Examples that the pocket generator drew, and what the oracle sees in them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from socratic_agents.pocket import SAMPLING
from socratic_agents.pocket.oracle import read_scene
from socratic_agents.pocket.prompt_writer import sample_prompts
from socratic_agents.pocket.scene import SIDE, Scene, SceneObject
from socratic_agents.pocket.vocabulary import SHAPES

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import StableDiffusionPipeline

__all__ = ("generated_examples",)


def generated_examples(
    folder: Path, pipeline: StableDiffusionPipeline, n: int, *, seed: int = 43
) -> tuple[list[Scene], torch.Tensor]:
    """Let the generator draw, and the oracle say what came out.

    The generator's corners are rounder and its edges softer than the renderer's. Half
    of the prompts are foreign: their images show what failures look like.

    Args:
        folder: Keeps the examples for the next time.
        pipeline: The trained generator.
        n: How many images to draw; what the oracle cannot name is left out.
        seed: Of prompts and noise.

    Returns:
        What is shown, and pixels: float32 of shape (m, 3, 64, 64) in [-1, 1].
    """
    kept = folder / f"drawn-{seed}.pt"
    if not kept.exists():
        prompts = [
            *sample_prompts(n - n // 2, seed, "canonical"),
            *sample_prompts(n // 2, seed, "foreign"),
        ]
        scenes, pictures = [], []
        for start in range(0, n, 16):
            texts = prompts[start : start + 16]
            images = pipeline(
                texts,
                num_inference_steps=int(SAMPLING["steps"]),
                guidance_scale=SAMPLING["guidance_scale"],
                generator=[
                    torch.Generator().manual_seed(seed + start + i)
                    for i in range(len(texts))
                ],
            ).images
            for image in images:
                scene = read_scene(image)
                known = all(obj.shape in SHAPES for obj in scene.objects)
                if known and 1 <= len(scene.objects) <= 2:
                    scenes.append(scene)
                    pictures.append(torch.from_numpy(np.array(image)))
        folder.mkdir(parents=True, exist_ok=True)
        plain = [
            (scene.background, [dataclasses.astuple(t) for t in scene.objects])
            for scene in scenes
        ]
        torch.save({"scenes": plain, "pictures": pictures}, kept)
    saved = torch.load(kept, weights_only=True)
    scenes = [
        Scene(tuple(SceneObject(*obj) for obj in objects), background)
        for background, objects in saved["scenes"]
    ]
    if not scenes:
        return [], torch.empty(0, 3, SIDE, SIDE)
    pictures = torch.stack(saved["pictures"])
    return scenes, pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
