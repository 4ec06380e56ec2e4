"""Generators: what the settings name to draw, opened and made into a coroutine function."""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from socratic_agents.config.backends import Backend, choose_backend
from socratic_agents.config.catalog import REVISIONS
from socratic_agents.config.conflicts import refuse_settings
from socratic_agents.config.field import Group, Part
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.guidance import parse_grid
from socratic_agents.config.image_options import ImageOptions
from socratic_agents.config.loras import parse_loras
from socratic_agents.config.messages import public_value
from socratic_agents.config.recipes.recognition import recipe_of, unchosen
from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import BudgetError, CandidateError, ConfigurationError
from socratic_agents.llm.usage import current_meter
from socratic_agents.models.steadiness import generator_steadiness
from socratic_agents.network.rate_limit import RateLimiter
from socratic_agents.runtime.batching import (
    batched_call,
    chosen_guidance,
    guided,
    run_in_worker,
    stage_options,
)
from socratic_agents.runtime.image_models import GENERATE
from socratic_agents.runtime.language_model import language_model_address
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable

    from PIL import Image
    from pydantic import SecretStr

    from socratic_agents.config.settings import Settings
    from socratic_agents.models.acceleration import Acceleration
    from socratic_agents.models.diffusion import Diffusion
    from socratic_agents.runtime.image_models import ModelName

__all__ = (
    "GENERATORS",
    "OPENAI",
    "POCKET",
    "OpenedGenerator",
    "images_key",
    "images_server",
    "model_source",
    "open_generator",
    "refuse_settings",
)

OPENAI = "https://api.openai.com/v1"
POCKET = "pocket"

ARGUMENTS = tuple(name for name, field in FIELDS.items() if field.argument)
"""Settings that every call of a pipeline is given."""
AT_OPENING = tuple(name for name, field in FIELDS.items() if field.at_opening)
"""Settings that come too late for a generator that is open already."""
LOADED = (
    "variant",
    "scheduler",
    *(name for name, field in FIELDS.items() if field.file),
)
"""Settings that a pipeline takes only where it is loaded here."""
NOT_OF_SERVERS = tuple(
    name
    for name, field in FIELDS.items()
    if field.of is Part.GENERATOR
    and field.group is not Group.MODELS
    and not field.server
)
"""Settings of a generator that no images server takes."""


@dataclass(frozen=True, kw_only=True)
class OpenedGenerator:
    """A generator that was opened."""

    generate: Callable[[str, int], Awaitable[Image.Image]]
    """prompt, seed -> image"""
    generate_guided: Callable[[str, int, float], Awaitable[Image.Image]] | None = None
    """prompt, seed, guidance -> image; ``None``: none is chosen"""
    max_tokens: int | None = None
    """Tokens of a prompt that it reads; ``None``: not known"""
    model: object = None
    """What lies on the device; ``None``: nothing that could make room."""
    notices: Callable[[], tuple[str, ...]] = tuple
    """What means other images than those that were asked for, as far as it is known"""
    closers: tuple[Callable[[], Awaitable[None]], ...] = ()
    """To be awaited when it is not needed any more."""


OpenGenerator: TypeAlias = "Callable[[Settings, Worker], OpenedGenerator]"


def open_generator(settings: Settings, worker: Worker) -> OpenedGenerator:
    """Open the generator that the settings name; blocks, in the worker's thread.

    Args:
        settings: Name the generator.
        worker: Runs it from now on.

    Raises:
        ConfigurationError: If it cannot be opened, or is of the wrong type.
        LoadError: If there is no such model.
    """
    given = settings.generator
    if isinstance(given, str):
        backend = choose_backend(GENERATORS, given, default="diffusers")
        return backend.open(settings, worker)
    from socratic_agents.models.diffusion import Diffusion

    if isinstance(given, Diffusion):
        refuse_settings(settings, AT_OPENING, "a Diffusion")
        return _batched(given, settings, worker)
    if hasattr(given, "scheduler") and hasattr(given, "components"):
        refuse_settings(settings, LOADED, "a pipeline that is open already")
        call = _sampling(settings)
        model = Diffusion(given, acceleration=_acceleration(settings), **call)
        _tell_defaults(settings, model)
        return _batched(model, settings, worker)
    if settings.batching == "step":
        message = (
            "expected a diffusers pipeline for batching 'step', got a "
            f"{type(given).__name__}; choose batching 'request'"
        )
        raise ConfigurationError(message)
    late = (*AT_OPENING, "guidance_grid")
    refuse_settings(settings, late, "a generator that is no pipeline")
    return OpenedGenerator(generate=run_in_worker(GENERATE, given, worker))


