"""Evaluation: several metrics on many images, a batch forming beneath."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from socratic_agents.core.text import error_line
from socratic_agents.lab.metrics.metric import Need
from socratic_agents.lab.metrics.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from socratic_agents.core.history import Candidate
    from socratic_agents.lab.metrics.metric import Metric
    from socratic_agents.lab.metrics.scores import Subject, Value

__all__ = ("evaluate",)

IN_FLIGHT = 128
"""Subjects at once: two full batches of a scorer."""


async def evaluate(
    metrics: Sequence[Metric],
    subjects: Sequence[Subject],
    *,
    load: Callable[[Candidate], Image] | None = None,
    in_flight: int = IN_FLIGHT,
) -> dict[str, Scores]:
    """Return each metric's scores of all subjects, in their order, by its name.

    What cannot be measured is a value with a reason, never an error and never 0.

    Args:
        metrics: Open metrics, each name once.
        subjects: Images with what belongs to them.
        load: Reads the image of a candidate that has only a path; blocks, in a thread.
            It is let go as soon as its subject is measured.
        in_flight: Subjects that are measured at once, at least 1; so many images are
            in memory.

    Raises:
        ClosedError: If the metrics' worker is closed.
        BatchError: If a model broke its contract, or is stuck.
    """
    room = asyncio.Semaphore(in_flight)
    rounds = any(Need.ROUNDS in metric.needs for metric in metrics)
    images = rounds or any(
        need in metric.needs
        for metric in metrics
        for need in (Need.IMAGE, Need.REFERENCE)
    )

    async def one(subject: Subject) -> list[Value]:
        async with room:
            if load is not None and images:
                subject = await asyncio.to_thread(_loaded, subject, load, rounds=rounds)
            return await asyncio.gather(*(m.value(subject) for m in metrics))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(subject)) for subject in subjects]
    except ExceptionGroup as problems:
        raise problems.exceptions[0] from None
    rows = [task.result() for task in tasks]
    return {
        metric.name: Scores(
            metric=metric.name,
            record=metric.record,
            higher_is_better=metric.higher_is_better,
            values=tuple(row[place] for row in rows),
            bounds=metric.bounds,
        )
        for place, metric in enumerate(metrics)
    }


def _loaded(
    subject: Subject, load: Callable[[Candidate], Image], *, rounds: bool
) -> Subject:
    """Return a subject with its images in memory, as far as they can be read."""
    read: dict[str, Image | str] = {}

    def seen(candidate: Candidate) -> Candidate:
        path = candidate.path
        if candidate.image is not None or path is None:
            return candidate
        if path not in read:
            try:
                read[path] = load(candidate)
            except Exception as problem:  # noqa: BLE001 - one image fails, not the study
                read[path] = error_line(problem)
        found = read[path]
        if isinstance(found, str):
            return replace(candidate, error=found)
        return replace(candidate, image=found)

    history = subject.history
    if rounds and history is not None:
        history = replace(
            history,
            rounds=tuple(
                replace(one, candidates=tuple(map(seen, one.candidates)))
                for one in history.rounds
            ),
        )
    return replace(subject, candidate=seen(subject.candidate), history=history)
