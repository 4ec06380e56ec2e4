"""One worker thread per device: it owns the models and takes a batch when it is free.

Pipelines are not safe to share between threads, and event loops must not wait for
them, so a single thread runs all models of a device. Items wait in queues, one for
each stage and key; only at the moment when the thread is free does it look which
batch is best (late binding). No timer seals a batch early, so batches fill up by
themselves while the device is busy.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from socratic_agents.errors import BatchError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import Self

__all__ = ("Stage", "StageStatistics", "Statistics", "Worker")

Item = TypeVar("Item")
Output = TypeVar("Output")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[Item, Output]):
    """One thing that a device does with lists of items."""

    name: str
    """For messages and statistics."""
    run: Callable[[list[Item]], Sequence[Output | Exception]]
    """Blocks in the worker's thread; one output for every item, in order. An output
    that is an exception is raised where its item was submitted, and only there."""
    max_batch: int = 8
    """Items of one call, at least 1."""
    padded: bool = False
    """Fill every call up to ``max_batch`` with copies of its last item. The last bits
    of an output depend on the size of its batch, but not on its neighbours: with one
    size for all calls, an item's output is the same whatever else is on its way."""
    priority: int = 0
    """The highest goes first: stages whose answer sets loops free to think (captions,
    scores) before the one that keeps the device busy for long (images)."""


@dataclass(frozen=True, kw_only=True)
class StageStatistics:
    """What a worker has done for one stage."""

    items: int = 0
    """Items that were run, copies that fill a batch left out."""
    batches: int = 0
    """Calls of the model, halves of a failed one included."""
    seconds: float = 0.0
    """How long these calls took together."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a worker has done since it was opened."""

    batches: int
    """Batches that were taken; halves of a failed one are not counted again."""
    items: int
    """Items in those batches."""
    fill: float
    """Mean of items / max_batch over all batches; 0 before the first."""
    busy: float
    """Share of the time in which a batch was running, 0 to 1."""
    waiting: int
    """Items that nobody has begun with."""
    stages: Mapping[str, StageStatistics]
    """The same by the name of the stage."""


@dataclass(eq=False)
class _Job:
    """An item and whoever waits for its output, in whatever event loop."""

    item: Any
    ticket: int
    answer: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, output: Any) -> None:
        """Hand the output over; the first one counts, and nobody may be left to care."""
        # The waiter's event loop may have ended before its answer was ready.
        with contextlib.suppress(RuntimeError):
            self.answer.get_loop().call_soon_threadsafe(self._settle, output)

    def _settle(self, output: Any) -> None:
        if self.answer.done():
            return
        if isinstance(output, BaseException):
            self.answer.set_exception(output)
        else:
            self.answer.set_result(output)


