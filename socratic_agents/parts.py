"""Parts: what the names in the settings stand for, opened and made into voices."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from socratic_agents.callables import called, drawn, guarded
from socratic_agents.errors import ConfigurationError
from socratic_agents.history import Status
from socratic_agents.loop import Agents
from socratic_agents.profiles import REVISIONS
from socratic_agents.roles import (
    open_judge,
    open_language_model,
    open_optimizer,
    open_selector,
)
from socratic_agents.scheduler import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from PIL import Image

    from socratic_agents.chains.templates import Template
    from socratic_agents.history import Candidate
    from socratic_agents.settings import Settings

__all__ = ("Parts", "check_keys", "open_parts")

PartName = Literal["generator", "captioner", "scorer"]

OPENAI = "https://api.openai.com/v1"
POCKET = "pocket"

BATCHES: dict[PartName, int] = {"generator": 8, "captioner": 16, "scorer": 64}
"""Items of one call on an accelerator."""
CPU_BATCH = 4
"""Items of every call on a CPU: twice the images of single calls where many prompts
share it, and the same seed is the same image down to the last bit."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that was opened for some settings."""

    agents: Agents
    closers: tuple[Callable[[], Awaitable[None]], ...] = field(default=())
    """To be awaited when the parts are not needed any more."""


def check_keys(settings: Settings, *, speaks: bool) -> None:
    """Check that the services which the settings name get the key they will ask for.

    Nothing is loaded or written for that.

    Args:
        settings: What is to be opened.
        speaks: Whether a language model will be asked anything.

    Raises:
        ConfigurationError: If a key is missing.
    """
    server = _images_server(settings)
    services = {
        f"llm {settings.llm!r}": speaks
        and isinstance(settings.llm, str)
        and settings.llm.startswith("openai:")
        and settings.base_url is None,
        f"generator {settings.generator!r}": server is not None
        and urlsplit(server[0]).hostname == urlsplit(OPENAI).hostname,
    }
    for service, asks in services.items():
        if asks and settings.api_key is None and not os.environ.get("OPENAI_API_KEY"):
            message = (
                f"expected a key for {service}, got none; set OPENAI_API_KEY or "
                "SOCRATIC_API_KEY"
            )
            raise ConfigurationError(message)


def open_parts(
    settings: Settings, templates: Mapping[str, Template], worker: Worker
) -> Parts:
    """Open everything that the settings name; blocks, in the worker's thread.

    Args:
        settings: What to open.
        templates: As from ``find_templates``.
        worker: Runs the models from now on.

    Raises:
        ConfigurationError: If something cannot be opened, or is of the wrong type.
    """
    # The language model first: what is wrong with it is found soon.
    llm = open_language_model(settings) if templates else None
    generate, max_tokens, closers = _generator(settings, worker)
    agents = Agents(
        generate=drawn(guarded(generate, Status.GENERATION_FAILED)),
        caption=guarded(_captioner(settings, worker), Status.CAPTION_FAILED),
        assess=_scorer(settings, worker),
        judge=open_judge(settings, templates, llm),
        optimize=open_optimizer(settings, templates, llm, max_tokens),
        select=open_selector(settings, templates, llm),
    )
    return Parts(agents=agents, closers=closers)


def _generator(
    settings: Settings, worker: Worker
) -> tuple[Any, int | None, tuple[Callable[[], Awaitable[None]], ...]]:
    """Return how to draw, how many tokens are read, and what to close at the end."""
    given = settings.generator
    names = ("steps", "guidance_scale", "width", "height")
    call = {name: getattr(settings, name) for name in names}
    server = _images_server(settings)
    if server is not None:
        from socratic_agents.models.images_api import ImagesAPI  # noqa: PLC0415 - slow

        api = _images_api(ImagesAPI, settings, server)
        return api.generate, None, (api.aclose,)
    from socratic_agents.models.diffusion import Diffusion  # noqa: PLC0415 - slow

    if given == POCKET:
        from socratic_agents.pocket import SAMPLING  # noqa: PLC0415 - slow

        call = {name: value or SAMPLING.get(name) for name, value in call.items()}
    if isinstance(given, str):
        quantization = settings.quantization and {
            "quant_backend": f"bitsandbytes_{settings.quantization}",
            "quant_kwargs": {f"load_in_{settings.quantization}": True},
        }
        model = Diffusion.load(
            _folder(given, "generator"),
            device=settings.device,
            dtype=settings.dtype,
            offload=settings.offload,
            quantization=quantization,
            revision=REVISIONS.get(given),
            **call,
        )
    elif isinstance(given, Diffusion):
        model = given
    elif hasattr(given, "scheduler") and hasattr(given, "components"):
        model = Diffusion(given, **call)
    else:
        return called(given, "generator", worker), None, ()
    stage = Stage(name="generator", run=model, **_batch("generator", settings))

    async def generate(prompt: str, seed: int) -> Image.Image:
        return cast("Image.Image", await worker.submit(stage, (prompt, seed)))

    return generate, model.max_tokens, ()


