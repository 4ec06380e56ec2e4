"""Captioners: what the settings name to look at images, opened and made into calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from socratic_agents.config.backends import Backend, choose_backend
from socratic_agents.config.catalog import REVISIONS
from socratic_agents.config.field import Group, Part
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.image_options import parse_options
from socratic_agents.config.registry import Registry
from socratic_agents.core.checklist import read_answer
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.captioning import Captioner, shows
from socratic_agents.models.steadiness import captioner_steadiness
from socratic_agents.runtime.batching import batched_call, holding, run_in_worker
from socratic_agents.runtime.captioner_llm.calls import (
    LANGUAGE_MODEL,
    look_later,
    looks_itself,
    writes_too,
    writing,
)
from socratic_agents.runtime.generators import POCKET, model_source, refuse_settings
from socratic_agents.runtime.image_models import (
    ANSWER_COUNT,
    ANSWER_OPEN,
    ANSWER_YES_NO,
    CAPTION,
    READ_TEXT,
    SCORE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.checklist import Answer
    from socratic_agents.scheduler.worker import Worker

__all__ = (
    "CAPTIONERS",
    "as_reader",
    "captioner_calls",
    "open_captioner",
    "score_by_captioner",
)

AT_OPENING = tuple(
    name
    for name, field in FIELDS.items()
    if field.of is Part.CAPTIONER and field.group is not Group.MODELS
)
"""Settings that come too late for a captioner that is open already."""

READER = "reader"
"""What the reader's stage holds: it is a model of its own."""

OpenCaptioner: TypeAlias = "Callable[[Settings], Any]"
"""Returns an object with ``caption``, and what else docs/models.md says of captioners."""


@dataclass(frozen=True)
class _CaptionsOnly:
    """A model that was never taught to answer questions."""

    captioner: Captioner

    @property
    def writer(self) -> Any:
        """What writes with its weights, if it can."""
        return self.captioner.writer

    def caption(self, images: Sequence[Image.Image]) -> Sequence[Any]:
        """Say what each image shows, in order."""
        return self.captioner.caption(images)


def open_captioner(settings: Settings) -> Any:
    """Return the captioner itself: a model that was loaded, or what was given; blocks.

    Args:
        settings: Name it.

    Raises:
        LoadError: If there is no such model.
    """
    given = settings.captioner
    if not isinstance(given, str):
        refuse_settings(settings, AT_OPENING, "a captioner that is open already")
        return given
    return choose_backend(CAPTIONERS, given, default="transformers").open(settings)


def captioner_calls(
    settings: Settings,
    captioner: Any,
    worker: Worker,
    *,
    open_reader: Callable[[Callable[[], Any]], Any] = lambda load: load(),
) -> dict[str, Any]:
    """Return how a captioner captions and answers, by the fields of ``ImageModels``.

    Args:
        settings: Say where it runs and how.
        captioner: As from ``open_captioner``.
        worker: Runs it.
        open_reader: Loads the reader, which takes place on the device, too.

    Raises:
        ConfigurationError: If it is of the wrong type.
    """
    reading = partial(_reading, settings, worker=worker, open_reader=open_reader)
    if looks_itself(settings):
        return {"caption": look_later, "read_text": reading(None)}
    writes = writing(captioner, settings, worker) if writes_too(settings) else {}
    if not hasattr(captioner, "caption"):
        return {"caption": run_in_worker(CAPTION, captioner, worker)}
    answers = getattr(captioner, "answer", None)
    decides = getattr(captioner, "decide", answers and partial(_read, answers))
    # The pocket captioner was taught its own questions alone.
    taught = settings.captioner == POCKET
    counts = None if taught else getattr(captioner, "count", None)
    told, asked = (_formed(captioner, settings, asked=asked) for asked in (False, True))
    call = partial(batched_call, settings=settings, worker=worker)
    return {
        **writes,
        "caption": call(CAPTION, captioner.caption, **told),
        "answer_yes_no": decides and call(ANSWER_YES_NO, decides, **asked),
        "answer_open": answers and call(ANSWER_OPEN, answers, **asked),
        "answer_count": counts and call(ANSWER_COUNT, counts, **asked),
        "read_text": reading(captioner),
    }


