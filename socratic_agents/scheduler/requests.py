"""Requests: items whose output somebody awaits, and the refinements they belong to."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from socratic_agents.scheduler.stage import AnyStage

__all__ = ("Request", "Session", "current_session")


@dataclass(eq=False)
class Session:
    """One refinement in flight: what its tasks submit has the same age and user."""

    order: int
    """The order in which sessions began."""
    user: Hashable = None
    """For whom it is."""
    waiting: int = 0
    """Requests of it that are not answered yet."""


current_session: ContextVar[Session | None] = ContextVar(
    "current_session", default=None
)
"""The session that this task belongs to."""


@dataclass(eq=False)
class Request:
    """An item of a stage, and the future of its output."""

    item: Any
    stage: AnyStage
    answer: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    resolved: bool = False
    """Whether an answer was given; the event loop that awaits it may not have it yet."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for an answer."""
        return not (self.resolved or self.answer.done())

    def resolve(self, output: Any) -> None:
        """Answer with an output or an exception, from any thread; the first counts."""
        self.resolved = True
        # The event loop that awaits it may have ended before its answer was ready.
        with contextlib.suppress(RuntimeError):
            self.answer.get_loop().call_soon_threadsafe(self._set, output)

    def _set(self, output: Any) -> None:
        if self.answer.done():
            return
        if isinstance(output, BaseException):
            self.answer.set_exception(output)
        else:
            self.answer.set_result(output)
