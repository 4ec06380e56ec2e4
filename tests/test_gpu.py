"""What only a CUDA device can show: ``pytest -m gpu``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
import torch

from socratic_agents import Refinement, Refiner
from socratic_agents.cli.app import main
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.devices import free_memory
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.pocket import (
    SAMPLING,
    Scene,
    SceneObject,
    read_scene,
    render,
    sample_prompts,
    weights_folder,
)
from socratic_agents.scheduler.worker import Stage, Worker
from tests import tiny_models

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SCENE = Scene((SceneObject("circle", "red", "large", 32, 32),), "white")


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


async def test_strict_images_are_the_same_whatever_else_is_drawn() -> None:
    """To the last bit, with calls of one size."""
    prompts = sample_prompts(24, 5, "canonical")
    async with Refiner(device="cuda", rounds=1, seed=3, strict=True) as refiner:
        many = {
            outcome.index: outcome async for outcome in refiner.refine_many(prompts)
        }
        for index in (0, 11, 23):
            alone = await refiner.refine(prompts[index])
            together = many[index]
            assert isinstance(together, Refinement)
            assert alone.best.image == together.best.image


async def test_too_little_memory_is_recovered_from() -> None:
    """Batches become smaller until they fit, and the memory is there afterwards."""
    drawn = Diffusion.load(str(weights_folder("generator")), device="cuda", **SAMPLING)
    before = torch.cuda.memory_allocated()
    free, _ = torch.cuda.mem_get_info()
    # All but a little, so that a batch of many images cannot fit.
    ballast = torch.empty(int(free * 0.995), dtype=torch.uint8, device="cuda")
    stage: Stage[Any, Any] = Stage(
        name="generator", run=drawn, max_batch=256, free_memory=free_memory
    )
    async with Worker() as worker:
        tasks = [worker.submit(stage, ("a red circle", n)) for n in range(256)]
        images = await asyncio.gather(*tasks)
    assert 256 == len(images)
    del ballast
    free_memory()
    assert torch.cuda.memory_allocated() <= before * 1.05 + 2**24


@pytest.mark.parametrize("workload", ["sd15", "turbo"])
def test_the_bench_runs_on_the_device(
    workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small models of the known shapes, in the device's own number format."""
    arguments = ["--loops", "2", "--repeats", "1", "--seconds", "0.5", "--tiny"]
    contenders = ["--contenders", "sequential,lock,ours", "--json"]
    assert 0 == main(["bench", "--workload", workload, *arguments, *contenders])
    results = json.loads(capsys.readouterr().out)["results"]
    assert {"sequential", "lock", "ours"} == {one["contender"] for one in results}
