"""Small testbeds for benches: models that count, and draw an image in no time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from socratic_agents.lab.bench.device.determinism import DeterminismCheck
from socratic_agents.lab.bench.device.memory import Memory
from socratic_agents.lab.bench.device.recording_worker import RecordingWorker
from socratic_agents.lab.bench.device.schedulers import Testbed, Variants
from socratic_agents.lab.bench.device.testbeds import simulated_agents
from socratic_agents.lab.bench.device.trial import LoopSetup
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("PROMPTS", "Models", "small_testbed")

PROMPTS = tuple(f"prompt {number}" for number in range(7))


@dataclass(eq=False)
class Models:
    """A generator, a captioner and a scorer that know who calls them, and how often.

    ``shade`` is added to the images of calls with more than one item.
    """

    shade: int = 0
    together: int = 0
    """Calls at once, at most."""
    sizes: dict[str, list[int]] = field(default_factory=dict)
    _inside: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def generate(self, requests: list[tuple[str, int]]) -> list[Image.Image]:
        shade = self.shade if len(requests) > 1 else 0
        with self:
            self._note("generator", requests)
            return [
                Image.new("RGB", (4, 4), (seed % 200, len(prompt), 20 + shade))
                for prompt, seed in requests
            ]

    def caption(self, images: list[Image.Image]) -> list[str]:
        with self:
            self._note("captioner", images)
            return [f"shade {image.getpixel((0, 0))}" for image in images]

    def score(self, pairs: list[tuple[str, Image.Image]]) -> list[float]:
        with self:
            self._note("scorer", pairs)
            return [float(len(text)) for text, _ in pairs]

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.together = max(self.together, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1

    def _note(self, stage: str, items: Sequence[Any]) -> None:
        self.sizes.setdefault(stage, []).append(len(items))

    def image_models(self, recorder: RecordingWorker, **forming: Any) -> ImageModels:
        """Return what they do, each call through the recording worker."""
        stages: dict[str, Stage[Any, Any]] = {
            "generator": Stage(name="generator", run=self.generate, **forming),
            "captioner": Stage(
                name="captioner", run=self.caption, priority=1, **forming
            ),
            "scorer": Stage(name="scorer", run=self.score, priority=1, **forming),
        }

        async def generate(prompt: str, seed: int) -> Image.Image:
            image: Image.Image = await recorder.submit(
                stages["generator"], (prompt, seed)
            )
            return image

        async def caption(image: Image.Image) -> str:
            text: str = await recorder.submit(stages["captioner"], image)
            return text

        async def score(text: str, image: Image.Image) -> float:
            found: float = await recorder.submit(stages["scorer"], (text, image))
            return found

        return ImageModels(generate=generate, caption=caption, score=score)


def small_testbed(
    models: Models | None = None, *, users: Sequence[str] = ("",), **changes: Any
) -> Testbed:
    """Return a testbed of small models, with a strict variant and none by step."""
    models, recorder = models or Models(), RecordingWorker()

    def loops(**forming: Any) -> LoopSetup:
        image_models = models.image_models(recorder, **forming)
        return LoopSetup(
            agents=simulated_agents(image_models, PROMPTS, recorder),
            prompts=PROMPTS,
            users=users,
        )

    facts: dict[str, Any] = {
        "name": "small",
        "recorder": recorder,
        "loops": loops(max_batch=4, bucketed=True),
        "others": lambda _: Variants(
            loops={"strict": loops(max_batch=2, padded=True)},
            lacks={"step": "there are no steps"},
        ),
        "memory": Memory(torch.device("cpu")),
        "determinism": DeterminismCheck(exact=True, fine=True),
    }
    return Testbed(**facts | changes)
