"""One worker thread per device: it owns the models and takes a batch when it is free.

Pipelines are not safe to share between threads, and event loops must not wait for
them, so a single thread runs all models of a device. Requests wait in queues, one for
each stage and key; only at the moment when the thread is free is it decided, in that
thread, which batch is best (late binding; see ``policy``). No timer closes a batch
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
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from socratic_agents.core.concurrency import ProcessGuard
from socratic_agents.core.errors import ClosedError, StageTimeoutError
from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.executor import BatchExecutor
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch
from socratic_agents.scheduler.queues import QueueItem
from socratic_agents.scheduler.requests import Request, Session, current_session
from socratic_agents.scheduler.residency import Residency
from socratic_agents.scheduler.return_wait import ReturnWait
from socratic_agents.scheduler.stage import Stage
from socratic_agents.scheduler.stats import StageStatistics, Statistics, StatsRecorder
from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import Self

    from socratic_agents.core.errors import SocraticError
    from socratic_agents.scheduler.stage import AnyStage

__all__ = ("Stage", "StageStatistics", "Statistics", "Worker")

Item = TypeVar("Item")
Output = TypeVar("Output")
Result = TypeVar("Result")


class Worker:
    """The thread that owns a device, and the queues in front of it.

    Items may be submitted from any number of event loops and threads. ``async with``
    opens and closes it; ``open`` and ``close`` do the same for those who cannot wait.
    What was not answered when it closes gets a ``ClosedError``.

    Args:
        name: Of the thread, for people who look at threads.
        cost_model: What calls cost; ``None``: learned anew, and not stored.
        tuning: What the scheduler's decisions depend on.
        residency: Which models lie on the device; ``None``: all that are opened.
    """

    def __init__(
        self,
        name: str = "socratic-worker",
        *,
        cost_model: CostModel | None = None,
        tuning: SchedulerTuning = DEFAULT_TUNING,
        residency: Residency | None = None,
    ) -> None:
        # A daemon: the interpreter waits for other threads before ``atexit`` runs, so
        # a worker that nobody closed could never be asked to stop.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._changed = threading.Condition()
        self._cost_model = cost_model or CostModel(tuning=tuning)
        self._executor = BatchExecutor(
            self._cost_model,
            watch=self._watch,
            record=self._record,
            closed=lambda: self._closed,
        )
        self.residency = residency or Residency(tuning=tuning)
        self._policy = BatchPolicy[Request](tuning, swap_seconds=self._swap_seconds)
        self._numbers = itertools.count()
        self._stats = StatsRecorder(time.perf_counter())
        self._running: list[Request] = []
        self._sessions: dict[int, Session] = {}
        self._return_wait = ReturnWait(
            self._policy.return_wait_limit, pause=tuning.return_wait_pause
        )
        self._closed = False
        self.process = ProcessGuard()
        self._ended = threading.Event()  # the thread has ended, or is stuck
        self._watched: object = None
        self._stuck: AnyStage | None = None

    def open(self) -> None:
        """Start the thread."""
        self.process = ProcessGuard()
        self._stats.open(time.perf_counter())
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Answer every waiter with an error, and wait for the running batch to end.

        One that is stuck is not waited for. What calls cost is stored. In a fork of the
        process there is nothing to close.
        """
        if self.process.left:
            return
        self._refuse()
        if self._thread.is_alive():
            self._ended.wait()
            if not self._stuck:
                self._thread.join()
        atexit.unregister(self.close)
        self._cost_model.save()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.left:
            return
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
            StageTimeoutError: If a call exceeds the timeout of its stage.
            BatchError: If the stage broke its contract.
            Exception: Whatever the stage raised or returned for this item.
        """
        self.process.check("a worker")
        request, session = Request(item, stage), current_session.get()
        with self._changed:
            if self._closed or self._stuck:
                raise self._refusal(stage)
            number = next(self._numbers)
            queued = QueueItem(
                request,
                number,
                session.order if session else number,
                session and session.user,
            )
            if session:
                session.waiting += 1
                self._return_wait.discard(session.order)
                self._policy.think_times.end(session.order, now=time.perf_counter())
            self._policy.add(
                queued,
                stage=stage,
                key=key,
                priority=stage.priority,
                max_batch=self._cost_model.limit(stage, key),
                curve=self._cost_model.curve(stage, key),
            )
            self._changed.notify()
        try:
            return cast("Output", await request.answer)
        finally:
            with self._changed:
                self._policy.discard(queued, stage=stage, key=key)
                if session:
                    session.waiting -= 1

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the worker's thread, to load a model for example."""
        stage: Stage[None, Result] = Stage(
            name=getattr(function, "__name__", "call"),
            run=lambda _: [function()],
            max_batch=1,
        )
        return await self.submit(stage, None)

    @contextmanager
    def session(self, *, user: Hashable = None) -> Iterator[None]:
        """Count what is submitted meanwhile, in tasks begun here too, as one session's.

        The items of the session that began first go first.

        Args:
            user: For whom it is; users get equal shares of the device.
        """
        with self._changed:
            session = Session(next(self._numbers), user)
            self._sessions[session.order] = session
        token = current_session.set(session)
        try:
            yield
        finally:
            current_session.reset(token)
            with self._changed:
                del self._sessions[session.order]
                self._return_wait.discard(session.order)
                self._changed.notify()
                self._policy.think_times.end(session.order, now=time.perf_counter())

    def think(self) -> None:
        """Note that this session is about to wait for a language model.

        An idle device may then wait for it a moment, rather than begin with a batch
        that is nearly empty. The session is back when it submits the next item, and
        does not think while another item of it waits.
        """
        if session := current_session.get():
            with self._changed:
                self._return_wait.discard(session.order)
                self._changed.notify()
                if not session.waiting:
                    now = time.perf_counter()
                    self._policy.think_times.begin(session.order, now=now)

    def admission_limit(self) -> int | None:
        """Return how many sessions keep the device busy; ``None``: not known yet."""
        with self._changed:
            return self._policy.admission_limit()

    def largest_measured(self, stage: str, model: str | None) -> int:
        """Return the largest call that was measured of a model with a name; 0: none."""
        return self._cost_model.largest(stage, model)

    def statistics(self) -> Statistics:
        """Return what was done until now."""
        with self._changed:
            now = time.perf_counter()
            told = self._stats.statistics(len(self._policy), now=now)
        swaps, seconds = self.residency.swaps, self.residency.swap_seconds
        return replace(told, swaps=swaps, swap_seconds=seconds)

    def _give_up(self, stage: AnyStage, watched: object) -> None:
        """Answer everyone, since the device may never be free again."""
        with self._changed:
            if self._watched is not watched:
                return  # it has just ended
            self._stuck = stage
            self._answer_all()
            self._ended.set()

    @contextmanager
    def _watch(self, stage: AnyStage) -> Iterator[None]:
        """Watch a call of a stage that has a timeout."""
        if stage.timeout is None:
            yield
            return
        watched = self._watched = object()
        timer = threading.Timer(stage.timeout, self._give_up, (stage, watched))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._changed:
                self._watched = self._stuck = None
                self._ended.clear()

    def _record(self, stage: AnyStage, items: int, seconds: float) -> None:
        """Count a call."""
        with self._changed:
            self._stats.add_call(stage.name, items, seconds)

    def _refuse(self) -> None:
        """Accept no more work, and answer everyone who still waits."""
        with self._changed:
            self._closed = True
            self._answer_all()
            self._changed.notify()

    def _answer_all(self) -> None:
        for queued in self._policy.clear():
            queued.payload.resolve(self._refusal(queued.payload.stage))
        for request in self._running:
            request.resolve(self._refusal(None))

    def _refusal(self, stage: AnyStage | None) -> SocraticError:
        what = f"stage {stage.name!r}" if stage else "a running batch"
        if self._stuck:
            message = (
                f"expected a worker that answers for {what}, got one that has been "
                f"stuck for more than {self._stuck.timeout} s in a call of stage "
                f"{self._stuck.name!r}; wait for the call, or restart the program"
            )
            return StageTimeoutError(message)
        message = (
            f"expected an open worker for {what}, got a closed one; open a new one"
        )
        return ClosedError(message)

    def _answered_by(self, items: list[QueueItem[Request]]) -> set[int]:
        """Return the sessions that wait for nothing but these items."""
        counts = Counter(item.session for item in items)
        return {
            order
            for order, count in counts.items()
            if order in self._sessions and self._sessions[order].waiting == count
        }

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if self._bring(batch[0], batch[2]):
                    self._executor.run(*batch)
                del batch  # or the last images would live until the next batch
        finally:
            self._ended.set()

    def _swap_seconds(self, stage: Hashable) -> float:
        return self.residency.seconds(getattr(stage, "holds", None))

    def _bring(self, stage: AnyStage, requests: list[Request]) -> bool:
        """Bring the model of a batch to the device; who waits is told if it fails."""
        waiting: set[Hashable] = set()
        if self._swap_seconds(stage):
            with self._changed:
                waiting = self._policy.waiting()
        try:
            with self._watch(stage):
                holders = {getattr(one, "holds", None) for one in waiting}
                self.residency.bring(stage.holds, wanted=holders)
        except Exception as problem:  # noqa: BLE001 - it is raised where it was asked
            for request in requests:
                request.resolve(problem.with_traceback(None))
            return False
        return True

    def _next(self) -> tuple[AnyStage, Hashable, list[Request]] | None:
        """Return the batch that is best now, when there is one; ``None``: closed."""
        with self._changed:
            if self._running:
                self._running = []
                self._stats.end_batch(time.perf_counter())
            while not self._closed:
                now = time.perf_counter()
                if seconds := self._return_wait.wait(now):
                    self._changed.wait(seconds)
                    continue
                decision = self._policy.decide(now)
                if not isinstance(decision, RunBatch):
                    self._changed.wait(decision.time - now if decision else None)
                    continue
                requests = [item.payload for item in decision.items]
                requests = [request for request in requests if request.wanted]
                if requests:
                    stage = requests[0].stage
                    self._running = requests
                    self._return_wait.expect(self._answered_by(decision.items))
                    self._stats.begin_batch(len(requests), stage.max_batch, now=now)
                    return stage, decision.queue.key, requests
            return None
