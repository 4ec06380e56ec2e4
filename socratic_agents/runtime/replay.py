"""Replay: a run decided again, by other rules, from what was done already.

The rounds stay as they were; where to stop and what to return is decided anew. No
image is drawn, no model is opened and nobody is asked. Where the other rules would
need a step that was never done, that is told in place of a result.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image
from pydantic import SecretStr

from socratic_agents.agents.registry import find_roles, find_templates
from socratic_agents.config.fields import FIELDS, defaults_of
from socratic_agents.config.settings import Settings
from socratic_agents.core.counts import Count
from socratic_agents.core.errors import (
    ConfigurationError,
    MissingStepError,
    SocraticError,
)
from socratic_agents.core.final import with_finals
from socratic_agents.core.history import History, Round, StopReason
from socratic_agents.core.loop import assessed, chosen, verdict_on
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.llm.cache import ResponseCache, using_cache
from socratic_agents.llm.usage import using_meter
from socratic_agents.runtime.build import build_agents
from socratic_agents.runtime.cached_models import (
    language_model_identity,
    max_tokens_of,
    with_journal,
)
from socratic_agents.runtime.image_models import SCORE, ImageModels
from socratic_agents.runtime.language_model import open_language_model
from socratic_agents.runtime.open_models import score_name
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_config import CONFIG
from socratic_agents.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from socratic_agents.core.history import Candidate
    from socratic_agents.core.loop import Agents
    from socratic_agents.runtime.image_models import CallKind

__all__ = ("Replayed", "in_words", "replay", "settings_of")

Seen = TypeVar("Seen", Count, str)

NAMES = {
    "generate": ("image", "images"),
    "caption": ("caption", "captions"),
    "decide": ("answer about an image", "answers about images"),
    "look": ("answer about an image", "answers about images"),
    "count": ("count on an image", "counts on images"),
    "read": ("reading of an image", "readings of images"),
    "score": ("score", "scores"),
    "llm": ("answer of the language model", "answers of the language model"),
}
"""What one step of a kind is called, and what several are."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One prompt of a run, decided again."""

    index: int
    user_prompt: str
    before: str | None
    """Path of the image that was returned in the run; ``None``: it failed."""
    refinement: Refinement | None = None
    """What comes out now; ``None``: that cannot be said."""
    needs: Mapping[str, int] | None = None
    """Steps that were never done, by kind: what would be needed next, at least."""
    error: str | None = None
    """Why it fails now, if it does."""

    @property
    def same(self) -> bool:
        """Whether the same image is returned as before."""
        return self.refinement is not None and self.refinement.best.path == self.before

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; a refinement as in ``results.jsonl``."""
        return {
            "schema": 1,
            "index": self.index,
            "user_prompt": self.user_prompt,
            "status": "ok" if self.refinement else "incomplete",
            "same": self.same,
            "before": self.before,
            "needs": dict(self.needs or {}),
            "error": self.error,
            "refinement": self.refinement and self.refinement.to_json(),
        }


def in_words(needs: Mapping[str, int]) -> str:
    """Return how many steps of each kind are needed, in words."""
    told = [f"{n} {NAMES[kind][n > 1]}" for kind, n in sorted(needs.items())]
    return ", ".join(told)


def settings_of(folder: Path) -> Settings:
    """Return the settings of a run, secrets left out.

    Raises:
        ConfigurationError: If it is no run, or its settings cannot be read.
    """
    try:
        file = folder / CONFIG
        config = json.loads(file.read_bytes() if file.is_file() else b"")
        # What a run of an earlier release does not know had its default.
        known = defaults_of(name for name, one in FIELDS.items() if not one.secret)
        return Settings(**known | config["settings"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        message = (
            f"expected the folder of a run with {CONFIG}, got {folder} "
            f"({' '.join(str(problem).split())[:200]}); make one with 'socratic batch'"
        )
        raise ConfigurationError(message) from None


async def replay(folder: Path, settings: Settings) -> AsyncGenerator[Replayed, None]:
    """Decide a run again, prompt by prompt, in the order of its inputs.

    Args:
        folder: The run directory.
        settings: Those of the run, with other rules: ``selector``, ``judge`` and
            ``rounds``, for example.

    Raises:
        ConfigurationError: If it is no run, somebody writes in it, or the settings
            name what cannot be opened.
    """
    before = read_outcomes(folder)
    run = RunDirectory(folder, settings=settings_of(folder).public())
    with run:
        before.index.reload()  # opening it may have set aside what is corrupt
        agents = _agents(run, settings)
        identity = language_model_identity(settings)
        cache = ResponseCache(
            journal=run.journal, model_identity=identity, replay_only=True
        )
        with using_cache(cache):
            for outcome in before:
                yield await _decided(outcome, agents, settings, run)


async def _decided(
    outcome: Refinement | Failure, agents: Agents, settings: Settings, run: RunDirectory
) -> Replayed:
    path = outcome.best.path if isinstance(outcome, Refinement) else None
    replayed = Replayed(
        index=outcome.index, user_prompt=outcome.user_prompt, before=path
    )
    try:
        with using_meter() as meter:
            refinement = await _refined(outcome, agents, settings, run)
    except MissingStepError as problem:
        return replace(replayed, needs=problem.needs)
    except SocraticError as problem:
        return replace(replayed, error=str(problem))
    usage = replace(refinement.usage, llm_calls=meter.llm_calls)
    shown = replace(
        refinement, index=outcome.index, settings=settings.public(), usage=usage
    )
    return replace(replayed, refinement=shown)


async def _refined(
    outcome: Refinement | Failure, agents: Agents, settings: Settings, run: RunDirectory
) -> Refinement:
    """Decide again what the drafts bring, and whether the final images keep it."""
    before = outcome.history or History(user_prompt=outcome.user_prompt)
    drafts = tuple(round_ for round_ in before.rounds if not round_.final)
    searched = replace(before, rounds=drafts)
    refinement = await _searched(outcome, searched, agents, settings, run)
    if settings.final_generator is None or refinement.stop.interrupted:
        return refinement
    finals = [one for one in before.candidates if one.final]
    if not finals and _wanted_a_final(outcome):
        return refinement  # there was no room for one
    best, history = refinement.best, refinement.history
    if not finals or (finals[0].prompt, finals[0].seed) != (best.prompt, best.seed):
        raise MissingStepError({"generate": settings.final_images})
    again = [await _again(one, history, agents, run) for one in finals]
    return with_finals(refinement, again)


def _wanted_a_final(outcome: Refinement | Failure) -> bool:
    told = outcome.settings if isinstance(outcome, Refinement) else {}
    return told.get("final_generator") is not None


async def _searched(
    outcome: Refinement | Failure,
    before: History,
    agents: Agents,
    settings: Settings,
    run: RunDirectory,
) -> Refinement:
    """Judge the rounds of a run again, as far as they go, and select again."""
    checklist = before.checklist
    if checklist is None and agents.inquire is not None:
        checklist = await agents.inquire(outcome.user_prompt)
    history = History(user_prompt=outcome.user_prompt, checklist=checklist)
    for round_ in before.rounds[: settings.rounds]:
        candidates = [
            await _again(one, history, agents, run) for one in round_.candidates
        ]
        history += Round(candidates=tuple(candidates), error=round_.error)
        verdict = await verdict_on(history, agents)
        history = history.judged(verdict)
        if verdict.satisfied:
            return await chosen(history, agents, StopReason.SATISFIED)
    if settings.rounds and len(before.rounds) >= settings.rounds:
        return await chosen(history, agents, StopReason.ROUNDS_SPENT)
    if isinstance(outcome, Refinement):
        stop = outcome.stop  # an end that came from outside comes again
        if stop.cut_short or stop is StopReason.BUDGET_SPENT:
            ended = await chosen(history, agents, stop)
            return replace(ended, llm_error=outcome.llm_error)
    images = settings.prompts_per_round * settings.seeds_per_prompt
    more = {"llm": 1} if history.rounds else {}
    raise MissingStepError({"generate": images if history.rounds else 1, **more})


async def _again(
    candidate: Candidate, history: History, agents: Agents, run: RunDirectory
) -> Candidate:
    """Look at a candidate again."""
    bare = replace(_with_image(candidate, run), scores={}, answers=())
    again = await assessed(history.user_prompt, bare, history.checklist, agents)
    return replace(again, error=candidate.error or again.error)


def _with_image(candidate: Candidate, run: RunDirectory) -> Candidate:
    if candidate.path is None:
        return candidate
    data = run.journal.objects.get(candidate.path)
    if data is None:
        raise MissingStepError({"generate": 1})
    with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
        return replace(candidate, image=opened.convert("RGB"))


def _or_else(
    known: Callable[[Image.Image, str], Awaitable[Seen]], otherwise: Seen
) -> Callable[[Image.Image, str], Awaitable[Seen]]:
    """Return what a run knows of an image, or something else where it knows nothing."""

    async def look(image: Image.Image, question: str) -> Seen:
        try:
            return await known(image, question)
        except MissingStepError:
            return otherwise

    return look


def _agents(run: RunDirectory, settings: Settings) -> Agents:
    """Return agents that know what a run knows, and nothing else."""

    def absent(kind: CallKind[Any]) -> Callable[..., Awaitable[Any]] | None:
        if kind is SCORE and not settings.scorer:
            return None

        async def missing(*_: Any) -> Any:
            raise MissingStepError({kind.journal: 1})

        return missing

    silent = ImageModels.make(
        absent,
        score_name=score_name(settings),
        max_tokens=max_tokens_of(run.journal, settings),
    )
    models = with_journal(silent, run.journal, settings, images=run.images)
    # Where a run did neither count nor read, yes and no had to do, and do again.
    counts, reads = models.answer_count, models.read_text
    models = replace(
        models,
        answer_count=counts and _or_else(counts, Count(number=None)),
        read_text=reads and _or_else(reads, ""),
    )
    templates = find_templates(settings)
    # It is opened, for how it is asked belongs to the question, but never asked.
    keyed = settings.but(api_key=settings.api_key or SecretStr("none"))
    llm = open_language_model(keyed) if find_roles(settings).needs_llm else None
    return build_agents(settings, templates, llm, models)
