"""Return wait: sessions that were just answered submit more before a long batch begins.

Their next requests come in a moment, but a free device decides at once: it would begin
with a long batch, and those requests would wait for its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("ReturnWait",)


class ReturnWait:
    """Which sessions the last batch answered, and how long the device waits for them.

    Args:
        limit: Returns the seconds of a wait at most.
        pause: Batches that are begun without one after a wait in vain.
    """

    def __init__(self, limit: Callable[[], float], *, pause: int) -> None:
        self._limit, self._pause_after = limit, pause
        self._sessions = set[int]()
        self._until: float | None = None
        self._pause = 0

    def expect(self, sessions: set[int]) -> None:
        """Note which sessions the batch that begins will answer.

        Args:
            sessions: Those that do nothing before they are answered.
        """
        self._until = None
        self._pause = max(self._pause - 1, 0)
        self._sessions = set() if self._pause else sessions

    def discard(self, session: int) -> None:
        """Note that a session has submitted its next request, or will not soon."""
        self._sessions.discard(session)

    def wait(self, now: float) -> float:
        """Return for how many seconds to wait before the next batch; 0: no more.

        Args:
            now: The time, in seconds from any moment on.
        """
        if not self._sessions:
            return 0.0
        if self._until is None:
            self._until = now + self._limit()
        if now < self._until:
            return self._until - now
        # They are slow, or want nothing.
        self._sessions, self._pause = set(), self._pause_after
        return 0.0
