"""A bridge from code that cannot await to coroutines: an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.core.concurrency import ProcessGuard
from socratic_agents.core.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

__all__ = ("SyncBridge",)

Result = TypeVar("Result")


class SyncBridge:
    """Runs coroutines for threads that wait for them.

    One loop serves all callers for as long as the bridge stands, because network
    clients keep connections that only work in the loop in which they were opened. It
    works inside a running event loop too, a notebook's for example, which it blocks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._process: ProcessGuard | None = None
        """Where the loop runs, if it does."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Return what the coroutine returns; interrupting the wait cancels it.

        Raises:
            ClosedError: If the bridge is closed, or if a coroutine on it calls this
                and would wait for itself.
        """
        try:
            loop = self._open()
        except ClosedError:
            coroutine.close()  # or Python would warn that nobody awaited it
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, and end the loop; in a fork there is none."""
        if self._process is not None and self._process.left:
            return
        with self._lock:
            self._closed = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _open(self) -> asyncio.AbstractEventLoop:
        if self._process is not None:
            self._process.check("a refiner")
        with self._lock:
            if self._closed:
                message = "expected an open refiner, got a closed one; make a new one"
                raise ClosedError(message)
            if self._thread is threading.current_thread():
                message = (
                    "expected a call from outside of a refinement, got one from "
                    "inside, which would wait for itself; await the method instead"
                )
                raise ClosedError(message)
            if self._loop is None:
                self._process = ProcessGuard()
                self._loop = asyncio.new_event_loop()
                # A daemon, since nobody may be left to close the bridge.
                self._thread = threading.Thread(
                    target=_serve,
                    args=(self._loop,),
                    name="socratic-bridge",
                    daemon=True,
                )
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()  # the runner cancels what is left at the end
