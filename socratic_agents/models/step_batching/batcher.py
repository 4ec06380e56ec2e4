"""Step batching: images in the making share the calls of the denoiser, step by step.

Each task runs the pipeline's own ``__call__``, unmodified, in a thread of its own,
on a shallow copy of the pipeline with a scheduler of its own. Where it calls the
denoiser it stops. A step joins the calls that are there, runs them at once, and hands
each its rows. So tasks with different steps and guidance share batches, new ones
join while others are in flight, and one may leave between two steps.

The threads are there for their stacks alone: of all of them and the one that takes the
steps, a single one runs at any moment, and only the latter runs the denoiser. Nothing
that a pipeline shares with its copies is ever used by two at once.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.core.errors import ClosedError
from socratic_agents.models.step_batching.calls import (
    all_close,
    concat,
    equal,
    rows_of,
    signature_key,
)
from socratic_agents.models.step_batching.hooks import check_step_batching
from socratic_agents.models.step_batching.tasks import (
    StepTask,
    StepTaskCancelled,
    StepThread,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import Self

    from socratic_agents.models.step_batching.calls import Call

__all__ = ("StepBatcher",)

Result = TypeVar("Result")

CLOSED = "expected an open step batcher, got a closed one; open a new one"


class StepBatcher:
    """Runs tasks of one pipeline, whose denoiser calls it joins.

    ``with`` owns the tasks' threads: leaving it ends them all. ``submit``, ``abort``
    and ``close`` may come from any thread; one thread at a time takes steps.

    Two calls are joined if their arguments have the same names, types and sizes but
    for the number of rows. The first time that calls of a kind meet they are run one
    by one as well; if the answers differ, that kind is run one by one from then on.

    Args:
        pipeline: A diffusers pipeline, ready and on its device.
        max_batch: Tasks that are in flight at once, at least 1; others wait.
        padded: Fill every call up to ``max_batch`` tasks with copies of its last:
            then an image is the same, to the last bit, whatever is beside it.

    Raises:
        ConfigurationError: If the pipeline's calls cannot be joined.
    """

    def __init__(
        self, pipeline: Any, *, max_batch: int = 8, padded: bool = False
    ) -> None:
        check_step_batching(pipeline)
        self.calls = 0
        """How often the denoiser was run."""
        self.steps = 0
        """How many calls of tasks that answered."""
        self._pipeline = pipeline
        self._max_batch = self._cap = max_batch
        self._padded = padded
        self._changed = threading.Condition()
        self._stepping = self._closed = False
        self._queue: deque[StepThread] = deque()
        self._running: list[StepThread] = []
        self._joinable: dict[Hashable, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, draw: Callable[[Any], Result]) -> StepTask[Result]:
        """Add a task; it starts with the next step that has room for it.

        Args:
            draw: Draws with the pipeline that it is given, in a thread of its own:
                ``lambda pipeline: pipeline("a red circle").images[0]``.

        Raises:
            ClosedError: If the step batcher is closed.
        """
        thread = StepThread(self._pipeline, draw)
        with self._changed:
            if self._closed:
                raise ClosedError(CLOSED)
            self._queue.append(thread)
        return StepTask(thread, functools.partial(self._abort, thread))

    def run(self, draws: Sequence[Callable[[Any], Result]]) -> list[Result | Exception]:
        """Return what these draw, in order; of a failed one, its error.

        Raises:
            ClosedError: If the step batcher is closed.
        """
        tasks = [self.submit(draw) for draw in draws]
        while not all(task.done for task in tasks):
            self.step()
        outcomes: list[Result | Exception] = []
        for task in tasks:
            try:
                outcomes.append(task.result())
            except Exception as error:  # noqa: BLE001 - here it is a value
                outcomes.append(error)
        return outcomes

    def step(self) -> None:
        """Let every task in flight take one step; blocks meanwhile.

        Raises:
            ClosedError: If the step batcher is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._stepping)
            if self._closed:
                raise ClosedError(CLOSED)
            self._stepping = True
        try:
            self._admit()
            for threads in self._groups():
                calls = [thread.call for thread in threads]
                for thread, answer in zip(threads, self._answers(calls), strict=True):
                    thread.answer = answer
            for thread in self._running:
                thread.resume()
        finally:
            with self._changed:
                self._stepping = False
                self._clear()
                self._changed.notify_all()

    def close(self) -> None:
        """End all tasks; a step that is running comes to its end first."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._stepping)
            for thread in (*self._running, *self._queue):
                thread.cancelled = thread.cancelled or "lost its step batcher"
            self._clear()

    def _abort(self, thread: StepThread) -> None:
        with self._changed:
            thread.cancelled = "was aborted"
            if not self._stepping:  # or the step sees to it at its end
                self._clear()

    def _clear(self) -> None:
        """Unwind what was cancelled; under the lock and between two steps."""
        for thread in (*self._running, *self._queue):
            if thread.cancelled is not None:
                thread.end(StepTaskCancelled(thread.cancelled))
        self._running = [s for s in self._running if s.outcome is None]
        self._queue = deque(s for s in self._queue if s.outcome is None)

    def _admit(self) -> None:
        """Start tasks, the oldest first, as long as there is room."""
        while len(self._running) < self._max_batch:
            with self._changed:
                if not self._queue:
                    return
                thread = self._queue.popleft()
                self._running.append(thread)
            thread.resume()
            self._running = [s for s in self._running if s.outcome is None]

    def _groups(self) -> list[list[StepThread]]:
        """Return who can share a call, the oldest first."""
        groups: list[list[StepThread]] = []
        for thread in self._running:
            for group in groups:
                if len(group) < self._cap and self._fit(group[0].call, thread.call):
                    group.append(thread)
                    break
            else:
                groups.append([thread])
        return groups

    def _fit(self, one: Call, other: Call) -> bool:
        """Return whether two calls can be joined."""
        return (
            one.form == other.form
            and one.rows > 0
            # The last bits of a row depend on how many there are.
            and (one.rows == other.rows or not self._padded)
            and all(map(equal, one.wholes, other.wholes))
        )

    def _answers(self, calls: list[Call]) -> list[Any]:
        """Return the denoiser's answer to each call, or its error."""
        import torch

        self.steps += len(calls)
        kind = signature_key(calls)
        if (len(calls) == 1 and not self._padded) or self._joinable.get(kind) is False:
            return [self._alone(call) for call in calls]
        copies = calls[-1:] * (self._cap - len(calls)) if self._padded else []
        together, problem = None, None
        try:
            together = self._together([*calls, *copies])[: len(calls)]
        except Exception as error:  # noqa: BLE001 - each call gets an error of its own
            problem = type(error)
        if together and (len(calls) == 1 or self._joinable.get(kind)):
            return together
        # Outside of the "except": there, the traceback would keep the tensors alive.
        alone = [self._alone(call) for call in calls]
        if problem and issubclass(problem, torch.OutOfMemoryError):
            self._cap = max(len(calls) // 2, 1)
        elif not any(isinstance(answer, Exception) for answer in alone):
            self._joinable[kind] = together is not None and all_close(together, alone)
        return together if together and self._joinable.get(kind) else alone

    def _together(self, calls: list[Call]) -> list[Any]:
        rows = [call.rows for call in calls]
        names = calls[0].arguments
        first = next(iter(names.values()))
        device = (first[0] if isinstance(first, list) else first).device
        together = {
            name: concat([call.arguments[name] for call in calls], rows, device)
            for name in names
        }
        output = self._run(calls[0].model, together)
        ends = list(itertools.accumulate(rows))
        return [
            rows_of(output, slice(end - count, end), ends[-1])
            for end, count in zip(ends, rows, strict=True)
        ]

    def _alone(self, call: Call) -> Any:
        try:
            return self._run(call.model, call.arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where it was called
            return error

    def _run(self, model: Any, arguments: Mapping[str, Any]) -> Any:
        import torch

        self.calls += 1
        with torch.no_grad():  # a setting of the thread, and this is not the caller's
            return model(**arguments)
