"""Opens the image models that the settings name, in one worker's thread."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from socratic_agents.config.backends import Backend, choose_backend
from socratic_agents.config.final import final_settings
from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.clip import Clip
from socratic_agents.models.steadiness import scorer_steadiness
from socratic_agents.runtime.batching import batched_call, run_in_worker
from socratic_agents.runtime.captioner_llm.calls import looks_itself
from socratic_agents.runtime.captioners import (
    READER,
    captioner_calls,
    open_captioner,
    score_by_captioner,
)
from socratic_agents.runtime.devices.residents import Residents
from socratic_agents.runtime.generators import POCKET, model_source, open_generator
from socratic_agents.runtime.image_models import (
    FINAL,
    SCORE,
    ImageModels,
    as_candidate_errors,
    guarded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.generators import OpenedGenerator
    from socratic_agents.scheduler.worker import Worker

__all__ = ("SCORERS", "open_image_models", "open_scorer", "score_name")

OpenScorer: TypeAlias = "Callable[[Settings], Any]"
"""Returns an object whose ``score`` takes pairs of a text and an image."""


def open_image_models(settings: Settings, worker: Worker) -> ImageModels:
    """Open the image models that the settings name; blocks, in the worker's thread.

    Args:
        settings: What to open.
        worker: Runs the models from now on.

    Raises:
        ConfigurationError: If something cannot be opened, or is of the wrong type.
    """
    residents, final = Residents(settings, worker), final_settings(settings)
    scorers: list[object] = []

    def open_drawing(holds: str, own: Settings) -> OpenedGenerator:
        opened = residents.open(holds, partial(open_generator, own, worker))
        residents.note(holds, opened.model)
        return opened

    def open_reader(load: Callable[[], Any]) -> Any:
        opened = residents.open(READER, load)
        residents.note(READER, opened)
        return opened

    def open_looking() -> tuple[Any, dict[str, Any]]:
        opened = None if looks_itself(settings) else open_captioner(settings)
        residents.note("captioner", opened)
        return opened, captioner_calls(
            settings, opened, worker, open_reader=open_reader
        )

    generator = open_drawing("generator", settings)
    if settings.guidance_grid is not None and generator.generate_guided is None:
        public = settings.public()["generator"]
        message = (
            f"expected a diffusers pipeline for a guidance_grid, got {public!r}, which "
            "takes no guidance for each image; leave it out"
        )
        raise ConfigurationError(message)
    closers, generate_final = generator.closers, None
    notices = {"generator": generator.notices}
    if final is not None:
        last = open_drawing(FINAL, final)
        generate_final, closers = last.generate, (*closers, *last.closers)
        notices[FINAL] = last.notices
    captioner, calls = residents.open("captioner", open_looking)
    name, score = residents.open(
        "captioner" if settings.scorer == "captioner" else "scorer",
        partial(open_scorer, settings, worker, captioner, note=scorers.append),
    )
    for scorer in scorers:
        residents.note("scorer", scorer)
    worker.residency.settle()
    notices["captioner"] = getattr(captioner, "notices", tuple)

    def noticed() -> tuple[str, ...]:
        return tuple(f"{of}: {one}" for of, said in notices.items() for one in said())

    return guarded(
        ImageModels(
            generate=generator.generate,
            generate_guided=generator.generate_guided,
            generate_final=generate_final,
            **calls,
            score=score,
            score_name=name,
            max_tokens=generator.max_tokens,
            notices=noticed,
            closers=closers,
        )
    )


def open_scorer(
    settings: Settings,
    worker: Worker,
    captioner: Any = None,
    *,
    note: Callable[[object], object] = lambda _: None,
) -> tuple[str, Any]:
    """Return a score's name and how to score; ``None`` where nobody does.

    Args:
        settings: Names the scorer.
        worker: Runs it.
        captioner: The captioner, if it was opened already.
        note: Called with a scorer of its own that was opened.
    """
    given, name = settings.scorer, score_name(settings)
    if given is None:
        return name, None
    if given == "captioner":
        looks = captioner or open_captioner(settings)
        call = score_by_captioner(settings, looks, worker)
    elif isinstance(given, str) or hasattr(given, "score"):
        scorer = given
        if isinstance(given, str):
            scorer = choose_backend(SCORERS, given, default="clip").open(settings)
        note(scorer)
        steady = scorer_steadiness(scorer) if isinstance(scorer, Clip) else None
        call = batched_call(SCORE, scorer.score, settings, worker, steady=steady)
    else:
        call, name = run_in_worker(SCORE, given, worker), "score"
    return name, as_candidate_errors(SCORE, call)


def score_name(settings: Settings) -> str:
    """Return what the score of a scorer with a name is called."""
    given = settings.scorer
    if given == "captioner":
        return f"p_yes {Path(settings.public()['captioner']).name}"
    if isinstance(given, str) and given != POCKET:
        return choose_backend(SCORERS, given, default="clip").name
    return "clip"


def _load(settings: Settings) -> Any:
    given = settings.scorer
    own = {"prefix": ""} if given == POCKET else {}
    source = model_source(given, "scorer")
    return Clip.load(source, device=settings.device, dtype=settings.dtype, **own)


SCORERS: Registry[Backend[OpenScorer]] = Registry(
    "a scorer back end",
    (
        Backend(
            name=POCKET,
            title="The embedded OpenCLIP of the pocket world.",
            open=_load,
            claims=lambda value: value == POCKET,
        ),
        Backend(
            name="clip",
            title="CLIPScore by any OpenCLIP or transformers model: a name or folder.",
            open=_load,
        ),
    ),
    spec=Backend,
    group="socratic_agents.scorers",
)
