"""Coroutines that run at the same time, and what counts as one."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable
    from typing import Any

__all__ = ("drop", "is_async", "meanwhile", "run_together")

Output = TypeVar("Output")


def is_async(given: object) -> bool:
    """Return whether calling this gives something to await."""
    return inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(
        getattr(given, "__call__", None)  # noqa: B004 - what matters is how it is called
    )


async def run_together(
    coroutines: Iterable[Coroutine[Any, Any, Output]],
) -> tuple[Output, ...]:
    """Await all at once; the first error cancels the rest and is raised bare."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None
    return tuple(task.result() for task in tasks)


@asynccontextmanager
async def meanwhile(
    coroutine: Coroutine[Any, Any, Output],
) -> AsyncIterator[asyncio.Task[Output]]:
    """Run something beside what is done inside, and not longer."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        await drop(task)


async def drop(task: asyncio.Task[Any]) -> None:
    """End a task that nobody needs any more, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # that nobody asked for it is no cause to complain