def _open_images_server(settings: Settings, _: Worker) -> OpenedGenerator:
    from socratic_agents.models.images_api import ImagesAPI

    base_url, model = images_server(settings) or ("", None)
    refuse_settings(
        settings, NOT_OF_SERVERS, f"the images server {public_value(base_url)!r}"
    )
    given: dict[str, Any] = {}
    if settings.width or settings.height:
        width, height = settings.width or settings.height, settings.height
        given["size"] = f"{width}x{height or width}"
    if settings.image_options is not None:
        given["options"] = ImageOptions.parse(settings.image_options).values
    api = ImagesAPI(
        base_url,
        model=model,
        api_key=images_key(settings),
        negative_prompt=settings.negative_prompt,
        timeout=settings.image_timeout,
        limiter=_limiter(base_url, settings),
        on_lost=lambda: current_meter().add_images(),
        **given,
    )

    async def generate(prompt: str, seed: int) -> Image.Image:
        try:
            async with current_meter().in_time("an image"):
                return await api.generate(prompt, seed)
        except BudgetError as problem:
            raise CandidateError(GENERATE.failure, str(problem)) from None

    return OpenedGenerator(generate=generate, closers=(api.aclose,))


def _limiter(base_url: str, settings: Settings) -> RateLimiter:
    """Return the one limiter of an images server: its limits are an account's.

    It is opened for each device, and by each refiner.
    """
    concurrency, rate = settings.image_concurrency, settings.image_rate
    limiter = RateLimiter(concurrency=concurrency, rate=rate)
    return _limiters.setdefault((base_url, concurrency, rate), limiter)


_limiters = WeakValueDictionary[tuple[str, int, float | None], RateLimiter]()


def model_source(name: str, part: ModelName) -> str:
    """Return where to load a model from: its name, or our own weights.

    Args:
        name: As the settings have it.
        part: Which of the models it is.
    """
    if name != POCKET:
        return name
    from socratic_agents.pocket import weights_folder

    return str(weights_folder(part))


def images_server(settings: Settings) -> tuple[str, str | None] | None:
    """Return the address and the model of an images server, if one is named."""
    given = settings.generator
    if not isinstance(given, str) or not GENERATORS["images-server"].is_for(given):
        return None
    if given.startswith("openai:"):
        return OPENAI, given.removeprefix("openai:")
    return given, settings.image_model


def images_key(settings: Settings) -> SecretStr | None:
    """Return the key that the images server is sent, if it is sent one of the settings.

    The language model's goes there only where that has the same address, or is at none:
    an embedded one, or an object, which has a key of its own.
    """
    from socratic_agents.models.images_api_errors import checked_address, origin

    server = images_server(settings)
    if server is None or settings.image_api_key is not None:
        return settings.image_api_key
    address, shared = language_model_address(settings), checked_address(server[0])
    if address and origin(urlsplit(address)) != origin(shared):
        return None
    return settings.api_key


def _sampling(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ARGUMENTS}


def _acceleration(settings: Settings) -> Acceleration:
    from socratic_agents.models.acceleration import Acceleration

    return Acceleration(
        channels_last=settings.channels_last,
        compile=settings.compile,
        vae_batch=settings.vae_batch,
    )


def _load(settings: Settings, worker: Worker) -> OpenedGenerator:
    from socratic_agents.models.assembly.parts import Parts
    from socratic_agents.models.diffusion import Diffusion

    given, call = settings.generator, _sampling(settings)
    if given == POCKET:
        from socratic_agents.pocket import SAMPLING

        call = SAMPLING | {name: one for name, one in call.items() if one is not None}
    model = Diffusion.load(
        model_source(given, "generator"),
        device=settings.device,
        dtype=settings.dtype,
        variant=settings.variant,
        offload=settings.offload,
        quantization=settings.quantization,
        parts=Parts(
            base=settings.generator_config,
            loras=parse_loras(settings.lora or ()),
            scheduler=settings.scheduler,
            vae=settings.vae,
        ),
        revision=REVISIONS.get(given),
        acceleration=_acceleration(settings),
        **call,
    )
    if given != POCKET:
        _tell_defaults(settings, model)
    return _batched(model, settings, worker)


