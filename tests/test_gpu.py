"""What only a CUDA device can show: ``pytest -m gpu``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from socratic_agents import Refiner
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.pocket import (
    SAMPLING,
    Scene,
    Thing,
    read_scene,
    render,
    sample_prompts,
    weights_folder,
)
from tests import tiny_models

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SCENE = Scene((Thing("circle", "red", "large", 32, 32),), "white")


def test_a_batch_draws_what_its_requests_draw_alone() -> None:
    """Seeds mean the same in every batch, in float32 on the device as well."""
    pipeline = tiny_models.stable_diffusion(scheduler="DDIMScheduler").to("cuda")
    draw = Diffusion(pipeline, steps=4)
    requests = [("a red circle", seed) for seed in range(4)]
    together = draw.arrays(requests)

    for request, image in zip(requests, together, strict=True):
        (alone,) = draw.arrays([request])
        assert np.abs(np.asarray(image) - np.asarray(alone)).max() < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_pocket_generator_follows_in_every_format(dtype: str) -> None:
    """Half the bits draw the same things."""
    draw = Diffusion.load(
        str(weights_folder("generator")), device="cuda", dtype=dtype, **SAMPLING
    )
    prompts = sample_prompts(32, 5, "canonical")
    images = draw([(prompt, place) for place, prompt in enumerate(prompts)])
    agreements = [
        read_scene(image).agreement(prompt)
        for image, prompt in zip(images, prompts, strict=True)
        if not isinstance(image, Exception)
    ]

    assert 32 == len(agreements)
    assert sum(agreements) / 32 >= 0.93


@pytest.mark.parametrize("offload", ["model", "sequential", "group"])
def test_offloaded_models_draw(offload: str) -> None:
    """What is kept in the main memory comes to the device when it is needed."""
    draw = Diffusion.load(
        str(weights_folder("generator")), device="cuda", offload=offload, **SAMPLING
    )
    (image,) = draw([("a red circle", 1)])

    assert not isinstance(image, Exception)


def test_captions_and_scores_are_those_of_the_cpu() -> None:
    """The same image is described and scored alike on either device."""
    image = render(SCENE)
    told: list[object] = []
    scored: list[float] = []
    for device in ("cpu", "cuda"):
        captioner = Captioner.load(
            str(weights_folder("captioner")), device=device, dtype="float32"
        )
        scorer = Clip.load(str(weights_folder("scorer")), device=device, prefix="")
        told += captioner.caption([image])
        scored += scorer.score([("a crimson ball", image)])

    assert told[0] == told[1]
    assert scored[0] == pytest.approx(scored[1], abs=1e-3)


async def test_a_refinement_runs_on_the_device() -> None:
    """The whole loop, and the same seed gives the same prompts twice."""
    runs = []
    for _ in range(2):
        async with Refiner(device="cuda", seed=7, rounds=3) as refiner:
            runs.append(await refiner.refine("a crimson ball above an azure box"))
    first, second = ([c.prompt for c in run.history.candidates] for run in runs)

    assert first == second
    assert runs[0].best.usable
