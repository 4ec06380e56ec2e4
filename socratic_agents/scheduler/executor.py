"""Calls: running a batch and answering it, whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import OOM_ERROR_NAMES, BatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from contextlib import AbstractContextManager

    from socratic_agents.scheduler.cost_model import Calibration
    from socratic_agents.scheduler.requests import Job
    from socratic_agents.scheduler.stage import Stage

__all__ = ("Caller",)


@dataclass(frozen=True)
class _Outcome:
    """How a call of the model ended."""

    outputs: list[Any] | None
    """What it returned; ``None``: it failed."""
    problem: BaseException | None = None
    """What it raised, if that is for a single item."""
    lacking: bool = False
    """Whether there was too little memory."""


class Caller:
    """Runs batches: fills them up, halves those that fail, answers everyone once.

    Args:
        calibration: Learns from the calls.
        watch: Returns a context that lasts as long as a call of a stage.
        note: Told of every call, failed ones included: stage, items, seconds.
        closed: Asked before every call; nothing is begun any more when true.
    """

    def __init__(
        self,
        calibration: Calibration,
        *,
        watch: Callable[[Stage[Any, Any]], AbstractContextManager[None]],
        note: Callable[[Stage[Any, Any], int, float], None],
        closed: Callable[[], bool],
    ) -> None:
        self._calibration = calibration
        self._watch, self._note, self._closed = watch, note, closed

    def run(
        self,
        stage: Stage[Any, Any],
        key: Hashable,
        jobs: Sequence[Job],
        *,
        remedies: Sequence[Callable[[], object] | None] | None = None,
    ) -> None:
        """Run a batch and answer it; one that fails is tried again in halves.

        Args:
            stage: What to do.
            key: What the items have in common.
            jobs: Who waits; those who do not any more are left out.
            remedies: What to try, one after the other, when there is too little
                memory for a single item; ``None``: all that the stage has.
        """
        jobs = [job for job in jobs if job.wanted]
        if not jobs or self._closed():
            return
        limit = self._calibration.limit(stage, key)
        if len(jobs) > limit:
            self._in_pieces(stage, key, jobs, limit)
            return
        size = stage.filled(len(jobs), limit=limit)
        start = time.perf_counter()
        outcome = self._called(stage, jobs, size)
        seconds = time.perf_counter() - start
        self._note(stage, len(jobs), seconds)
        if outcome.lacking:
            left = (stage.relieve, stage.smaller) if remedies is None else remedies
            self._lacking(stage, key, jobs, size, left, outcome.problem)
        elif outcome.problem is not None:
            jobs[0].settle(_raisable(stage, outcome.problem))
        elif outcome.outputs is None:
            half = len(jobs) // 2
            self.run(stage, key, jobs[:half])
            self.run(stage, key, jobs[half:])
        elif len(outcome.outputs) != size:
            # Before anyone is answered: nobody can say whose output is whose.
            for job in jobs:
                job.settle(_miscounted(stage, size, len(outcome.outputs)))
        else:
            self._calibration.observe(stage, key, items=size, seconds=seconds)
            for job, output in zip(jobs, outcome.outputs, strict=False):  # no copies
                job.settle(_raisable(stage, output))

    def _called(
        self, stage: Stage[Any, Any], jobs: Sequence[Job], size: int
    ) -> _Outcome:
        """Call the model with the items, and copies of the last one.

        Outside of the "except" all goes on: there, the traceback would keep the
        tensors of a failed call alive.
        """
        items = [job.item for job in jobs]
        items += items[-1:] * (size - len(items))
        try:
            with self._watch(stage):
                return _Outcome(list(stage.run(items)))
        except BaseException as error:  # noqa: BLE001 - it is raised at the caller's
            if type(error).__name__ in OOM_ERROR_NAMES:
                return _Outcome(None, error.with_traceback(None), lacking=True)
            return _Outcome(None, error if len(jobs) == 1 else None)

    def _lacking(
        self,
        stage: Stage[Any, Any],
        key: Hashable,
        jobs: Sequence[Job],
        size: int,
        remedies: Sequence[Callable[[], object] | None],
        problem: BaseException | None,
    ) -> None:
        """Go on with less memory: in smaller batches, then with smaller pieces."""
        if size > 1:
            _try(stage.relieve)
            cap = size // 2
            self._calibration.lower(stage, key, cap=cap)
            self._in_pieces(stage, key, jobs, cap)
            return
        left = [remedy for remedy in remedies if remedy is not None]
        if not left:
            jobs[0].settle(problem)
            return
        _try(left[0])
        self.run(stage, key, jobs, remedies=left[1:])

    def _in_pieces(
        self, stage: Stage[Any, Any], key: Hashable, jobs: Sequence[Job], size: int
    ) -> None:
        for start in range(0, len(jobs), size):
            self.run(stage, key, jobs[start : start + size])


def _try(remedy: Callable[[], object] | None) -> None:
    """Apply a remedy; one that fails must not end the worker's thread."""
    if remedy is not None:
        with contextlib.suppress(Exception):
            remedy()


def _miscounted(stage: Stage[Any, Any], expected: int, got: int) -> BatchError:
    message = (
        f"expected {expected} outputs of stage {stage.name!r}, one for each item, "
        f"got {got}; mend the model's list"
    )
    return BatchError(message)


def _raisable(stage: Stage[Any, Any], output: Any) -> Any:
    """Return an output that can be given to its waiter: an exit is his alone."""
    if not isinstance(output, BaseException) or (
        isinstance(output, Exception) and not isinstance(output, StopIteration)
    ):
        return output
    message = (
        f"expected stage {stage.name!r} to return or to raise an ordinary exception, "
        f"got {type(output).__name__}; mend the model"
    )
    error = BatchError(message)
    error.__cause__ = output
    return error
