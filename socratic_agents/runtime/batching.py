"""Batching: how the calls of each model are formed on its device, and how to make one."""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar, cast

from PIL import Image

from socratic_agents.config.catalog import REVISIONS
from socratic_agents.config.field import Decides, Part
from socratic_agents.config.fields import FIELDS, deciding
from socratic_agents.core.concurrency import is_async
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.steadiness import remembered
from socratic_agents.runtime.image_models import FINAL, GUIDANCE
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Sequence,
    )

    from socratic_agents.config.settings import Settings
    from socratic_agents.models.diffusion import Diffusion
    from socratic_agents.models.steadiness import Measurement
    from socratic_agents.runtime.image_models import CallKind, ModelName
    from socratic_agents.scheduler.worker import Worker

__all__ = (
    "batched_call",
    "chosen_guidance",
    "guided",
    "holding",
    "run_in_worker",
    "stage_options",
)

Output = TypeVar("Output")

_holds: ContextVar[str | None] = ContextVar("holds", default=None)
"""Name of the model that is opened now; it is what its stages hold."""

BATCHES: dict[ModelName, int] = {"generator": 8, "captioner": 16, "scorer": 64}
"""Items of one call on an accelerator, until larger ones were measured."""
CPU_BATCH = 4
"""Items of one call on a CPU: for the pocket models, twice the images of single
calls. Larger ones bring little, and keep others waiting."""
POCKET_BATCH = 16
"""Items of one call of a pocket model: it is small enough to gain from more."""
QUESTIONS = 16
"""Questions of one call: they are short, and every image gets several. What is written
takes long, and many answers hardly longer than one."""
QUESTION_STAGES = frozenset(("decide", "look", "count", "read", "writer"))

LIBRARIES: dict[ModelName, tuple[str, ...]] = {
    "generator": ("torch", "diffusers", "transformers"),
    "captioner": ("torch", "transformers"),
    "scorer": ("torch", "open_clip_torch"),
}
"""Whose versions decide what a call costs."""


@contextmanager
def holding(name: str) -> Iterator[None]:
    """Open a model inside: its stages need it on the device.

    Args:
        name: What it is called.
    """
    token = _holds.set(name)
    try:
        yield
    finally:
        _holds.reset(token)


def _stage_name(usual: str) -> str:
    """Return what a stage is called; a second generator has a stage of its own."""
    return FINAL if _holds.get() == FINAL else usual


def batched_call(
    kind: CallKind[Output],
    run: Callable[[list[Any]], Sequence[Any]],
    settings: Settings,
    worker: Worker,
    *,
    group: Callable[..., Hashable] | None = None,
    steady: Measurement | None = None,
    **options: Any,
) -> Callable[..., Awaitable[Output]]:
    """Return a call of one item, of which the worker forms batches.

    Args:
        kind: Which of the calls it is.
        run: Takes a list of items and returns their outputs, or an exception in place
            of one; blocks. An item is the call's input, or a tuple of them.
        settings: Say where the model runs and how.
        worker: Runs it.
        group: Returns of a call's inputs what all of a batch must have in common.
        steady: As of ``stage_options``.
        options: As for ``Stage``.
    """
    formed = stage_options(
        kind.model, settings, worker, stage=kind.stage, steady=steady
    )
    priority = 0 if kind.model == "generator" else 1
    stage: Stage[Any, Any] = Stage(run=run, **{"priority": priority} | formed | options)

    async def call(*inputs: Any) -> Output:
        item = inputs if len(inputs) > 1 else inputs[0]
        key = group(*inputs) if group else None
        return cast("Output", await worker.submit(stage, item, key=key))

    return call


def guided(model: Diffusion, grid: Iterable[float]) -> Callable[[list[Any]], list[Any]]:
    """Return a generator of batches that may have another guidance.

    Args:
        model: Draws.
        grid: Strengths of the prompt that may be chosen; each is tried on the pipeline's
            call.

    Returns:
        Draws prompts with their seeds and, all alike, with a guidance or without.
    """
    others = {scale: model.with_guidance(scale) for scale in grid}

    def draw(requests: list[Any]) -> list[Any]:
        _, _, *chosen = requests[0]
        if not chosen:
            return list(model(requests))
        (scale,) = chosen
        name, other = others.get(scale) or model.with_guidance(scale)
        drawn = other([(prompt, seed) for prompt, seed, _ in requests])
        for image in drawn:
            if isinstance(image, Image.Image):
                image.info[GUIDANCE] = {name: scale}
        return list(drawn)

    return draw


