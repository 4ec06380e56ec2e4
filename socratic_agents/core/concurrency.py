"""Coroutines that run at the same time, and what counts as one."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from socratic_agents.core.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Iterable,
    )
    from typing import Any

__all__ = (
    "ProcessGuard",
    "drop",
    "each_result",
    "is_async",
    "is_cancelled",
    "meanwhile",
    "run_together",
)

Input = TypeVar("Input")
Output = TypeVar("Output")


class ProcessGuard:
    """Knows in which process something with threads was opened.

    A fork copies the thread that asks for it and none of the others: what is handed to
    them in the child is never answered, and a lock that one held is never released.
    """

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def left(self) -> bool:
        """Whether this is another process, a fork of the first one."""
        return os.getpid() != self._process

    def check(self, what: str) -> None:
        """Refuse to use it in a fork.

        Raises:
            ClosedError: If this is one.
        """
        if self.left:
            message = (
                f"expected {what} in the process that opened it, got a fork of that, "
                "which has none of its threads; open a new one there"
            )
            raise ClosedError(message)


def is_async(given: object) -> bool:
    """Return whether calling this gives something to await."""
    return inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(
        getattr(given, "__call__", None)  # noqa: B004 - what matters is how it is called
    )


def is_cancelled() -> bool:
    """Return whether somebody asked this task to end.

    A ``CancelledError`` where nobody did is a failure of whoever raised it.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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


async def each_result(
    inputs: Iterable[Input],
    work: Callable[[int, Input], Coroutine[Any, Any, Output]],
    *,
    room: Callable[[], int],
) -> AsyncGenerator[Output, None]:
    """Yield what becomes of each input when it is there; leaving cancels what still runs.

    Args:
        inputs: One is taken only when there is room for it.
        work: An input and its place -> its result. What it raises ends the others,
            once what is finished was yielded.
        room: How many may be on their way, for now.
    """
    numbered, done = enumerate(inputs), deque[Output]()
    places = dict[asyncio.Task[Output], int]()
    error: BaseException | None = None
    try:
        while True:
            free = 0 if error else max(room() - len(places), 0)
            for place, one in itertools.islice(numbered, free):
                places[asyncio.create_task(work(place, one))] = place
            if done:
                yield done.popleft()
                continue
            if error:
                raise error
            if not places:
                return
            first, _ = await asyncio.wait(places, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(first, key=places.__getitem__):
                del places[task]
                if problem := task.exception():
                    error = error or problem
                else:
                    done.append(task.result())
    finally:
        for task in places:
            task.cancel()
        await asyncio.gather(*places, return_exceptions=True)
