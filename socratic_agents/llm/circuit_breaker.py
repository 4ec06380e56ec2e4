"""The circuit breaker: a server that dies in the middle of a run is noticed once.

Without it every refinement finds out by itself, and gives up by itself. With it, all wait
while one request at a time probes whether the server is back, and resume when it is.

Source:
    M. Nygard, Release It! (2nd edition, 2018), chapter 5.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("CircuitBreaker",)

FAILURES = 3
"""Requests in a row that do not reach a server before it is taken to be down."""
FIRST_WAIT = 1.0
"""Seconds to the first probe; each further one comes after twice the time."""
LONGEST_WAIT = 30.0
"""Seconds between two probes at most."""
POLL = 0.5
"""Seconds after which those who wait look again, at most."""

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Holds requests back while a server that has answered before cannot be reached.

    One that never answered is another matter: its address is probably wrong, and every
    request says so by itself.

    Args:
        seconds: How long a server is waited for before all that wait for it fail.
        first_wait: Seconds to the first probe.
        longest_wait: Seconds between two probes at most.
    """

    def __init__(
        self,
        *,
        seconds: float = 300.0,
        first_wait: float = FIRST_WAIT,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self.seconds = seconds
        self._first_wait, self._longest_wait = first_wait, longest_wait
        self.openings = 0
        """How often the server was taken to be down."""
        self._answered = False
        self._failures = 0
        self._waited = 0.0
        self._due = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the server is taken to be down."""
        return self._answered and self._failures >= FAILURES

    @property
    def given_up(self) -> bool:
        """Whether it was waited for long enough."""
        return self.open and self._waited >= self.seconds

    async def pass_through(
        self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Wait while the server is down; who is let through meanwhile is the probe.

        Args:
            sleep: Waits.
        """
        while self.open and not self.given_up:
            if not self._probing and self._waited >= self._due:
                self._probing = True
                return
            if self._probing:
                await asyncio.sleep(0)
                await sleep(min(POLL, self._first_wait))
                continue
            # One keeps the time for all.
            self._probing = True
            try:
                await sleep(self._due - self._waited)
                self._waited = self._due
            finally:
                self._probing = False

    def answered(self, sent: int | None = None) -> None:
        """Note that the server answered, be it with an error.

        Args:
            sent: ``openings`` when the request went out. What went out before the server
                was taken to be down shows nothing of now, and so in the other methods.
        """
        if self._late(sent):
            return
        if self.open:
            _log.warning("the language model's server answers again")
        self._answered, self._probing = True, False
        self._failures, self._waited, self._due = 0, 0.0, 0.0

    def failed(self, sent: int | None = None) -> None:
        """Note that a request did not reach the server."""
        if self._late(sent):
            return
        was_open = self.open
        self._failures += 1
        self._probing = False
        if self.open and not was_open:
            self.openings += 1
            _log.warning(
                "the language model's server cannot be reached; waiting up to %.0f s",
                self.seconds,
            )
        if self.open:
            steps = self._failures - FAILURES
            wait = min(self._first_wait * 2 ** min(steps, 10), self._longest_wait)
            self._due = min(self._waited + wait, self.seconds)

    def abandoned(self, sent: int | None = None) -> None:
        """Note that a request ended without showing anything, as one cancelled does."""
        if not self._late(sent):
            self._probing = False

    def _late(self, sent: int | None) -> bool:
        return self.open and sent is not None and sent < self.openings