def chosen_guidance(_prompt: str, _seed: int, *chosen: float) -> Hashable:
    """Return the guidance of a request, which all of its batch must share."""
    return chosen or None


def run_in_worker(
    kind: CallKind[Output], given: Any, worker: Worker
) -> Callable[..., Awaitable[Output]]:
    """Return a callable as a coroutine function; one that blocks runs in the worker.

    It gets images of its own, to paint on if it likes, and what it paints on later is
    not what it returned.

    Raises:
        ConfigurationError: If it is no callable.
    """
    if not callable(given):
        message = (
            f"expected a {kind.model}'s name, model or callable, got "
            f"{type(given).__name__}; see docs/models.md for what can be given"
        )
        raise ConfigurationError(message)
    if is_async(given):

        async def ask(*inputs: Any) -> Output:
            return cast("Output", await given(*map(_apart, inputs)))

        return ask
    stage: Stage[tuple[Any, ...], Output] = Stage(
        name=_stage_name(kind.model),
        run=lambda inputs: [_apart(given(*map(_apart, one))) for one in inputs],
        max_batch=1,
        priority=0 if kind.model == "generator" else 1,
    )

    async def call(*inputs: Any) -> Output:
        return await worker.submit(stage, inputs)

    return call


def _apart(value: Any) -> Any:
    """Return a copy of an image in memory, and anything else as it is."""
    in_memory = isinstance(value, Image.Image) and not getattr(value, "tile", None)
    return value.copy() if in_memory else value


def stage_options(
    part: ModelName,
    settings: Settings,
    worker: Worker,
    *,
    stage: str,
    steady: Measurement | None = None,
) -> dict[str, Any]:
    """Return how the worker forms the batches of a model: arguments for its stage.

    Calls are filled up, so that a device sees few sizes. In ``strict`` settings all
    have one size: the last bits of an output depend on the size of its batch. Where
    they depend on its place or its neighbours, too, the one size is one: so it was on
    every accelerator that we saw, and on a CPU it is measured.

    Args:
        part: The model.
        settings: Say where it runs and how.
        worker: Runs it, and knows which sizes were measured.
        stage: What the stage is called.
        steady: Measures whether the bits of an item are the same at any place of a
            call; ``None``: nobody knows.
    """
    from socratic_agents.models.devices import device_type, free_memory

    stage = _stage_name(stage)
    device = device_type(settings.device)
    model = _identity(part, settings)
    if device != "cpu":
        most = 1 if settings.strict else BATCHES[part]
    elif getattr(settings, part) == "pocket" and not settings.strict:
        most = POCKET_BATCH
    else:
        most = CPU_BATCH
    if not settings.strict:
        # What a calibration has found to be possible is offered to the scheduler.
        most = max(most, worker.largest_measured(stage, model))
    if stage in QUESTION_STAGES:
        most = QUESTIONS if most > 1 else 1
    if settings.strict and most > 1:
        what = "questions" if stage in QUESTION_STAGES else stage
        key = f"{what} of {model} in calls of {most}" if model else None
        known = steady is not None and remembered(key, partial(steady, most))
        most = most if known else 1
    return {
        "name": stage,
        "holds": _holds.get() or part,
        "max_batch": most,
        "padded": settings.strict,
        "bucketed": not settings.strict,
        "model": model,
        "timeout": settings.patience,
        "free_memory": free_memory,
    }


def _identity(part: ModelName, settings: Settings) -> str | None:
    """Return what calls cost the same for; ``None`` for objects, which have no name."""
    if part == "scorer" and settings.scorer == "captioner":
        part = "captioner"
    given = getattr(settings, part)
    if not isinstance(given, str):
        return None
    names = deciding(Decides.COST, Part[part.upper()])
    values = {name: getattr(settings, name) for name in names}
    # Of a text it matters whether there is one, not what it says.
    described = [
        name if FIELDS[name].is_text else f"{name}={value}"
        for name, value in values.items()
        if value
    ]
    versions = filter(None, map(_version, LIBRARIES[part]))
    revision = REVISIONS.get(given, "")[:8]
    where = _device_name(settings.device)
    return ", ".join(filter(None, (given, revision, *described, where, *versions)))


def _version(name: str) -> str | None:
    """Return a library with its version; ``None`` if it is not installed."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None


def _device_name(name: str | None) -> str:
    from socratic_agents.models.devices import choose_device

    try:
        import torch
    except ImportError:  # a model of another package, which needs none
        return f"cpu {platform.machine()}, {os.cpu_count()} cores"
    device = choose_device(name)
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{device.type} {platform.machine()}, {cores}"
