"""Devices: several share the work, and nobody sees which one did it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.devices.multi_device import open_devices
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """Opens models that tell where they are."""

    def __init__(self, *, scores: bool = True) -> None:
        self.scores = scores
        self.opened: list[str | None] = []
        self.closed: list[str | None] = []
        self.seen: list[tuple[str, Any, Any]] = []

    def open(self, settings: Settings, worker: Worker) -> ImageModels:
        name = settings.device
        if name == "broken":
            message = "expected a device, got 'broken'"
            raise ConfigurationError(message)
        self.opened.append(name)
        stage: Stage[Any, Any] = Stage(name="generator", run=list, max_batch=1)

        async def generate(prompt: str, seed: int) -> Image.Image:
            await worker.submit(stage, prompt)
            image = Image.new("RGB", (4, 4))
            image.info["where"] = name
            return image

        def see(kind: str, at: int = 0) -> Callable[..., Any]:
            async def ask(*inputs: Any) -> Any:
                self.seen.append((kind, name, inputs[at].info.get("where")))
                return kind

            return ask

        async def close() -> None:
            self.closed.append(name)

        return ImageModels(
            generate=generate,
            caption=see("caption"),
            answer_yes_no=see("decide"),
            answer_open=see("look"),
            score=see("score", 1) if self.scores else None,
            closers=(close,),
        )


async def opened(
    room: Room, device: str, worker: Worker, *, strict: bool = False
) -> tuple[ImageModels, Any]:
    settings = Settings(device=device, strict=strict)

    def work() -> tuple[ImageModels, Any]:
        return open_devices(settings, worker, open_with=room.open)

    return await worker.call(work)


async def test_images_are_looked_at_where_they_were_drawn() -> None:
    """And drawn where the fewest wait."""
    room = Room()
    async with Worker() as worker:
        image_models, workers = await opened(room, "a, b", worker)
        assert ["a", "b"] == room.opened
        assert 2 == len(set(workers))
        images = await asyncio.gather(
            *(image_models.generate("x", n) for n in range(6))
        )
        drawn = [image.info["where"] for image in images]
        assert (3, 3) == (drawn.count("a"), drawn.count("b"))
        assert image_models.answer_yes_no is not None
        assert image_models.answer_open is not None
        assert image_models.score is not None
        for image in images:
            await image_models.caption(image)
            await image_models.answer_yes_no(image, "?")
            await image_models.answer_open(image, "?")
            await image_models.score("x", image)
        assert 24 == len(room.seen)
        assert all(here == where for _, here, where in room.seen)
        assert "caption" == await image_models.caption(Image.new("RGB", (4, 4)))
        for close in image_models.closers:
            await close()
    assert ["a", "b"] == room.closed


async def test_strict_items_have_a_device_of_their_own() -> None:
    """Whatever else waits, for two devices may round differently."""
    places = []
    for others in (0, 5):
        room = Room()
        async with Worker() as worker:
            models, _ = await opened(room, "a,b", worker, strict=True)
            asked = [models.generate("other", n) for n in range(others)]
            asked += [models.generate("x", n) for n in range(8)]
            images = (await asyncio.gather(*asked))[others:]
            places.append([image.info["where"] for image in images])
            for level in range(8):
                await models.caption(Image.new("L", (4, 4), level))
            for close in models.closers:
                await close()
        places[-1] += [here for _, here, _ in room.seen]
    assert places[0] == places[1]
    assert {"a", "b"} == {*places[0][:8]} == {*places[0][8:]}


async def test_one_device_is_as_it_was() -> None:
    """Nothing stands between."""
    room = Room(scores=False)
    async with Worker() as worker:
        image_models, workers = await opened(room, "a", worker)
        assert (worker,) == workers
        assert 1 == len(image_models.closers)


async def test_what_one_cannot_do_none_can() -> None:
    """All devices have the same models."""
    room = Room(scores=False)
    async with Worker() as worker:
        image_models, _ = await opened(room, "a,b", worker)
        assert image_models.score is None
        for close in image_models.closers:
            await close()


async def test_a_device_that_is_not_there_is_told() -> None:
    """And the others are closed again."""
    room = Room()
    async with Worker() as worker:
        with pytest.raises(ConfigurationError, match="broken"):
            await opened(room, "a,b,broken", worker)


def test_devices_are_named_with_commas() -> None:
    """One name is one device, and none the best that is there."""
    assert (None,) == Settings().devices
    assert ("cpu",) == Settings(device="cpu").devices
    assert ("cuda:0", "cuda:1") == Settings(device="cuda:0, cuda:1").devices


async def test_a_refinement_is_the_same_on_several() -> None:
    """Calls of one size make it so to the last bit."""
    refinements = []
    for device in ("cpu", "cpu,cpu"):
        async with Refiner(device=device, seed=3) as refiner:
            refinements.append(await refiner.refine("a crimson ball"))
    assert refinements[0].history == refinements[1].history
