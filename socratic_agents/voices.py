"""Voices: the models that the settings name, opened and made into coroutine functions.

Each is one call for one item; the worker forms the batches beneath.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from socratic_agents.batching import PartName, formation
from socratic_agents.callables import called, drawn, guarded
from socratic_agents.checklist import read_answer
from socratic_agents.errors import CandidateError, ConfigurationError
from socratic_agents.history import Status
from socratic_agents.profiles import REVISIONS
from socratic_agents.scheduler import Stage, Worker

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Iterable

    from PIL import Image

    from socratic_agents.checklist import Answer
    from socratic_agents.models.diffusion import Diffusion
    from socratic_agents.settings import Settings

__all__ = (
    "OPENAI",
    "Voices",
    "images_server",
    "open_scorer",
    "open_voices",
    "score_name",
)

OPENAI = "https://api.openai.com/v1"
POCKET = "pocket"

SPEEDS = ("channels_last", "compile", "vae_batch")
"""Settings that make a pipeline of ours faster, and nothing else."""

QUESTIONS = 16
"""Questions of one call: they are short, and every image gets several."""


@dataclass(frozen=True, kw_only=True)
class Voices:
    """What the image models do, one item a call; a failure is a candidate's error."""

    generate: Callable[[str, int], Awaitable[Image.Image]]
    """prompt, seed -> image (RGB)"""
    caption: Callable[[Image.Image], Awaitable[str]]
    """image -> caption"""
    decide: Callable[[Image.Image, str], Awaitable[Answer]] | None = None
    """image, yes/no question -> answer; ``None``: the captioner only captions"""
    look: Callable[[Image.Image, str], Awaitable[str]] | None = None
    """image, open question -> answer"""
    score: Callable[[str, Image.Image], Awaitable[float]] | None = None
    """user prompt, image -> score, higher is better"""
    score_name: str = "score"
    """What that score is called."""
    max_tokens: int | None = None
    """Tokens of a prompt that the generator reads; ``None``: not known"""
    closers: tuple[Callable[[], Awaitable[None]], ...] = ()
    """To be awaited when the voices are not needed any more."""


def open_voices(settings: Settings, worker: Worker) -> Voices:
    """Open the models that the settings name; blocks, in the worker's thread.

    Args:
        settings: What to open.
        worker: Runs the models from now on.

    Raises:
        ConfigurationError: If something cannot be opened, or is of the wrong type.
    """
    generate, max_tokens, closers = _generator(settings, worker)
    captioner = _captioner(settings)
    caption = _captions(settings, captioner, worker)
    decide, look = _answers(settings, captioner, worker)
    score_name, score = open_scorer(settings, worker, captioner)
    return Voices(
        generate=drawn(guarded(generate, Status.GENERATION_FAILED)),
        caption=guarded(caption, Status.CAPTION_FAILED),
        decide=decide,
        look=look,
        score=score,
        score_name=score_name,
        max_tokens=max_tokens,
        closers=closers,
    )


def _generator(
    settings: Settings, worker: Worker
) -> tuple[Any, int | None, tuple[Callable[[], Awaitable[None]], ...]]:
    """Return how to draw, how many tokens are read, and what to close at the end."""
    given = settings.generator
    names = ("steps", "guidance_scale", "width", "height")
    call = {name: getattr(settings, name) for name in names}
    server = images_server(settings)
    if server is not None:
        from socratic_agents.models.images_api import ImagesAPI  # noqa: PLC0415 - slow

        api = _images_api(ImagesAPI, settings, server)
        return api.generate, None, (api.aclose,)
    from socratic_agents.models.diffusion import Diffusion  # noqa: PLC0415 - slow
    from socratic_agents.models.speed import Speed  # noqa: PLC0415 - slow

    speed = Speed(
        channels_last=settings.channels_last,
        compile=settings.compile,
        vae_batch=settings.vae_batch,
    )
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
            speed=speed,
            **call,
        )
    elif isinstance(given, Diffusion):
        _refuse(settings, SPEEDS, "a Diffusion")
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
        _refuse(settings, SPEEDS, "a generator that is no pipeline")
        return called(given, "generator", worker), None, ()
    if settings.batching == "step":
        stepwise, close = _step_by_step(model, settings, worker)
        return stepwise, model.max_tokens, (close,)
    batch = formation("generator", settings, worker, stage="generator")
    stage = Stage(run=model, **batch, smaller=model.decode_in_tiles)

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
    from socratic_agents.models.rendezvous import Rendezvous  # noqa: PLC0415 - slow

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


