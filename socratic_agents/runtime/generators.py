"""Generators: what the settings name to draw, opened and made into a coroutine function."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from socratic_agents.config.field import Group, Part
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.profiles import REVISIONS
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.runtime.adapters import called
from socratic_agents.runtime.batching import formation
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Iterable

    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.models.diffusion import Diffusion
    from socratic_agents.runtime.batching import PartName

__all__ = ("OPENAI", "POCKET", "folder_of", "images_server", "open_generator")

OPENAI = "https://api.openai.com/v1"
POCKET = "pocket"

ARGUMENTS = tuple(name for name, field in FIELDS.items() if field.argument)
"""Settings that every call of a pipeline is given."""
AT_OPENING = tuple(name for name, field in FIELDS.items() if field.at_opening)
"""Settings that come too late for a generator that is open already."""
NOT_OF_SERVERS = tuple(
    name
    for name, field in FIELDS.items()
    if field.of is Part.GENERATOR
    and field.group is not Group.MODELS
    and not field.server
)
"""Settings of a generator that no images server takes."""


def open_generator(
    settings: Settings, worker: Worker
) -> tuple[Any, int | None, tuple[Callable[[], Awaitable[None]], ...]]:
    """Return how to draw, how many tokens are read, and what to close at the end.

    Args:
        settings: Name the generator.
        worker: Runs it from now on.

    Raises:
        ConfigurationError: If it cannot be opened, or is of the wrong type.
        LoadError: If there is no such model.
    """
    given = settings.generator
    call = {name: getattr(settings, name) for name in ARGUMENTS}
    server = images_server(settings)
    if server is not None:
        from socratic_agents.models.images_api import ImagesAPI

        api = _images_api(ImagesAPI, settings, server)
        return api.generate, None, (api.aclose,)
    from socratic_agents.models.acceleration import Speed
    from socratic_agents.models.diffusion import Diffusion

    speed = Speed(
        channels_last=settings.channels_last,
        compile=settings.compile,
        vae_batch=settings.vae_batch,
    )
    if given == POCKET:
        from socratic_agents.pocket import SAMPLING

        call = {name: value or SAMPLING.get(name) for name, value in call.items()}
    if isinstance(given, str):
        quantization = settings.quantization and {
            "quant_backend": f"bitsandbytes_{settings.quantization}",
            "quant_kwargs": {f"load_in_{settings.quantization}": True},
        }
        model = Diffusion.load(
            folder_of(given, "generator"),
            device=settings.device,
            dtype=settings.dtype,
            offload=settings.offload,
            quantization=quantization,
            revision=REVISIONS.get(given),
            speed=speed,
            **call,
        )
    elif isinstance(given, Diffusion):
        _refuse(settings, AT_OPENING, "a Diffusion")
        model = given
    elif hasattr(given, "scheduler") and hasattr(given, "components"):
        model = Diffusion(given, speed=speed, **call)
    elif settings.batching == "step":
        message = (
            "expected a diffusers pipeline for batching 'step', got a "
            f"{type(given).__name__}; choose batching 'request'"
        )
        raise ConfigurationError(message)
    else:
        _refuse(settings, AT_OPENING, "a generator that is no pipeline")
        return called(given, "generator", worker), None, ()
    if settings.batching == "step":
        stepwise, close = _step_by_step(model, settings, worker)
        return stepwise, model.max_tokens, (close,)
    batch = formation("generator", settings, worker, stage="generator")
    stage = Stage(run=model, **batch, reduce_memory=model.decode_in_tiles)

    async def generate(prompt: str, seed: int) -> Image.Image:
        return cast("Image.Image", await worker.submit(stage, (prompt, seed)))

    return generate, model.max_tokens, ()


def _step_by_step(
    model: Diffusion, settings: Settings, worker: Worker
) -> tuple[Any, Callable[[], Awaitable[None]]]:
    """Return how to draw where drawings share the denoiser's calls, and how to close.

    Those who wait for a drawing wait for the same turns, which the worker's thread
    takes one by one; between two of them it may caption and score.
    """
    from socratic_agents.models.step_batching.batcher import Rendezvous

    batch = formation("generator", settings, worker, stage="denoiser")
    padded = settings.strict or settings.compile is not None
    meeting = Rendezvous(model.pipeline, max_batch=batch["max_batch"], padded=padded)

    def turn(nothing: list[None]) -> list[None]:
        meeting.turn()
        return nothing

    stage: Stage[None, None] = Stage(name="denoiser", run=turn, max_batch=1)
    turns: WeakKeyDictionary[AbstractEventLoop, asyncio.Future[None]]
    turns = WeakKeyDictionary()

    def next_turn() -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        taken = turns.get(loop)
        if taken is None or taken.done():
            # It is nobody's own, so it comes from no loop and outlives who asked.
            asked = worker.submit(stage, None)
            taken = turns[loop] = loop.create_task(asked, context=Context())
            taken.add_done_callback(lambda it: it.cancelled() or it.exception())
        return taken

    async def generate(prompt: str, seed: int) -> Image.Image:
        drawing = meeting.join(
            lambda pipeline: model.drawing_with(pipeline)([(prompt, seed)])[0]
        )
        try:
            while not drawing.done:
                await asyncio.shield(next_turn())
        finally:
            drawing.abort()
        drawn = drawing.result()
        if isinstance(drawn, CandidateError):
            raise drawn
        return drawn

    async def close() -> None:
        meeting.close()

    return generate, close


def images_server(settings: Settings) -> tuple[str, str | None] | None:
    """Return the address and the model of an images server, if one is named."""
    given = settings.generator
    if not isinstance(given, str):
        return None
    if given.startswith(("http://", "https://")):
        return given, settings.image_model
    if given.startswith("openai:"):
        return OPENAI, given.removeprefix("openai:")
    return None


def _images_api(api: Any, settings: Settings, server: tuple[str, str | None]) -> Any:
    base_url, model = server
    _refuse(settings, NOT_OF_SERVERS, f"the images server {base_url!r}")
    options: dict[str, Any] = {
        "timeout": settings.timeout,
        "negative_prompt": settings.negative_prompt,
    }
    if settings.width or settings.height:
        width, height = settings.width or settings.height, settings.height
        options["size"] = f"{width}x{height or width}"
    return api(base_url, model=model, api_key=settings.api_key, **options)


def _refuse(settings: Settings, names: Iterable[str], what: str) -> None:
    """Say of settings that would be passed over in silence that they are of no use."""
    for name in names:
        value = getattr(settings, name)
        if value != FIELDS[name].default:
            message = (
                f"expected no {name} for {what}, which takes none, got {value!r}; "
                "leave it out"
            )
            raise ConfigurationError(message)


def folder_of(name: str, part: PartName) -> str:
    """Return where to load a model from: its name, or our own weights.

    Args:
        name: As the settings have it.
        part: Which of the models it is.
    """
    if name != POCKET:
        return name
    from socratic_agents.pocket import weights_folder

    return str(weights_folder(part))
