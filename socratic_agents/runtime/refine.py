"""Refine one or many prompts with models that are opened for it, and closed after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.runtime.refiner import Refiner
from socratic_agents.runtime.sync_bridge import SyncBridge

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Iterable

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.loop import Event
    from socratic_agents.core.outcome import Failure, Refinement

__all__ = ("refine", "refine_many", "refine_sync")


async def refine(
    prompt: str,
    settings: Settings | None = None,
    *,
    user: str | None = None,
    deadline: float | None = None,
    cancel: asyncio.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
    **overrides: Any,
) -> Refinement:
    """Refine one user prompt with models of its own; see ``Refiner`` for many."""
    refiner = Refiner(settings, **overrides)
    refiner.check(prompt)  # before the models are loaded
    async with refiner:
        return await refiner.refine(
            prompt, user=user, deadline=deadline, cancel=cancel, on_event=on_event
        )


async def refine_many(
    prompts: Iterable[str],
    settings: Settings | None = None,
    *,
    deadline: float | None = None,
    on_event: Callable[[int, Event], None] | None = None,
    **overrides: Any,
) -> AsyncGenerator[Refinement | Failure, None]:
    """Refine many user prompts at once, and yield each outcome when it is there."""
    async with Refiner(settings, **overrides) as refiner:
        outcomes = refiner.refine_many(prompts, deadline=deadline, on_event=on_event)
        try:
            async for outcome in outcomes:
                yield outcome
        finally:
            await outcomes.aclose()


def refine_sync(
    prompt: str,
    settings: Settings | None = None,
    *,
    deadline: float | None = None,
    on_event: Callable[[Event], None] | None = None,
    **overrides: Any,
) -> Refinement:
    """Refine one user prompt in a script or notebook; blocks until it is done."""
    with SyncBridge() as bridge:
        refining = refine(
            prompt, settings, deadline=deadline, on_event=on_event, **overrides
        )
        return bridge.run(refining)
