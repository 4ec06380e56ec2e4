"""Measure what a Ray cluster of this machine brings: ``python docs/scaling.py``."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.config.workers import RayWorkers
from socratic_agents.runtime.devices.remote_models import open_replicas
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

IMAGES, REPEATS, CROSSINGS = 32, 3, 100


def blank(settings: Settings, worker: Worker, *, size: int) -> ImageModels:  # noqa: ARG001 - as ``open_image_models``
    """Return models that cost nothing, so that only the crossing is left."""

    async def generate(prompt: str, seed: int) -> Image.Image:  # noqa: ARG001 - as any generator
        return Image.new("RGB", (size, size))

    async def caption(image: Image.Image) -> str:
        return f"{image.size}"

    return ImageModels(generate=generate, caption=caption)


def timed(settings: Settings, worker: Worker) -> ImageModels:
    """Open the models, but for ``answer_open``: it tells the process and its seconds."""

    async def look(image: Image.Image, question: str) -> str:  # noqa: ARG001 - as any captioner
        return f"{os.getpid()} {time.process_time()}"

    return replace(open_image_models(settings, worker), answer_open=look)


async def rate(image_models: ImageModels) -> tuple[float, float]:
    """Draw and caption all images at once.

    Returns images per second of the clock, and seconds of a processor per image.
    """
    look = cast(
        "Callable[[Image.Image, str], Awaitable[str]]", image_models.answer_open
    )

    async def one(seed: int) -> str:
        return await image_models.caption(
            await image_models.generate("a red circle", seed)
        )

    async def seconds() -> dict[str, float]:
        said = [look(image, "") for image in images]
        read = [text.split() for text in await asyncio.gather(*said)]
        return {process: float(spent) for process, spent in sorted(read)}

    drawings = [image_models.generate("a red circle", seed) for seed in range(2)]
    images = await asyncio.gather(*drawings)  # one in each actor
    before, start = await seconds(), time.perf_counter()
    await asyncio.gather(*(one(seed) for seed in range(IMAGES)))
    wall, after = time.perf_counter() - start, await seconds()
    spent = sum(after.values()) - sum(before.values())
    return IMAGES / wall, spent / IMAGES


async def median_ms(call: Callable[[], Awaitable[object]]) -> float:
    """Return how long a call takes, one after the other, in ms."""
    taken = []
    for _ in range(CROSSINGS):
        start = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


async def crossing() -> None:
    """Tell what it costs to fetch an image, to ask about it, and to send it."""
    for size in (8, 512, 1024):
        settings = Settings(workers=RayWorkers(1, gpus_each=0))
        opener = partial(blank, size=size)
        image_models = await asyncio.to_thread(
            open_replicas, settings, open_with=opener
        )
        image = await image_models.generate("", 0)
        draw = await median_ms(partial(image_models.generate, "", 0))
        ask = await median_ms(partial(image_models.caption, image))

        async def send(ask: ImageModels = image_models, size: int = size) -> None:
            await ask.caption(Image.new("RGB", (size, size)))

        sent = await median_ms(send)
        for close in image_models.closers:
            await close()
        sys.stdout.write(
            f"{size}: draw {draw:.1f}, ask {ask:.1f}, send {sent:.1f} ms\n"
        )


async def main() -> None:
    """Let the local worker and two actors take turns, so that neighbours hit both."""
    await crossing()
    settings = Settings(workers=RayWorkers(2, gpus_each=0))
    there = await asyncio.to_thread(open_replicas, settings, open_with=timed)
    async with Worker() as worker:
        here = await worker.call(partial(timed, Settings(), worker))
        for image_models in (here, there):
            await rate(image_models)
        rates = [(await rate(here), await rate(there)) for _ in range(REPEATS)]
    for close in there.closers:
        await close()
    for name, column in zip(("here", "there"), zip(*rates, strict=True), strict=True):
        best = max(wall for wall, _ in column)
        spent = statistics.median(spent for _, spent in column)
        sys.stdout.write(f"{name}: {best:.1f} images/s, {spent:.3f} CPU s an image\n")


if __name__ == "__main__":
    asyncio.run(main())
