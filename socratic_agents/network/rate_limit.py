"""The rate limiter: concurrent requests to a provider, and requests a minute.

A request waits its turn here, before it is sent and before its timeout starts. One
limiter serves all threads and event loops of a refiner.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("RateLimiter",)


class RateLimiter:
    """Lets requests through in order of arrival, none too soon.

    A server that answers one request at a time makes the others wait, and their
    timeouts run meanwhile: where they come, fewer are sent at the same time.

    Args:
        concurrency: Concurrent requests, at least 1.
        rate: Requests a minute, above 0. They are evenly spaced, since providers count
            in shorter spans too: 60 a minute are one a second. ``None``: no limit.
        clock: Seconds from any time on, never going back.
        sleep: Waits.

    Raises:
        ConfigurationError: If nothing would ever be sent.
    """

    def __init__(
        self,
        *,
        concurrency: int = 64,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if concurrency < 1:
            message = f"expected a concurrency of at least 1, got {concurrency}; give 1"
            raise ConfigurationError(message)
        if rate is not None and not rate > 0:
            message = (
                f"expected a rate above 0 requests a minute, got {rate}; give None for "
                "no limit"
            )
            raise ConfigurationError(message)
        self._clock, self._sleep = clock, sleep
        self._slots, self._turnstile = _FairSemaphore(concurrency), _FairSemaphore(1)
        self._shrunk = clock()
        self._interval = 60 / rate if rate else 0.0
        self._next = clock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for a turn, and keep a slot until the response is there.

        Yields how long the wait was, in seconds. Who is cancelled in the queue leaves
        it, and nobody waits longer for that.
        """
        came = self._clock()
        async with self._slots:
            if self._interval:
                async with self._turnstile:
                    await self._until_due()
            yield self._clock() - came

    @property
    def concurrency(self) -> int:
        """How many requests may be sent at the same time, as far as was learned."""
        return self._slots.slots

    def timed_out(self, sent: float) -> None:
        """Halve the concurrency after a timeout, once for all that were sent together.

        Args:
            sent: When the request went out, by ``now``.
        """
        if sent >= self._shrunk and self._slots.slots > 1:
            self._shrunk = self._clock()
            self._slots.shrink(self._slots.slots // 2)

    def now(self) -> float:
        """Return the time of this limiter's clock, in seconds."""
        return self._clock()

    async def _until_due(self) -> None:
        """Wait until the next request may go out; only the first in the queue does."""
        while (wait := self._next - self._clock()) > 0:
            await self._sleep(wait)  # a timer may be early by its resolution
        # After the wait: who leaves the queue takes no time from those behind him.
        self._next = max(self._next, self._clock()) + self._interval


class _FairSemaphore:
    """A semaphore that is first in, first out, across event loops."""

    def __init__(self, slots: int) -> None:
        self.slots = self._free = slots
        self._queue = deque[asyncio.Future[None]]()
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        with self._lock:
            if self._free > 0:  # then nobody waits
                self._free -= 1
                return
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                waited = turn in self._queue
                if waited:
                    self._queue.remove(turn)
            if not waited:
                await self.__aexit__()  # the slot had just been handed over
            raise

    def shrink(self, slots: int) -> None:
        """Have fewer slots; those in use are taken away as they become free."""
        with self._lock:
            self._free -= self.slots - slots
            self.slots = slots

    async def __aexit__(self, *_: object) -> None:
        with self._lock:
            while self._queue and self._free >= 0:
                turn = self._queue.popleft()
                # The event loop of one that still waits may have ended.
                with contextlib.suppress(RuntimeError):
                    turn.get_loop().call_soon_threadsafe(_open, turn)
                    return
            self._free += 1


def _open(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
