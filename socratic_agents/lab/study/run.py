"""Running a study: every arm on every prompt, and nothing that is finished twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.core.budget import Budget
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.lab.metrics.evaluate import evaluate
from socratic_agents.lab.metrics.models import MetricModels
from socratic_agents.lab.metrics.open import open_metrics
from socratic_agents.lab.study.folder import StudyFolder, manifest_of, public_settings
from socratic_agents.lab.study.trajectory import subjects_of
from socratic_agents.runtime.build import open_run_directory
from socratic_agents.scheduler.worker import Worker
from socratic_agents.storage.objects import ObjectStore
from socratic_agents.storage.safe_png import decode_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Candidate
    from socratic_agents.lab.metrics.metric import Metric
    from socratic_agents.lab.study.arms import PlannedArm
    from socratic_agents.lab.study.plan import StudyPlan
    from socratic_agents.runtime.interrupts import InterruptHandler
    from socratic_agents.runtime.refiner import Refiner
    from socratic_agents.storage.run_directory import RunDirectory

__all__ = ("StudyContext", "measure_arms", "refine_arm", "run_study")

CACHE = "cache"
"""Folder of the steps that all arms share: what they draw alike is drawn once."""


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """What a run of a study needs of its surroundings."""

    open_refiner: Callable[[Settings], Refiner]
    interruption: InterruptHandler
    report: Callable[[str], object]
    """Given a line for people."""
    command: str | None = None
    """What was typed."""


def run_study(plan: StudyPlan, path: Path, *, by: StudyContext) -> None:
    """Run what is not finished of a study, and measure what is not measured.

    Args:
        plan: As from ``plan_study``.
        path: Its folder; the same plan resumes where it stopped.
        by: What it needs of its surroundings.

    Raises:
        ConfigurationError: If something else was begun in the folder, something cannot
            be opened, or the budget of the study is spent.
        KeyboardInterrupt: If somebody interrupted; what is finished is kept.
    """
    folder = StudyFolder(path)
    folder.begin(manifest_of(plan, by.command))
    for seed in plan.seeds:
        for arm in plan.arms:
            refine_arm(plan, folder, arm, seed, by=by)
            if by.interruption.code:
                raise KeyboardInterrupt
    by.interruption.run(measure_arms(plan, folder, plan.arms, report=by.report))


def refine_arm(
    plan: StudyPlan,
    folder: StudyFolder,
    arm: PlannedArm,
    seed: int,
    *,
    by: StudyContext,
    places: Sequence[int] | None = None,
) -> None:
    """Refine what an arm has not refined yet; failures are tried once more.

    Args:
        plan: Of the study.
        folder: Of the study.
        arm: Of the plan, or one like them.
        seed: Where its noise comes from.
        by: What it needs of its surroundings.
        places: Of the prompts to refine; ``None``: all.

    Raises:
        ConfigurationError: If something cannot be opened, or nothing may be spent.
    """
    left = _left(plan, folder)
    settings = arm.ready(folder.path / "templates").but(
        # What stopped halfway would be no measurement; it is done again.
        seed=seed,
        run_budget=left,
        llm_failure="raise",
    )
    chosen = range(len(plan.prompts)) if places is None else places
    texts = [(place, plan.prompts[place].row.text) for place in chosen]
    many = f" with seed {seed}" if len(plan.seeds) > 1 else ""
    with _directory(folder, arm, seed, settings) as run:
        run.set_inputs(prompt.row.text for prompt in plan.prompts)
        pending = [(i, t) for i, t in texts if run.finished(i, t) is None]
        if not pending:
            by.report(f"{arm.name}{many}: finished before")
            return
        by.report(f"{arm.name}{many}: {len(pending)} of {len(texts)} prompts to refine")
        refiner = by.open_refiner(settings).remember(run)
        waiting = by.interruption.until(pending)
        by.interruption.run(_refine(refiner, waiting, run))


async def _refine(
    refiner: Refiner, pending: Iterable[tuple[int, str]], run: RunDirectory
) -> None:
    places: list[int] = []

    def prompts() -> Iterator[str]:
        for index, prompt in pending:
            places.append(index)
            yield prompt

    async with refiner, aclosing(refiner.refine_many(prompts())) as outcomes:
        async for outcome in outcomes:
            placed = replace(outcome, index=places[outcome.index])
            await asyncio.to_thread(run.save, placed)


def _directory(
    folder: StudyFolder, arm: PlannedArm, seed: int, settings: Settings
) -> RunDirectory:
    return open_run_directory(
        folder.run_folder(arm.name, seed),
        settings,
        # What is left of the study's budget decides nothing else.
        shown=public_settings(arm, seed),
        resume=True,
        cache=folder.path / CACHE,
    )


def _left(plan: StudyPlan, folder: StudyFolder) -> Budget:
    """Return what the study may still spend, each arm charged for all it used.

    Raises:
        ConfigurationError: If that is nothing.
    """
    limits = plan.run_budget.limits()
    if not limits:
        return Budget()
    spent = dict.fromkeys(limits, 0.0)
    for arm in plan.arms:
        for seed in plan.seeds:
            for one in folder.outcomes(arm.name, seed).values():
                if isinstance(one, Refinement):
                    usage = one.usage.to_json()
                    usage["tokens"] = usage["input_tokens"] + usage["output_tokens"]
                    for name in spent:
                        spent[name] += usage[name] or 0
    left = {name: limit - spent[name] for name, limit in limits.items()}
    for name, rest in left.items():
        if rest <= 0:
            message = (
                f"expected room in the budget of the study, got {name} spent "
                f"({spent[name]:,.10g} of {limits[name]:,.10g}); raise it in the study "
                "and run the same command again"
            )
            raise ConfigurationError(message)
    return Budget.parse(
        {k: v if isinstance(limits[k], float) else int(v) for k, v in left.items()}
    )


async def measure_arms(
    plan: StudyPlan,
    folder: StudyFolder,
    arms: Sequence[PlannedArm],
    *,
    report: Callable[[str], object],
) -> None:
    """Measure every image that was not measured by every metric.

    Args:
        plan: Names the metrics.
        folder: Of the study.
        arms: Of the plan, or some like them.
        report: Given a line for people.

    Raises:
        ConfigurationError: If a metric cannot be opened.
    """
    names = {kind.name for kind in plan.metrics}
    stale = [
        (arm, seed)
        for seed in plan.seeds
        for arm in arms
        if not names <= folder.scores(arm.name, seed).keys()
    ]
    if not stale:
        return
    report(f"measuring {', '.join(sorted(names))}")
    async with Worker() as worker:
        models = MetricModels(settings=plan.base, worker=worker)
        metrics = await worker.call(partial(open_metrics, plan.metrics, models))
        for arm, seed in stale:
            await _measure_one(plan, folder, arm.name, seed, metrics)


async def _measure_one(
    plan: StudyPlan,
    folder: StudyFolder,
    arm: str,
    seed: int,
    metrics: tuple[Metric, ...],
) -> None:
    run = folder.run_folder(arm, seed)
    subjects = [
        subject
        for index, outcome in sorted(folder.outcomes(arm, seed).items())
        if not isinstance(outcome, Failure)
        for subject in subjects_of(outcome, plan.prompts[index].row)
    ]

    def load(candidate: Candidate) -> Image:
        data = ObjectStore(run).get(candidate.path or "")
        image = None if data is None else decode_png(data)
        if image is None:
            message = f"expected the image {candidate.path}, got none; restore it"
            raise ConfigurationError(message)
        return image

    scores = await evaluate(metrics, subjects, load=load)
    folder.keep_scores(arm, seed, _plain(scores))


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores whose records JSON can hold."""
    return {
        name: replace(one, record=json.loads(json.dumps(one.record, default=str)))
        for name, one in scores.items()
    }