def _captioner(settings: Settings) -> Any:
    """Return the captioner itself: a model that was loaded, or what was given."""
    given = settings.captioner
    if not isinstance(given, str):
        return given
    from socratic_agents.models.captioning import Captioner  # noqa: PLC0415 - slow

    pocket = {"question_format": "question: {question} answer:"}
    return Captioner.load(
        _folder(given, "captioner"),
        device=settings.device,
        dtype=settings.dtype,
        revision=REVISIONS.get(given),
        **(pocket if given == POCKET else {}),
    )


def _captions(settings: Settings, captioner: Any, worker: Worker) -> Any:
    if not hasattr(captioner, "caption"):
        return called(captioner, "captioner", worker)
    stage: Stage[Image.Image, str] = Stage(
        run=captioner.caption,
        **formation("captioner", settings, worker, stage="captioner"),
        priority=1,
    )

    async def caption(image: Image.Image) -> str:
        return await worker.submit(stage, image)

    return caption


def _answers(settings: Settings, captioner: Any, worker: Worker) -> tuple[Any, Any]:
    """Return how the captioner decides by yes or no, and answers open questions."""
    answers = getattr(captioner, "answer", None)
    stages = {
        "decide": getattr(captioner, "decide", answers and partial(_read, answers)),
        "look": answers,
    }

    width = getattr(captioner, "width", None) if settings.strict else None

    def voice(name: str, run: Any) -> Any:
        asked = formation("captioner", settings, worker, stage=name)
        most = QUESTIONS if asked["max_batch"] > 1 else 1
        asked |= {"max_batch": most, "priority": 1}
        stage: Stage[tuple[Image.Image, str], Any] = Stage(run=run, **asked)

        async def ask(image: Image.Image, question: str) -> Any:
            key = width(question) if width else None
            return await worker.submit(stage, (image, question), key=key)

        return guarded(ask, Status.OK)

    decide, look = (run and voice(name, run) for name, run in stages.items())
    return decide, look


def _read(answers: Any, questions: list[tuple[Image.Image, str]]) -> list[Answer]:
    """Read yes or no from what a captioner of one's own writes."""
    return [read_answer(str(text)) for text in answers(questions)]


def open_scorer(
    settings: Settings, worker: Worker, captioner: Any = None
) -> tuple[str, Any]:
    """Return a score's name and how to score; ``None`` where nobody does.

    Args:
        settings: Names the scorer.
        worker: Runs it.
        captioner: The captioner, if it was opened already.
    """
    given, name = settings.scorer, score_name(settings)
    if given is None:
        return name, None
    if given == "captioner":
        score = (captioner or _captioner(settings)).fit
    elif isinstance(given, str):
        from socratic_agents.models.clip import Clip  # noqa: PLC0415 - slow

        pocket = {"prefix": ""}
        score = Clip.load(
            _folder(given, "scorer"),
            device=settings.device,
            dtype=settings.dtype,
            **(pocket if given == POCKET else {}),
        ).score
    elif hasattr(given, "score"):
        score = given.score
    else:
        return "score", guarded(called(given, "scorer", worker), Status.OK)
    stage: Stage[tuple[str, Image.Image], float] = Stage(
        run=score,
        **formation("scorer", settings, worker, stage="scorer"),
        priority=1,
    )

    async def scored(user_prompt: str, image: Image.Image) -> float:
        return await worker.submit(stage, (user_prompt, image))

    return name, guarded(scored, Status.OK)


def score_name(settings: Settings) -> str:
    """Return what the score of a scorer with a name is called."""
    if settings.scorer == "captioner":
        return f"p_yes {Path(settings.public()['captioner']).name}"
    return "clip"


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
    names = ("steps", "guidance_scale", "offload", "quantization", "batching", *SPEEDS)
    _refuse(settings, names, f"the images server {base_url!r}")
    options: dict[str, Any] = {"timeout": settings.timeout}
    if settings.width or settings.height:
        width, height = settings.width or settings.height, settings.height
        options["size"] = f"{width}x{height or width}"
    return api(base_url, model=model, api_key=settings.api_key, **options)


def _refuse(settings: Settings, names: Iterable[str], what: str) -> None:
    """Say of settings that would be passed over in silence that they are of no use."""
    for name in names:
        value = getattr(settings, name)
        if value != type(settings).model_fields[name].default:
            message = (
                f"expected no {name} for {what}, which takes none, got {value!r}; "
                "leave it out"
            )
            raise ConfigurationError(message)


def _folder(name: str, part: PartName) -> str:
    """Return where to load a model from: its name, or our own weights."""
    if name != POCKET:
        return name
    from socratic_agents.pocket import weights_folder  # noqa: PLC0415 - slow

    return str(weights_folder(part))