def _captioner(settings: Settings, worker: Worker) -> Any:
    given = settings.captioner
    if isinstance(given, str):
        from socratic_agents.models.captioning import Captioner  # noqa: PLC0415 - slow

        pocket = {"question_format": "question: {question} answer:"}
        given = Captioner.load(
            _folder(given, "captioner"),
            device=settings.device,
            dtype=settings.dtype,
            revision=REVISIONS.get(given),
            **(pocket if given == POCKET else {}),
        )
    if not hasattr(given, "caption"):
        return called(given, "captioner", worker)
    stage: Stage[Image.Image, str] = Stage(
        name="captioner",
        run=given.caption,
        **_batch("captioner", settings),
        priority=1,
    )

    async def caption(image: Image.Image) -> str:
        return await worker.submit(stage, image)

    return caption


def _scorer(settings: Settings, worker: Worker) -> Any:
    """Return the loop's ``assess``, or ``None`` where nothing is scored."""
    given, name = settings.scorer, "clip"
    if given is None:
        return None
    if isinstance(given, str):
        from socratic_agents.models.clip import Clip  # noqa: PLC0415 - slow

        pocket = {"prefix": ""}
        given = Clip.load(
            _folder(given, "scorer"),
            device=settings.device,
            dtype=settings.dtype,
            **(pocket if given == POCKET else {}),
        )
    if hasattr(given, "score"):
        stage: Stage[tuple[str, Image.Image], float] = Stage(
            name="scorer",
            run=given.score,
            **_batch("scorer", settings),
            priority=1,
        )

        async def score(user_prompt: str, image: Image.Image) -> float:
            return await worker.submit(stage, (user_prompt, image))

        safe = guarded(score, Status.OK)
    else:
        safe, name = guarded(called(given, "scorer", worker), Status.OK), "score"

    async def assess(user_prompt: str, candidate: Candidate) -> Mapping[str, float]:
        return {name: await safe(user_prompt, candidate.image)}

    return assess


def _images_server(settings: Settings) -> tuple[str, str | None] | None:
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
    for name in ("steps", "guidance_scale", "offload", "quantization"):
        if getattr(settings, name) is not None:
            message = (
                f"expected no {name} for the images server {base_url!r}, which takes "
                f"none, got {getattr(settings, name)!r}; leave it out"
            )
            raise ConfigurationError(message)
    options: dict[str, Any] = {"timeout": settings.timeout}
    if settings.width or settings.height:
        width, height = settings.width or settings.height, settings.height
        options["size"] = f"{width}x{height or width}"
    return api(base_url, model=model, api_key=settings.api_key, **options)


def _folder(name: str, part: PartName) -> str:
    """Return where to load a model from: its name, or our own weights."""
    if name != POCKET:
        return name
    from socratic_agents.pocket import weights_folder  # noqa: PLC0415 - slow

    return str(weights_folder(part))


def _batch(part: PartName, settings: Settings) -> dict[str, Any]:
    """Return how a stage forms its batches on the device."""
    from socratic_agents.models.devices import choose_device  # noqa: PLC0415 - slow

    if choose_device(settings.device).type == "cpu":
        return {"max_batch": CPU_BATCH, "padded": True}
    return {"max_batch": BATCHES[part]}
