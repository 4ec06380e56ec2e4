"""Jobs: items that somebody waits for, in whatever event loop, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.scheduler.stage import Stage

__all__ = ("Job", "Loop", "current_loop")


@dataclass(eq=False)
class Loop:
    """One refinement: all that its tasks submit is of the same age and user."""

    order: int
    """The order in which loops began."""
    user: Hashable = None
    """Whose it is."""
    waiting: int = 0
    """Items of it that are not answered yet."""


current_loop: ContextVar[Loop | None] = ContextVar("current_loop", default=None)
"""The loop that this task belongs to."""


@dataclass(eq=False)
class Job:
    """An item and whoever waits for its output."""

    item: Any
    stage: Stage[Any, Any]
    answer: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    settled: bool = False
    """Whether an answer is on its way; the waiter's event loop may not have it yet."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for an answer."""
        return not (self.settled or self.answer.done())

    def settle(self, output: Any) -> None:
        """Hand the output over; the first one counts, and nobody may be left to care."""
        self.settled = True
        # The waiter's event loop may have ended before its answer was ready.
        with contextlib.suppress(RuntimeError):
            self.answer.get_loop().call_soon_threadsafe(self._settle, output)

    def _settle(self, output: Any) -> None:
        if self.answer.done():
            return
        if isinstance(output, BaseException):
            self.answer.set_exception(output)
        else:
            self.answer.set_result(output)
