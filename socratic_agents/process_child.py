"""A process child: answers through a pipe what is asked through it.

It knows nothing of models: whatever has coroutine methods can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import pickle
import queue
import threading
from typing import TYPE_CHECKING, Any

from socratic_agents.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

__all__ = ("BEGUN", "CANCEL", "Child", "answers", "request")

BEGUN = 0
"""The number of the first answer, for which nobody has asked."""
CANCEL = ""
"""Asked for in place of a method: nobody waits any more for what has this number."""
PICKLE = 5
"""The protocol that knows arrays."""


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
            asked = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - our parent's
            self._loop.call_soon_threadsafe(self._begin, *asked)

    def _tell(self) -> None:
        while True:
            # The program at the other end may have little time to listen: the fewer
            # messages, the better.
            ready = [self._answers.get()]
            while not self._answers.empty():
                ready.append(self._answers.get())
            if None in ready:
                return
            self._pipe.send_bytes(b"".join(self._packed(*one) for one in ready))

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

    def _packed(self, number: int, output: Any, problem: BaseException | None) -> bytes:
        """Return an answer as bytes; what cannot be one becomes an error that can."""
        try:
            if problem is None:
                return pickle.dumps((number, output, None), PICKLE)
            crossing = pickle.dumps(problem, PICKLE)
        except Exception as refused:  # noqa: BLE001 - whatever its class does
            problem = BatchError(self._describe(problem or refused))
            crossing = pickle.dumps(problem, PICKLE)
        told = crossing, self._describe(problem)
        return pickle.dumps((number, None, told), PICKLE)


def request(number: int, name: str, *inputs: Any) -> bytes:
    """Return a request: call a method, and give the answer this number."""
    return pickle.dumps((number, name, inputs), PICKLE)


def answers(packed: bytes) -> Iterator[tuple[int, Any, BaseException | None]]:
    """Yield number, output and error of each answer in a message."""
    stream = io.BytesIO(packed)
    while stream.tell() < len(packed):
        number, output, told = pickle.load(stream)  # noqa: S301 - our child's
        yield number, output, told and _revived(*told)


def _revived(crossing: bytes, line: str) -> BaseException:
    """Return an error that has crossed, or what was said of it."""
    try:
        problem: BaseException = pickle.loads(crossing)  # noqa: S301 - our child's
    except Exception:  # noqa: BLE001 - whatever its class does
        return BatchError(line)
    return problem
