"""Batching: how the calls of each model are formed on its device."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from socratic_agents.config.field import Decides, Part
from socratic_agents.config.fields import FIELDS, TEXT, deciding
from socratic_agents.config.profiles import REVISIONS

if TYPE_CHECKING:
    import torch

    from socratic_agents.config.settings import Settings
    from socratic_agents.scheduler.worker import Worker

__all__ = ("PartName", "formation")

PartName: TypeAlias = Literal["generator", "captioner", "scorer"]

BATCHES: dict[PartName, int] = {"generator": 8, "captioner": 16, "scorer": 64}
"""Items of one call on an accelerator, until larger ones were measured."""
CPU_BATCH = 4
"""Items of one call on a CPU: for the pocket models, twice the images of single
calls. Larger ones bring little, and keep others waiting."""
POCKET_BATCH = 16
"""Items of one call of a pocket model: it is small enough to gain from more."""

LIBRARIES: dict[PartName, tuple[str, ...]] = {
    "generator": ("torch", "diffusers", "transformers"),
    "captioner": ("torch", "transformers"),
    "scorer": ("torch", "open_clip_torch"),
}
"""Whose versions decide what a call costs."""


def formation(
    part: PartName, settings: Settings, worker: Worker, *, stage: str
) -> dict[str, Any]:
    """Return how the worker forms the batches of a model: arguments for its stage.

    Calls are filled up, so that a device sees few sizes. In ``strict`` settings all
    have one size. On a CPU the last bits of an output depend on the size of its batch,
    but not on its neighbours; on an accelerator they depend on its place, too, so that
    there the one size is one.

    Args:
        part: The model.
        settings: Say where it runs and how.
        worker: Runs it, and knows which sizes were measured.
        stage: What the stage is called.
    """
    from socratic_agents.models.devices import choose_device, free_memory

    device = choose_device(settings.device)
    model = _identity(part, settings, device)
    if device.type != "cpu":
        most = 1 if settings.strict else BATCHES[part]
    elif getattr(settings, part) == "pocket" and not settings.strict:
        most = POCKET_BATCH
    else:
        most = CPU_BATCH
    if not settings.strict:
        # What a calibration has found to be possible is offered to the scheduler.
        most = max(most, worker.largest_measured(stage, model))
    return {
        "name": stage,
        "max_batch": most,
        "padded": settings.strict,
        "bucketed": not settings.strict,
        "model": model,
        "timeout": settings.patience,
        "free_memory": free_memory,
    }


def _identity(part: PartName, settings: Settings, device: torch.device) -> str | None:
    """Return what calls cost the same for; ``None`` for objects, which have no name."""
    given = getattr(settings, part)
    if not isinstance(given, str):
        return None
    names = deciding(Decides.COST, Part[part.upper()])
    values = {name: getattr(settings, name) for name in names}
    # Of a text it matters whether there is one, not what it says.
    described = [
        name if FIELDS[name].metavar == TEXT else f"{name}={value}"
        for name, value in values.items()
        if value
    ]
    versions = [f"{name} {version(name)}" for name in LIBRARIES[part]]
    revision = REVISIONS.get(given, "")[:8]
    where = _device_name(device)
    return ", ".join(filter(None, (given, revision, *described, where, *versions)))


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{device.type} {platform.machine()}, {cores}"