class Worker:
    """The thread that owns a device, and the queues in front of it.

    Items may be submitted from any number of event loops and threads. ``async with``
    opens and closes it; ``open`` and ``close`` do the same for those who cannot wait.
    What was not answered when it closes gets a ``ClosedError``.

    Args:
        name: Of the thread, for people who look at threads.
    """

    def __init__(self, name: str = "socratic-worker") -> None:
        # A daemon: the interpreter waits for other threads before ``atexit`` runs, so
        # a worker that nobody closed could never be told to stop.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._changed = threading.Condition()
        self._queues: dict[tuple[Stage[Any, Any], Hashable], deque[_Job]] = {}
        self._running: list[_Job] = []
        self._tickets = 0
        self._closed = False
        self._opened_at = self._busy_since = time.perf_counter()
        self._batches, self._items, self._fill, self._busy = 0, 0, 0.0, 0.0
        self._stages: dict[str, StageStatistics] = {}

    def open(self) -> None:
        """Start the thread."""
        self._opened_at = time.perf_counter()
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Answer every waiter with an error, and wait for the running batch to end."""
        self._refuse()
        if self._thread.is_alive():
            self._thread.join()
        atexit.unregister(self.close)

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._refuse()  # at once, however long the running batch still takes
        await asyncio.to_thread(self.close)

    async def submit(
        self, stage: Stage[Item, Output], item: Item, *, key: Hashable = None
    ) -> Output:
        """Return the stage's output for this item.

        Args:
            stage: What to do with the item; equal stages share batches.
            item: One element of the list that the stage's ``run`` gets.
            key: Only items with equal keys come into one batch: the image size, for
                example.

        Raises:
            ClosedError: If the worker is closed, or closes before the answer.
            BatchError: If the stage broke its contract.
            Exception: Whatever the stage raised or returned for this item.
        """
        with self._changed:
            if self._closed:
                raise _refusal(stage)
            job = _Job(item, self._tickets)
            self._tickets += 1
            self._queues.setdefault((stage, key), deque()).append(job)
            self._changed.notify()
        return cast("Output", await job.answer)

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the worker's thread, to load a model for example."""
        stage: Stage[None, Result] = Stage(
            name=getattr(function, "__name__", "call"),
            run=lambda _: [function()],
            max_batch=1,
        )
        return await self.submit(stage, None)

    def statistics(self) -> Statistics:
        """Return what was done until now."""
        with self._changed:
            now = time.perf_counter()
            busy = self._busy + (now - self._busy_since if self._running else 0.0)
            return Statistics(
                batches=self._batches,
                items=self._items,
                fill=self._fill / self._batches if self._batches else 0.0,
                busy=min(busy / max(now - self._opened_at, 1e-9), 1.0),
                stages=dict(self._stages),
                waiting=sum(
                    not job.answer.done()
                    for jobs in self._queues.values()
                    for job in jobs
                ),
            )

    def _refuse(self) -> None:
        """Take no more work, and answer everyone who still waits."""
        with self._changed:
            self._closed = True
            unanswered = [
                (stage, job)
                for (stage, _), jobs in self._queues.items()
                for job in jobs
            ] + [(None, job) for job in self._running]
            self._queues.clear()
            self._changed.notify()
        for stage, job in unanswered:
            job.settle(_refusal(stage))

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._running:
                    self._busy += time.perf_counter() - self._busy_since
                    self._running = []
                while (batch := self._take()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
                _, self._running = batch
                self._busy_since = time.perf_counter()
            self._run(*batch)
            del batch  # or the last images would live until the next batch

    def _take(self) -> tuple[Stage[Any, Any], list[_Job]] | None:
        """Return the batch that is best now, oldest items first; ``None``: no work."""
        for name, jobs in list(self._queues.items()):
            while jobs and jobs[0].answer.done():
                jobs.popleft()
            if not jobs:
                del self._queues[name]
        if not self._queues:
            return None
        stage, key = min(
            self._queues, key=lambda q: (-q[0].priority, self._queues[q][0].ticket)
        )
        jobs, batch = self._queues[stage, key], list[_Job]()
        while jobs and len(batch) < stage.max_batch:
            job = jobs.popleft()
            if not job.answer.done():
                batch.append(job)
        self._batches += 1
        self._items += len(batch)
        self._fill += len(batch) / stage.max_batch
        return stage, batch

    def _run(self, stage: Stage[Any, Any], jobs: list[_Job]) -> None:
        """Run a batch and answer it; one that fails is tried again in halves."""
        jobs = [job for job in jobs if not job.answer.done()]
        if not jobs or self._closed:
            return
        items = [job.item for job in jobs]
        if stage.padded:
            items += items[-1:] * (stage.max_batch - len(items))
        outputs: list[Any] | None
        start = time.perf_counter()
        try:
            outputs = list(stage.run(list(items)))
        except BaseException as problem:  # noqa: BLE001 - it is raised at the caller's
            outputs = [problem] * len(items) if len(jobs) == 1 else None
        self._note(stage.name, len(jobs), time.perf_counter() - start)
        # Outside of the "except": there, the traceback would keep the tensors alive.
        if outputs is None:
            half = len(jobs) // 2
            self._run(stage, jobs[:half])
            self._run(stage, jobs[half:])
        elif len(outputs) != len(items):
            # Before anyone is answered: nobody can say whose output is whose.
            for job in jobs:
                job.settle(_miscounted(stage, len(items), len(outputs)))
        else:
            for job, output in zip(jobs, outputs, strict=False):  # no copies
                job.settle(_raisable(stage, output))

    def _note(self, name: str, items: int, seconds: float) -> None:
        with self._changed:
            past = self._stages.get(name, StageStatistics())
            self._stages[name] = StageStatistics(
                items=past.items + items,
                batches=past.batches + 1,
                seconds=past.seconds + seconds,
            )


def _refusal(stage: Stage[Any, Any] | None) -> ClosedError:
    what = f"stage {stage.name!r}" if stage else "a running batch"
    message = f"expected an open worker for {what}, got a closed one; open a new one"
    return ClosedError(message)


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
