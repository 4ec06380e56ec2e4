"""Mixed: one pipeline that draws images of several sizes and steps, for two users."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.lab.bench.device.schedulers import Variants
from socratic_agents.lab.bench.device.testbeds import (
    open_testbed_and_models,
    simulated_agents,
)
from socratic_agents.lab.bench.device.trial import LoopSetup
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.pocket import SAMPLING, weights_folder
from socratic_agents.runtime.image_models import GENERATE, as_candidate_errors, counted
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.loop import Agents
    from socratic_agents.lab.bench.device.schedulers import Testbed
    from socratic_agents.lab.bench.device.trial import LlmDelay

__all__ = ("open_mixed_testbed",)

LARGEST = 16
"""Images of one call."""


def open_mixed_testbed(
    name: str,
    settings: Settings,
    prompts: Sequence[str],
    *,
    kinds: Mapping[str, Mapping[str, Any]],
    users: Sequence[str],
) -> Testbed:
    """Open the pocket pipeline for loops that differ in what they ask of it.

    Args:
        name: Of the workload.
        settings: What to open.
        prompts: What is drawn.
        kinds: What the pipeline is called with, by the key of the items; loops take
            turns.
        users: Whose loops they are, by their place among those in flight.
    """
    testbed, models = open_testbed_and_models(name, settings, prompts)
    recorder, folder = testbed.recorder, str(weights_folder("generator"))
    opened = Diffusion.load(folder, device=settings.device)
    pipelines = {
        kind: Diffusion(opened.pipeline, **SAMPLING | dict(call))
        for kind, call in kinds.items()
    }
    names = list(kinds)

    def run(requests: list[tuple[str, str, int]]) -> Sequence[Any]:
        # All of a batch are of one kind, since that is their key.
        model = pipelines[requests[0][0]]
        return model([(prompt, seed) for _, prompt, seed in requests])

    stage: Stage[tuple[str, str, int], Image] = Stage(
        name="generator", run=run, max_batch=LARGEST, bucketed=True
    )

    def agents(pace: LlmDelay) -> Agents:
        kind = names[pace.number % len(names)]

        async def generate(prompt: str, seed: int) -> Image:
            item = (kind, prompt, seed)
            return cast("Image", await recorder.submit(stage, item, key=kind))

        safe = as_candidate_errors(GENERATE, generate)
        drawing = replace(models, generate=counted(safe))
        return simulated_agents(drawing, prompts, recorder)(pace)

    why = "items have several keys in this workload"
    return replace(
        testbed,
        loops=LoopSetup(agents=agents, prompts=prompts, users=users),
        others=lambda _: Variants(lacks={"strict": why, "step": why}),
        kinds=len(names),
    )
