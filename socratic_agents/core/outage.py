"""Outages: what becomes of a refinement whose language model nobody can reach any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from socratic_agents.core.errors import ServerDownError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from socratic_agents.core.errors import CallError

__all__ = ("Outage",)

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Outage:
    """Notes whether an agent of one refinement found its server down for good.

    Most agents that cannot answer leave a gap, and the loop goes on. Where the server
    is down, all further ones would.
    """

    def __init__(self) -> None:
        self.problem: ServerDownError | None = None
        """What the first of them met."""

    def watch(
        self, ask: Callable[Given, Awaitable[Answer]]
    ) -> Callable[Given, Awaitable[Answer]]:
        """Return an agent that does the same, and is noted."""

        async def watched(*given: Given.args, **named: Given.kwargs) -> Answer:
            try:
                return await ask(*given, **named)
            except ServerDownError as problem:
                self.problem = self.problem or problem
                raise

        return watched

    def check(self, survives: Callable[[CallError], bool] = lambda _: False) -> None:
        """Raise what was met, if anything was.

        Args:
            survives: Whether a refinement goes on without.

        Raises:
            ServerDownError: If an agent met it.
        """
        if self.problem is not None and not survives(self.problem):
            raise self.problem
