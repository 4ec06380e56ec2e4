"""A process child: answers through a pipe what is asked through it.

It knows nothing of models: whatever has coroutine methods can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import queue
import threading
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ("BEGUN", "CANCEL", "Child")

BEGUN = 0
"""The number of the first answer, for which nobody has asked."""
CANCEL = ""
"""Asked for in place of a method: nobody waits any more for what has this number."""


class Child:
    """Answers requests, each in a task of its own, until the pipe closes.

    Args:
        pipe: Brings requests, and takes answers.
        asked: Whose methods are asked for.
        describe: Returns an error in one line, for those that cannot cross.
    """

    def __init__(
        self, pipe: Connection, asked: Any, *, describe: Callable[[BaseException], str]
    ) -> None:
        self._pipe, self._asked, self._describe = pipe, asked, describe
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers.put((BEGUN, None, None))

    async def run(self) -> None:
        """Answer until the pipe closes, and then no more."""
        self._loop, over = asyncio.get_running_loop(), asyncio.Event()

        def until_over(work: Callable[[], None]) -> None:
            try:
                with contextlib.suppress(EOFError, OSError):
                    work()
            finally:
                self._loop.call_soon_threadsafe(over.set)

        hearer, teller = (
            threading.Thread(target=until_over, args=(work,), daemon=True)
            for work in (self._hear, self._tell)
        )
        hearer.start()
        teller.start()
        await over.wait()
        self._answers.put(None)
        teller.join()

    def _hear(self) -> None:
        while True:
            self._loop.call_soon_threadsafe(self._begin, *self._pipe.recv())

    def _tell(self) -> None:
        while True:
            # The program at the other end may have little time to listen: the fewer
            # messages, the better.
            ready = [self._answers.get()]
            while not self._answers.empty():
                ready.append(self._answers.get())
            if None in ready:
                return
            self._send(ready)

    def _begin(self, number: int, name: str, inputs: tuple[Any, ...]) -> None:
        if name != CANCEL:
            task = self._loop.create_task(self._answer(number, name, inputs))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number))
        elif number in self._tasks:
            self._tasks[number].cancel()

    async def _answer(self, number: int, name: str, inputs: tuple[Any, ...]) -> None:
        try:
            output = await getattr(self._asked, name)(*inputs)
        except (Exception, asyncio.CancelledError) as problem:  # noqa: BLE001 - crosses
            self._answers.put((number, None, problem))
        else:
            self._answers.put((number, output, None))

    def _send(self, ready: list[tuple[int, Any, BaseException | None]]) -> None:
        """Send answers; one that cannot cross becomes an error that can."""
        sound = [(n, output, self._sound(problem)) for n, output, problem in ready]
        try:
            self._pipe.send(sound)
        except OSError:
            raise
        except Exception as refused:  # noqa: BLE001 - whatever the classes do
            if len(sound) == 1:
                ((number, _, problem),) = sound
                told = BatchError(self._describe(problem or refused))
                self._pipe.send([(number, None, told)])
                return
            for one in sound:
                self._send([one])

    def _sound(self, problem: BaseException | None) -> BaseException | None:
        """Return an error that can be made anew at the other end, if there is one."""
        if problem is not None:
            try:
                copy.copy(problem)
            except Exception:  # noqa: BLE001 - whatever its class does
                return BatchError(self._describe(problem))
        return problem