def _tell_defaults(settings: Settings, model: Diffusion) -> None:
    """Note what nobody chose: neither the settings, nor a recipe of the model's family."""
    recipe = recipe_of(settings.generator, base=settings.generator_config)
    left = unchosen(_sampling(settings), model.defaults)
    if recipe is None and left:
        model.notices.add(
            f"no recipe is known for {settings.public()['generator']!r}: its pipeline's "
            f"own defaults are used ({left}); set what its authors say"
        )


def _batched(model: Diffusion, settings: Settings, worker: Worker) -> OpenedGenerator:
    """Return a pipeline that draws whole batches, or shares steps."""
    if settings.batching == "step":
        return _step_by_step(model, settings, worker)
    options: dict[str, Any] = {
        "reduce_memory": model.decode_in_tiles,
        "steady": generator_steadiness(model),
    }
    if (grid := settings.guidance_grid) is not None:
        options["group"] = chosen_guidance
    draw = model if grid is None else guided(model, parse_grid(grid))
    generate = batched_call(GENERATE, draw, settings, worker, **options)
    return OpenedGenerator(
        generate=generate,
        # One stage for both, so that they queue together.
        generate_guided=None if grid is None else generate,
        max_tokens=model.max_tokens,
        model=model,
        notices=model.notices,
    )


def _step_by_step(
    model: Diffusion, settings: Settings, worker: Worker
) -> OpenedGenerator:
    """Return a pipeline whose images in the making share the denoiser's calls.

    Those who wait for an image wait for the same steps, which the worker's thread
    takes one by one; between two of them it may caption and score.
    """
    from socratic_agents.models.step_batching.batcher import StepBatcher

    batch = stage_options(
        "generator",
        settings,
        worker,
        stage="denoiser",
        steady=generator_steadiness(model),
    )
    padded = settings.strict or settings.compile is not None
    batcher = StepBatcher(model.pipeline, max_batch=batch["max_batch"], padded=padded)

    def step(nothing: list[None]) -> list[None]:
        batcher.step()
        return nothing

    stage: Stage[None, None] = Stage(
        name="denoiser", run=step, max_batch=1, holds=batch["holds"]
    )
    steps: WeakKeyDictionary[AbstractEventLoop, asyncio.Future[None]]
    steps = WeakKeyDictionary()

    def next_step() -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        taken = steps.get(loop)
        if taken is None or taken.done():
            # It is nobody's own, so it comes from no loop and outlives who asked.
            asked = worker.submit(stage, None)
            taken = steps[loop] = loop.create_task(asked, context=Context())
            taken.add_done_callback(lambda it: it.cancelled() or it.exception())
        return taken

    async def generate(prompt: str, seed: int) -> Image.Image:
        task = batcher.submit(
            lambda pipeline: model.drawing_with(pipeline)([(prompt, seed)])[0]
        )
        try:
            while not task.done:
                await asyncio.shield(next_step())
        finally:
            task.abort()
        drawn = task.result()
        if isinstance(drawn, CandidateError):
            raise drawn
        return drawn

    async def close() -> None:
        batcher.close()

    return OpenedGenerator(
        generate=generate,
        max_tokens=model.max_tokens,
        model=model,
        notices=model.notices,
        closers=(close,),
    )


GENERATORS: Registry[Backend[OpenGenerator]] = Registry(
    "a generator back end",
    (
        Backend(
            name=POCKET,
            title="The embedded Stable Diffusion of the pocket world.",
            open=_load,
            claims=lambda value: value == POCKET,
        ),
        Backend(
            name="images-server",
            title="Any server with OpenAI's images protocol: its address, or openai:…",
            open=_open_images_server,
            claims=lambda value: value.startswith(("http://", "https://", "openai:")),
        ),
        Backend(
            name="diffusers",
            title="Any diffusers text-to-image pipeline: a hub id, a folder or a file.",
            open=_load,
        ),
    ),
    spec=Backend,
    group="socratic_agents.generators",
)
