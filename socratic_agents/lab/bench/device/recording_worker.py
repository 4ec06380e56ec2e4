"""The recording worker: stands where models expect the worker, for any scheduler.

Every item is wrapped into a traced item, and its output comes back with it: so it
shows whether a scheduler gave somebody what another one asked for.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from socratic_agents.core.errors import BatchError
from socratic_agents.lab.bench.device.instrumentation import (
    CallLog,
    TracedCall,
    TracedItem,
    TracedOutput,
    current_loop_id,
)
from socratic_agents.scheduler.residency import Residency

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from socratic_agents.scheduler.worker import Stage

__all__ = ("RecordingWorker", "SchedulerUnderTest")


class SchedulerUnderTest(Protocol):
    """Shares a device between loops: what the worker is to a refiner."""

    async def __aenter__(self) -> Self:
        """Open the device's thread."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Close it, when what runs is done."""

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Hashable = None
    ) -> Any:
        """Return the stage's output for this item."""

    def session(self, *, user: Hashable = None) -> AbstractContextManager[None]:
        """Take what is submitted meanwhile for one loop's."""

    def think(self) -> None:
        """Take note that the loop is about to wait for its language model."""


class RecordingWorker:
    """Stands where models expect the worker, and passes on to the scheduler under test."""

    def __init__(self) -> None:
        self.log, self.residency = CallLog(), Residency()
        self.scheduler: SchedulerUnderTest | None = None
        self.caps: dict[str, int] = {}
        """Items of the largest call by the stage's name, where not the stage's own."""
        self._tracked: dict[Stage[Any, Any], Stage[Any, Any]] = {}

    def start(self, scheduler: SchedulerUnderTest) -> CallLog:
        """Pass on to this scheduler from now on, and return the log of its calls."""
        self.scheduler, self.log, self._tracked = scheduler, CallLog(), {}
        return self.log

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Hashable = None
    ) -> Any:
        """Pass an item on, and check that the output is its own.

        Raises:
            BatchError: If it is somebody else's.
            Exception: Whatever the stage raised or returned for this item.
        """
        scheduler, log = self._here(), self.log
        user, _ = current_loop_id.get()
        traced, name = TracedItem(item, key, user), stage.name
        log.enter(stage, traced)
        answer: Any = None
        try:
            answer = await scheduler.submit(self._watched(stage), traced, key=key)
        finally:
            # Who was cancelled may still be run: his item stays.
            log.leave(stage, traced, answered=answer is not None)
        if not isinstance(answer, TracedOutput) or answer.traced is not traced:
            message = (
                f"expected the output of stage {name!r} for an item, got that of "
                "another; fix the scheduler"
            )
            raise BatchError(message)
        if isinstance(answer.output, Exception):
            raise answer.output
        return answer.output

    def session(self, *, user: Hashable = None) -> AbstractContextManager[None]:
        """Pass on."""
        return self._here().session(user=user)

    def think(self) -> None:
        """Pass on."""
        self._here().think()

    def largest_measured(self, stage: str, model: str | None) -> int:  # noqa: ARG002 - as a worker
        """Return how large calls are worth being, once that was measured."""
        return self.caps.get("generator" if stage == "denoiser" else stage, 0)

    def _here(self) -> SchedulerUnderTest:
        if self.scheduler is None:
            message = "expected a scheduler under test, got none; start one"
            raise BatchError(message)
        return self.scheduler

    def _watched(self, stage: Stage[Any, Any]) -> Stage[Any, Any]:
        """Return a stage that runs tickets and keeps the log, always the same one."""
        if stage not in self._tracked:
            cap = stage.max_batch if stage.padded else self.caps.get(stage.name)
            most = cap or stage.max_batch
            run = _logged(stage, self.log, most)
            self._tracked[stage] = replace(stage, run=run, max_batch=most)
        return self._tracked[stage]


def _logged(
    stage: Stage[Any, Any], log: CallLog, most: int
) -> Callable[[list[TracedItem]], Sequence[TracedOutput]]:
    """Return how to run a stage on tickets, with a line in the log for each call."""

    def run(traced_items: list[TracedItem]) -> list[TracedOutput]:
        began, cpu = time.perf_counter(), time.thread_time()
        outputs = list(stage.run([traced.item for traced in traced_items]))
        ended, spent = time.perf_counter(), time.thread_time() - cpu
        if len(outputs) != len(traced_items):
            message = (
                f"expected {len(traced_items)} outputs of stage {stage.name!r}, got "
                f"{len(outputs)}; fix the model's list"
            )
            raise BatchError(message)
        own = dict.fromkeys(traced_items)  # without the copies that fill a call up
        for traced in own:
            traced.runs += 1
        call = TracedCall(
            stage=stage.name,
            key=traced_items[0].key,
            began=began,
            ended=ended,
            cpu=spent,
            users=tuple(traced.user for traced in own),
            most=most,
        )
        log.calls.append(call)
        return [TracedOutput(*pair) for pair in zip(traced_items, outputs, strict=True)]

    return run
