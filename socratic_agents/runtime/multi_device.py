"""Devices: several of one machine, each with a worker and all models of its own.

An item depends on nothing but itself, so it does not matter which device does it. An
image is drawn where the fewest wait, and looked at where it was drawn.
"""

from __future__ import annotations

import asyncio
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.runtime.image_models import Voices, open_voices
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.scheduler.cost_model import CostModel

__all__ = ("open_devices",)


@dataclass(eq=False)
class _Device:
    """One of them, and how much it has to do."""

    worker: Worker
    voices: Voices
    waiting: int = 0
    """Items that it has not answered yet."""


def open_devices(
    settings: Settings,
    worker: Worker,
    *,
    cost_model: CostModel | None = None,
    open_with: Callable[[Settings, Worker], Voices] = open_voices,
) -> tuple[Voices, tuple[Worker, ...]]:
    """Open all models on every device that the settings name; blocks.

    Args:
        settings: What to open, and on which devices.
        worker: Of the first device; this runs in its thread.
        cost_model: What calls cost, for the other workers.
        open_with: Opens the voices of one device.

    Returns:
        Voices that use whatever device is free, and the workers.

    Raises:
        ConfigurationError: If a device is not there, or a model cannot be opened.
    """
    first, *others = [
        settings.model_copy(update={"device": name}) for name in settings.devices
    ]
    with ExitStack() as stack:
        devices = [_Device(worker, open_with(first, worker))]
        for one in others:
            name = f"socratic-worker {one.device}"
            other = Worker(name, cost_model=cost_model)
            other.open()
            stack.callback(other.close)
            # No event loop runs in a worker's thread, so it may have one of its own.
            opened = other.call(partial(open_with, one, other))
            devices.append(_Device(other, asyncio.run(opened)))
        closing = stack.pop_all()
    if not others:
        return devices[0].voices, (worker,)
    return _shared(devices, closing), tuple(device.worker for device in devices)


def _shared(devices: list[_Device], closing: ExitStack) -> Voices:
    """Return voices that give every item to one of the devices."""
    homes: dict[int, _Device] = {}

    def least() -> _Device:
        return min(devices, key=lambda device: device.waiting)

    async def asked(device: _Device, call: Awaitable[Any]) -> Any:
        device.waiting += 1
        try:
            return await call
        finally:
            device.waiting -= 1

    async def generate(prompt: str, seed: int) -> Image.Image:
        device = least()
        image: Image.Image
        image = await asked(device, device.voices.generate(prompt, seed))
        homes[id(image)] = device
        weakref.finalize(image, homes.pop, id(image), None)
        return image

    def seen(name: str, *, at: int = 0) -> Any:
        async def see(*inputs: Any) -> Any:
            # An image from elsewhere is at home nowhere.
            device = homes.get(id(inputs[at])) or least()
            return await asked(device, getattr(device.voices, name)(*inputs))

        return see if getattr(devices[0].voices, name) is not None else None

    async def close() -> None:
        await asyncio.to_thread(closing.close)

    return replace(
        devices[0].voices,
        generate=generate,
        caption=seen("caption"),
        decide=seen("decide"),
        look=seen("look"),
        score=seen("score", at=1),
        closers=(close, *(c for device in devices for c in device.voices.closers)),
    )
