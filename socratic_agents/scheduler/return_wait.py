"""Answered: loops that have what they came for, and have not said yet what comes next.

What they want next is there in a moment, but a free device decides at once: without a
word of them it would begin with a long batch, and what they want would wait for its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Answered",)

RESTED = 16
"""After a wait in vain so many batches are begun without one."""


class Answered:
    """Who was answered by the last batch, and how long they are waited for.

    Args:
        grace: Returns the seconds of a wait at most.
    """

    def __init__(self, grace: Callable[[], float]) -> None:
        self._grace = grace
        self._loops = set[int]()
        self._until: float | None = None
        self._rest = 0

    def expect(self, loops: set[int]) -> None:
        """Take note whom the batch that begins will answer.

        Args:
            loops: Those who do nothing before they are answered.
        """
        self._until = None
        self._rest = max(self._rest - 1, 0)
        self._loops = set() if self._rest else loops

    def discard(self, loop: int) -> None:
        """Take note that a loop has said what comes next."""
        self._loops.discard(loop)

    def wait(self, now: float) -> float:
        """Return for how many seconds to wait before the next batch; 0: no more.

        Args:
            now: The time, in seconds from any moment on.
        """
        if not self._loops:
            return 0.0
        if self._until is None:
            self._until = now + self._grace()
        if now < self._until:
            return self._until - now
        # They are slow, or have nothing to say.
        self._loops, self._rest = set(), RESTED
        return 0.0
