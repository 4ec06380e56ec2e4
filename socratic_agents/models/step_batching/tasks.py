"""Tasks of the step batcher, each in a thread of its own that mostly stands still."""

from __future__ import annotations

import copy
import functools
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from socratic_agents.core.errors import ClosedError
from socratic_agents.models.step_batching.calls import read_call
from socratic_agents.models.step_batching.hooks import (
    DenoiserProxy,
    denoisers,
    with_part,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("StepTask", "StepTaskCancelled", "StepThread")

Result = TypeVar("Result")


class StepTask(Generic[Result]):
    """One image in the making; ``StepBatcher.submit`` gives it."""

    def __init__(self, thread: StepThread, abort: Callable[[], None]) -> None:
        self._thread = thread
        self._abort = abort

    @property
    def done(self) -> bool:
        """Whether it came to its end, good or bad."""
        return self._thread.outcome is not None

    def result(self) -> Result:
        """Return what was drawn.

        Raises:
            ClosedError: If it was aborted, or the step batcher closed before its end.
            RuntimeError: If it is not done yet.
            Exception: Whatever the task raised.
        """
        if self._thread.outcome is None:
            message = "expected a finished task, got one in flight; take steps"
            raise RuntimeError(message)
        result, error = self._thread.outcome
        if isinstance(error, StepTaskCancelled):
            message = f"expected a finished task, got one that {error}; draw again"
            raise ClosedError(message)
        if error is not None:
            raise error
        return cast("Result", result)

    def abort(self) -> None:
        """Give it up between two steps, from any thread; nothing if it is done."""
        self._abort()


class StepTaskCancelled(BaseException):
    """Unwinds a task; no ``Exception``, so that no pipeline swallows it."""


class StepThread:
    """A task's thread, which stands still but for ``resume`` and ``end``."""

    def __init__(self, pipeline: Any, draw: Callable[[Any], Any]) -> None:
        self.call: Any = None
        """The ``Call`` where it stands."""
        self.answer: Any = None
        self.outcome: tuple[Any, BaseException | None] | None = None
        self.cancelled: str | None = None
        self._go, self._stop = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(
            target=self._draw,
            args=(pipeline, draw),
            name="socratic-step-task",
            daemon=True,
        )

    def resume(self) -> None:
        """Let it run, with the answer to its call, to the next one or to its end."""
        self.call = None
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._stop.acquire()
        if self.outcome is not None:
            self._thread.join()

    def end(self, why: StepTaskCancelled) -> None:
        """Raise this where it stands, until it has ended."""
        if self._thread.ident is None:
            self.outcome = self.outcome or (None, why)
        while self.outcome is None:
            self.answer = why
            self.resume()

    def _draw(self, pipeline: Any, draw: Callable[[Any], Any]) -> None:
        try:
            mine = with_part(pipeline, "scheduler", copy.deepcopy(pipeline.scheduler))
            for name, model in denoisers(pipeline).items():
                proxy = DenoiserProxy(model, functools.partial(self._wait, model))
                mine = with_part(mine, name, proxy)
            self.outcome = draw(mine), None
        except BaseException as error:  # noqa: BLE001 - it is raised at the caller's
            self.outcome = None, error
        self._stop.release()

    def _wait(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Stop at a call, in the task's own thread, and give its answer."""
        self.call = read_call(model, args, kwargs)
        self._stop.release()
        self._go.acquire()
        answer, self.answer = self.answer, None
        if isinstance(answer, BaseException):
            raise answer
        return answer
