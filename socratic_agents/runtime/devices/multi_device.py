"""Devices: several of one machine, each with a worker and all models of its own.

An item depends on nothing but itself, so it does not matter which device does it. An
image is drawn where the fewest wait, and looked at where it was drawn. In ``strict``
settings it matters, for two devices may round differently: there the item itself decides,
whatever else waits.
"""

from __future__ import annotations

import asyncio
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from PIL.Image import Image

from socratic_agents.core.image_map import WeakImageMap
from socratic_agents.runtime.image_models import WRITE
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import CallKind, ImageModels
    from socratic_agents.scheduler.cost_model import CostModel

__all__ = ("open_devices",)

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


@dataclass(eq=False)
class _Device:
    """One of them, and how much it has to do."""

    worker: Worker
    models: ImageModels
    waiting: int = 0
    """Items that it has not answered yet."""


def open_devices(
    settings: Settings,
    worker: Worker,
    *,
    cost_model: CostModel | None = None,
    open_with: Callable[[Settings, Worker], ImageModels] = open_image_models,
) -> tuple[ImageModels, tuple[Worker, ...]]:
    """Open all models on every device that the settings name; blocks.

    Args:
        settings: What to open, and on which devices.
        worker: Of the first device; this runs in its thread.
        cost_model: What calls cost, for the other workers.
        open_with: Opens the models of one device.

    Returns:
        Models that use whatever device is free, and the workers.

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
        return devices[0].models, (worker,)
    models = _shared(devices, closing, strict=settings.strict)
    return models, tuple(device.worker for device in devices)


def _number(inputs: tuple[object, ...]) -> int:
    """Return a number that depends on nothing but the inputs of a call."""
    number = 0
    for one in inputs:
        # An image may come from the journal, so it is known by its pixels alone.
        seen = one.tobytes() if isinstance(one, Image) else repr(one).encode()
        number = zlib.crc32(seen, number)
    return number


def _shared(devices: list[_Device], closing: ExitStack, *, strict: bool) -> ImageModels:
    """Return models that give every item to one of the devices."""
    homes: WeakImageMap[_Device] = WeakImageMap()

    def choose(inputs: tuple[object, ...]) -> _Device:
        if strict:
            return devices[_number(inputs) % len(devices)]
        # An image from elsewhere is at home nowhere.
        known = (homes.get(one) for one in inputs if isinstance(one, Image))
        fewest = min(devices, key=lambda device: device.waiting)
        return next(known, None) or fewest

    def placed(
        kind: CallKind[Output], _: Callable[Inputs, Awaitable[Output]]
    ) -> Callable[Inputs, Awaitable[Output]]:
        async def ask(*inputs: Inputs.args, **named: Inputs.kwargs) -> Output:
            device = choose(inputs)
            device.waiting += 1
            try:
                answer = await getattr(device.models, kind.name)(*inputs, **named)
            finally:
                device.waiting -= 1
            if isinstance(answer, Image):
                homes[answer] = device
            return cast("Output", answer)

        return ask

    async def close() -> None:
        await asyncio.to_thread(closing.close)

    def notices() -> tuple[str, ...]:
        said = (one for device in devices for one in device.models.notices())
        return tuple(dict.fromkeys(said))

    closers = (close, *(c for device in devices for c in device.models.closers))
    first = devices[0].models
    write = first.write and placed(WRITE, first.write)
    models = first.map(placed)
    return replace(models, write=write, notices=notices, closers=closers)
