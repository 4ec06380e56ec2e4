"""One worker thread per device: it owns the models and takes a batch when it is free.

Pipelines are not safe to share between threads, and event loops must not wait for
them, so a single thread runs all models of a device. Items wait in lines, one for each
stage and key; only at the moment when the thread is free is it decided, in that
thread, which batch is best (late binding; see ``dispatch``). No timer seals a batch
early, so batches fill up by themselves while the device is busy.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from socratic_agents.core.errors import ClosedError, StageTimeoutError
from socratic_agents.scheduler.cost_model import Calibration
from socratic_agents.scheduler.executor import Caller
from socratic_agents.scheduler.policy import Dispatcher, Run
from socratic_agents.scheduler.queues import Item as Waiting
from socratic_agents.scheduler.requests import Job, Loop, current_loop
from socratic_agents.scheduler.return_wait import Answered
from socratic_agents.scheduler.stage import Stage
from socratic_agents.scheduler.stats import StageStatistics, Statistics, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import Self

    from socratic_agents.core.errors import SocraticError

__all__ = ("Stage", "StageStatistics", "Statistics", "Worker")

Item = TypeVar("Item")
Output = TypeVar("Output")
Result = TypeVar("Result")


class Worker:
    """The thread that owns a device, and the lines in front of it.

    Items may be submitted from any number of event loops and threads. ``async with``
    opens and closes it; ``open`` and ``close`` do the same for those who cannot wait.
    What was not answered when it closes gets a ``ClosedError``.

    Args:
        name: Of the thread, for people who look at threads.
        calibration: What calls cost; ``None``: learned anew, and forgotten.
    """

    def __init__(
        self, name: str = "socratic-worker", *, calibration: Calibration | None = None
    ) -> None:
        # A daemon: the interpreter waits for other threads before ``atexit`` runs, so
        # a worker that nobody closed could never be told to stop.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._changed = threading.Condition()
        self._calibration = calibration or Calibration()
        self._caller = Caller(
            self._calibration,
            watch=self._watch,
            note=self._note,
            closed=lambda: self._closed,
        )
        self._dispatcher, self._numbers = Dispatcher(), itertools.count()
        self._tally = Tally(time.perf_counter())
        self._running: list[Job] = []
        self._loops: dict[int, Loop] = {}
        self._answered = Answered(self._dispatcher.grace)
        self._closed = False
        self._over = threading.Event()  # the thread has ended, or is stuck
        self._watched: object = None
        self._stuck: Stage[Any, Any] | None = None

    def open(self) -> None:
        """Start the thread."""
        self._tally.open(time.perf_counter())
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Answer every waiter with an error, and wait for the running batch to end.

        One that is stuck is not waited for. What calls cost is kept.
        """
        self._refuse()
        if self._thread.is_alive():
            self._over.wait()
            if not self._stuck:
                self._thread.join()
        atexit.unregister(self.close)
        self._calibration.save()

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
            StageTimeoutError: If a call takes longer than its stage has patience.
            BatchError: If the stage broke its contract.
            Exception: Whatever the stage raised or returned for this item.
        """
        job, loop = Job(item, stage), current_loop.get()
        with self._changed:
            if self._closed or self._stuck:
                raise self._refusal(stage)
            number = next(self._numbers)
            waiting = Waiting(
                job, number, loop.order if loop else number, loop and loop.user
            )
            if loop:
                loop.waiting += 1
                self._answered.discard(loop.order)
                self._dispatcher.thinking.end(loop.order, now=time.perf_counter())
            self._dispatcher.add(
                waiting,
                stage=stage,
                key=key,
                priority=stage.priority,
                most=self._calibration.limit(stage, key),
                curve=self._calibration.curve(stage, key),
            )
            self._changed.notify()
        try:
            return cast("Output", await job.answer)
        finally:
            with self._changed:
                self._dispatcher.discard(waiting, stage=stage, key=key)
                if loop:
                    loop.waiting -= 1

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the worker's thread, to load a model for example."""
        stage: Stage[None, Result] = Stage(
            name=getattr(function, "__name__", "call"),
            run=lambda _: [function()],
            max_batch=1,
        )
        return await self.submit(stage, None)

    @contextmanager
    def loop(self, *, user: Hashable = None) -> Iterator[None]:
        """Take what is submitted meanwhile, in tasks begun here too, for one loop's.

        The items of the loop that began first go first.

        Args:
            user: Whose loop it is; users get equal shares of the device.
        """
        with self._changed:
            loop = Loop(next(self._numbers), user)
            self._loops[loop.order] = loop
        token = current_loop.set(loop)
        try:
            yield
        finally:
            current_loop.reset(token)
            with self._changed:
                del self._loops[loop.order]
                self._answered.discard(loop.order)
                self._changed.notify()
                self._dispatcher.thinking.end(loop.order, now=time.perf_counter())

    def think(self) -> None:
        """Let the worker know that this loop is about to wait for something else.

        An idle device may then wait for it a moment, rather than begin with a batch
        that is nearly empty. The loop is back when it submits the next item, and
        cannot be on its way while another item of it waits.
        """
        if loop := current_loop.get():
            with self._changed:
                self._answered.discard(loop.order)
                self._changed.notify()
                if not loop.waiting:
                    now = time.perf_counter()
                    self._dispatcher.thinking.begin(loop.order, now=now)

    def admission(self) -> int | None:
        """Return how many loops keep the device busy; ``None``: not known yet."""
        with self._changed:
            return self._dispatcher.worth_admitting()

    def measured(self, stage: str, model: str | None) -> int:
        """Return the largest call that was measured of a model with a name; 0: none."""
        return self._calibration.largest(stage, model)

    def statistics(self) -> Statistics:
        """Return what was done until now."""
        with self._changed:
            now = time.perf_counter()
            return self._tally.statistics(len(self._dispatcher), now=now)

    def _give_up(self, stage: Stage[Any, Any], watched: object) -> None:
        """Answer everyone, since the device may never be free again."""
        with self._changed:
            if self._watched is not watched:
                return  # it has just ended
            self._stuck = stage
            self._answer_all()
            self._over.set()

    @contextmanager
    def _watch(self, stage: Stage[Any, Any]) -> Iterator[None]:
        """Watch a call of a stage that has not patience without end."""
        if stage.patience is None:
            yield
            return
        watched = self._watched = object()
        timer = threading.Timer(stage.patience, self._give_up, (stage, watched))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._changed:
                self._watched = self._stuck = None
                self._over.clear()

    def _note(self, stage: Stage[Any, Any], items: int, seconds: float) -> None:
        """Count a call."""
        with self._changed:
            self._tally.called(stage.name, items, seconds)

    def _refuse(self) -> None:
        """Take no more work, and answer everyone who still waits."""
        with self._changed:
            self._closed = True
            self._answer_all()
            self._changed.notify()

    def _answer_all(self) -> None:
        for waiting in self._dispatcher.clear():
            waiting.payload.settle(self._refusal(waiting.payload.stage))
        for job in self._running:
            job.settle(self._refusal(None))

    def _refusal(self, stage: Stage[Any, Any] | None) -> SocraticError:
        what = f"stage {stage.name!r}" if stage else "a running batch"
        if self._stuck:
            message = (
                f"expected a worker that answers for {what}, got one that has been "
                f"stuck for more than {self._stuck.patience} s in a call of stage "
                f"{self._stuck.name!r}; wait for the call, or restart the program"
            )
            return StageTimeoutError(message)
        message = (
            f"expected an open worker for {what}, got a closed one; open a new one"
        )
        return ClosedError(message)

    def _alone(self, items: list[Waiting]) -> set[int]:
        """Return the loops that wait for nothing but these items."""
        counts = Counter(item.loop for item in items)
        return {
            order
            for order, count in counts.items()
            if order in self._loops and self._loops[order].waiting == count
        }

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._caller.run(*batch)
                del batch  # or the last images would live until the next batch
        finally:
            self._over.set()

    def _next(self) -> tuple[Stage[Any, Any], Hashable, list[Job]] | None:
        """Return the batch that is best now, when there is one; ``None``: closed."""
        with self._changed:
            if self._running:
                self._running = []
                self._tally.end(time.perf_counter())
            while not self._closed:
                now = time.perf_counter()
                if seconds := self._answered.wait(now):
                    self._changed.wait(seconds)
                    continue
                decision = self._dispatcher.decide(now)
                if not isinstance(decision, Run):
                    timeout = decision.until - now if decision else None
                    self._changed.wait(timeout)
                    continue
                stage = cast("Stage[Any, Any]", decision.line.stage)
                jobs = [item.payload for item in decision.items]
                jobs = [job for job in jobs if job.wanted]
                if jobs:
                    self._running = jobs
                    self._answered.expect(self._alone(decision.items))
                    self._tally.begin(len(jobs), stage.max_batch, now=now)
                    return stage, decision.line.key, jobs
            return None
