"""Voices: the models that the settings name, opened and made into coroutine functions.

Each is one call for one item; the worker forms the batches beneath.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.config.profiles import REVISIONS
from socratic_agents.core.checklist import read_answer
from socratic_agents.core.history import Status
from socratic_agents.runtime.adapters import called, drawn, guarded
from socratic_agents.runtime.batching import formation
from socratic_agents.runtime.generators import POCKET, folder_of, open_generator
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.checklist import Answer

__all__ = ("Voices", "open_scorer", "open_voices", "score_name")

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
    generate, max_tokens, closers = open_generator(settings, worker)
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


def _captioner(settings: Settings) -> Any:
    """Return the captioner itself: a model that was loaded, or what was given."""
    given = settings.captioner
    if not isinstance(given, str):
        return given
    from socratic_agents.models.captioning import Captioner

    pocket = {"question_format": "question: {question} answer:"}
    return Captioner.load(
        folder_of(given, "captioner"),
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
        from socratic_agents.models.clip import Clip

        pocket = {"prefix": ""}
        score = Clip.load(
            folder_of(given, "scorer"),
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
