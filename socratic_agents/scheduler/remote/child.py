"""An RPC server: calls coroutine methods for who is at the other end of a pipe.

It knows nothing of models: whatever has coroutine methods can be the target.
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

__all__ = ("CANCEL", "READY", "RpcServer")

READY = 0
"""The number of the first answer, which no request has asked for."""
CANCEL = ""
"""Sent in place of a method's name: the request of this number is cancelled."""


class RpcServer:
    """Answers requests, each in a task of its own, until the pipe closes.

    Args:
        pipe: Brings requests, and takes answers.
        target: Whose methods are called.
        describe: Returns an error in one line, for those that cannot be pickled.
    """

    def __init__(
        self, pipe: Connection, target: Any, *, describe: Callable[[BaseException], str]
    ) -> None:
        self._pipe, self._target, self._describe = pipe, target, describe
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers.put((READY, None, None))

    async def run(self) -> None:
        """Answer until the pipe closes."""
        self._loop, over = asyncio.get_running_loop(), asyncio.Event()

        def until_over(work: Callable[[], None]) -> None:
            try:
                with contextlib.suppress(EOFError, OSError):
                    work()
            finally:
                self._loop.call_soon_threadsafe(over.set)

        receiver, sender = (
            threading.Thread(target=until_over, args=(work,), daemon=True)
            for work in (self._receive, self._send_answers)
        )
        receiver.start()
        sender.start()
        await over.wait()
        self._answers.put(None)
        sender.join()

    def _receive(self) -> None:
        while True:
            self._loop.call_soon_threadsafe(self._start_task, *self._pipe.recv())

    def _send_answers(self) -> None:
        while True:
            # The program at the other end may have little time to receive: the fewer
            # messages, the better.
            ready = [self._answers.get()]
            while not self._answers.empty():
                ready.append(self._answers.get())
            if None in ready:
                return
            self._send(ready)

    def _start_task(self, number: int, name: str, inputs: tuple[Any, ...]) -> None:
        if name != CANCEL:
            task = self._loop.create_task(self._answer(number, name, inputs))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number))
        elif number in self._tasks:
            self._tasks[number].cancel()

    async def _answer(self, number: int, name: str, inputs: tuple[Any, ...]) -> None:
        try:
            output = await getattr(self._target, name)(*inputs)
        except (Exception, asyncio.CancelledError) as problem:  # noqa: BLE001 - is sent
            self._answers.put((number, None, problem))
        else:
            self._answers.put((number, output, None))

    def _send(self, ready: list[tuple[int, Any, BaseException | None]]) -> None:
        """Send answers; one that cannot be pickled becomes an error that can."""
        answers = [(n, output, self._portable(error)) for n, output, error in ready]
        try:
            self._pipe.send(answers)
        except OSError:
            raise
        except Exception as refused:  # noqa: BLE001 - whatever the classes do
            if len(answers) == 1:
                ((number, _, problem),) = answers
                substitute = BatchError(self._describe(problem or refused))
                self._pipe.send([(number, None, substitute)])
                return
            for one in answers:
                self._send([one])

    def _portable(self, problem: BaseException | None) -> BaseException | None:
        """Return an error that can be unpickled at the other end, if there is one."""
        if problem is not None:
            try:
                copy.copy(problem)
            except Exception:  # noqa: BLE001 - whatever its class does
                return BatchError(self._describe(problem))
        return problem
