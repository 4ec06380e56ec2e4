"""Interrupts: what is in flight may end for a moment, then the program does.

The first signal (Ctrl-C, or a request to terminate) lets no new prompt begin and gives
those on their way a few seconds; a second one gives none. Whatever does not end by then
is left behind: finished steps are in the journal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from types import FrameType

__all__ = ("InterruptHandler",)

Result = TypeVar("Result")
Item = TypeVar("Item")

GRACE = 3.0
"""Seconds that those who are on their way get."""
LIMIT = 4.5
"""Seconds from the first signal to the end, whatever a model still computes."""
SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


class InterruptHandler:
    """Ends the program soon after a signal, with its exit code: 130, or 143.

    Args:
        tell: Given a line for the person who interrupted.
        leave: Ends the process where it would not end by itself.
    """

    def __init__(
        self,
        tell: Callable[[str], object],
        *,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.code = 0
        """128 and the signal's number; 0: none came."""
        self._tell, self._leave = tell, leave
        self._timer: threading.Timer | None = None

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Turn signals into ``KeyboardInterrupt`` while no event loop runs."""
        before: dict[int, Any] = {}
        with suppress(ValueError):  # only the main thread is asked for signals
            for number in SIGNALS:
                before[number] = signal.signal(number, self._raise)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._timer is not None:
                self._timer.cancel()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine; one that does not end soon after a signal is cancelled.

        Raises:
            KeyboardInterrupt: If it was.
        """
        try:
            return asyncio.run(self._watched(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items until a signal comes."""
        for item in items:
            if self.code:
                return
            yield item

    async def _watched(self, work: Coroutine[Any, Any, Result]) -> Result:
        loop = asyncio.get_running_loop()
        task, told = cast("asyncio.Task[Any]", asyncio.current_task()), list[int]()
        with suppress(ValueError, RuntimeError):  # only the main thread is told
            for number in SIGNALS:
                self._listen(loop, number, task)
                told.append(number)
        try:
            return await work
        finally:
            for number in told:
                with suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                # Removing it brings back Python's own, not ours.
                signal.signal(number, self._raise)

    def _listen(
        self, loop: asyncio.AbstractEventLoop, number: int, task: asyncio.Task[Any]
    ) -> None:
        """Let a loop hear of a signal, also one that cannot by itself."""
        tell = partial(self._told, number, task)
        try:
            loop.add_signal_handler(number, tell)
        except NotImplementedError:  # Windows

            def wake(_number: int, _frame: FrameType | None) -> None:
                loop.call_soon_threadsafe(tell)

            signal.signal(number, wake)

    def _told(self, number: int, task: asyncio.Task[Any]) -> None:
        if self.code:
            task.cancel()
            return
        self._begin(number)
        self._tell(
            f"interrupted: calls in flight may finish within {GRACE:g} s; interrupt "
            "again to stop at once"
        )
        task.get_loop().call_later(GRACE, task.cancel)

    def _raise(self, number: int, _frame: FrameType | None) -> None:
        self._begin(number)
        raise KeyboardInterrupt

    def _begin(self, number: int) -> None:
        self.code = 128 + number
        if self._timer is None:
            self._timer = threading.Timer(LIMIT, self._end)
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        """End a process whose models are still busy; nothing finished is lost."""
        self._tell("a model is still busy and is left behind; run the same again")
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        self._leave(self.code)