def as_reader(settings: Settings) -> Settings:
    """Return settings by which the reader is opened and called as a captioner is.

    Args:
        settings: Name it.
    """
    own = {"captioner_options": None, "captioner_pixels": None, "reader": None}
    return settings.but(captioner=settings.reader, **own)


def _reading(
    settings: Settings,
    captioner: Any,
    *,
    worker: Worker,
    open_reader: Callable[[Callable[[], Any]], Any],
) -> Any:
    """Return how text on an image is read: by the reader, or else by the captioner."""
    holds = "captioner"
    if settings.reader is not None:
        settings, holds = as_reader(settings), READER
        captioner = open_reader(partial(_load, settings, reader=True))
    elif settings.captioner == POCKET or not hasattr(captioner, "read"):
        return None
    formed = _formed(captioner, settings, asked=True)
    with holding(holds):
        return batched_call(READ_TEXT, captioner.read, settings, worker, **formed)


def score_by_captioner(
    settings: Settings, captioner: Any, worker: Worker
) -> Callable[..., Any]:
    """Return how a captioner scores, by how surely an image shows a prompt.

    Args:
        settings: Say where it runs and how.
        captioner: As from ``open_captioner``.
        worker: Runs it.

    Raises:
        ConfigurationError: If it only captions.
    """
    if not hasattr(captioner, "fit"):
        message = (
            "expected a captioner that answers questions for scorer 'captioner', got "
            f"{settings.public()['captioner']!r}, which only captions; name another "
            "scorer, or none"
        )
        raise ConfigurationError(message)
    formed = _formed(captioner, settings, asked=True)
    if group := formed.pop("group", None):
        formed["group"] = lambda prompt, image: group(image, shows(prompt))
    return batched_call(SCORE, captioner.fit, settings, worker, **formed)


def _formed(captioner: Any, settings: Settings, *, asked: bool) -> dict[str, Any]:
    """Return what all of a strict call must have in common, and how it is measured.

    Images of several sizes and questions of several lengths would be filled up to the
    longest of a call.
    """
    if isinstance(captioner, _CaptionsOnly):
        captioner = captioner.captioner
    if not settings.strict or not isinstance(captioner, Captioner):
        return {}

    def group(image: Image.Image, question: str | None = None) -> tuple[Any, ...]:
        return image.size, question and captioner.width(question)

    return {"group": group, "steady": captioner_steadiness(captioner, asked=asked)}


def _read(answers: Any, questions: Sequence[tuple[Image.Image, str]]) -> list[Answer]:
    """Read yes or no from what a captioner of one's own writes."""
    return [read_answer(str(text)) for text in answers(questions)]


def _refuse(_: Settings) -> Any:
    message = (
        "expected a captioner that can be opened by itself, got 'llm', which stands for "
        "the language model; name another one here"
    )
    raise ConfigurationError(message)


def _load(settings: Settings, *, reader: bool = False) -> Any:
    given, own = settings.captioner, dict[str, Any]()
    if given == POCKET:
        own = {"question_format": "question: {question} answer:"}
    if settings.captioner_options is not None:
        options = parse_options(settings.captioner_options, example="")
        own["options"] = {n: value for n, value in options.items() if value is not None}
    captioner = Captioner.load(
        model_source(given, "captioner"),
        device=settings.device,
        dtype=settings.dtype,
        revision=REVISIONS.get(given),
        quantization=settings.captioner_quantization,
        offload=settings.captioner_offload,
        pixels=settings.captioner_pixels,
        reader=reader,
        **own,
    )
    return captioner if reader or captioner.answers else _CaptionsOnly(captioner)


CAPTIONERS: Registry[Backend[OpenCaptioner]] = Registry(
    "a captioner back end",
    (
        Backend(
            name=POCKET,
            title="The embedded BLIP-2 of the pocket world.",
            open=_load,
            claims=lambda value: value == POCKET,
        ),
        Backend(
            name=LANGUAGE_MODEL,
            title="The language model, which must take images; nothing is loaded.",
            open=_refuse,
            claims=lambda value: value == LANGUAGE_MODEL,
        ),
        Backend(
            name="transformers",
            title="BLIP-2 or any transformers image-text-to-text model: a hub id or folder.",
            open=_load,
        ),
    ),
    spec=Backend,
    group="socratic_agents.captioners",
)
