"""Rivals: other ways to share a device, over the same models as the worker.

Each has one thread for the device, as the worker has, and runs the same stages.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError
from socratic_agents.lab.bench.device.instrumentation import current_loop_id

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from socratic_agents.scheduler.worker import Stage

__all__ = ("EarlySealing", "LockStep", "Serial")


class Serial:
    """Every call under one lock: first come, first served, one item each."""

    def __init__(self) -> None:
        self._device = ThreadPoolExecutor(1, "bench-device")
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # What runs must end before the next contender has the models.
        await asyncio.to_thread(self._device.shutdown, cancel_futures=True)

    async def submit(
        self,
        stage: Stage[Any, Any],
        item: Any,
        *,
        key: Hashable = None,  # noqa: ARG002 - a batch of one has one key
    ) -> Any:
        """Wait for the lock, and run the item alone."""
        async with self._lock:
            return (await self._run(stage, [item]))[0]

    def session(self, *, user: Hashable = None) -> AbstractContextManager[None]:  # noqa: ARG002 - it knows none
        """Know nothing of loops."""
        return nullcontext()

    def think(self) -> None:
        """Know nothing of it."""

    async def _run(self, stage: Stage[Any, Any], items: list[Any]) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._device, stage.run, items)
        if len(outputs) != len(items):
            message = (
                f"expected {len(items)} outputs of stage {stage.name!r}, got "
                f"{len(outputs)}; mend the stage"
            )
            raise BatchError(message)
        return outputs


@dataclass(eq=False)
class _Batch:
    """Items that are run together, and who waits for them."""

    stage: Stage[Any, Any]
    items: list[Any] = field(default_factory=list)
    answers: list[asyncio.Future[Any]] = field(default_factory=list)

    def add(self, item: Any) -> asyncio.Future[Any]:
        """Let an item in, and return its answer."""
        self.items.append(item)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    def settle(self, outputs: Sequence[Any] | Exception) -> None:
        """Answer everyone."""
        for place, answer in enumerate(self.answers):
            if answer.done():
                continue  # nobody cares any more
            if isinstance(outputs, Exception):
                answer.set_exception(outputs)
            else:
                answer.set_result(outputs[place])


class _Batching(Serial):
    """Runs batches one after the other, in the order in which they are closed."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[Stage[Any, Any], Hashable], _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().__aexit__()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _outputs(self, batch: _Batch) -> Sequence[Any] | Exception:
        try:
            async with self._lock:
                return await self._run(batch.stage, batch.items)
        except Exception as error:  # noqa: BLE001 - it is raised where it was submitted
            return error


class LockStep(_Batching):
    """All loops at once: nobody goes on before the last one is done with a stage.

    Args:
        loops: In flight, all of which must wait before anything is run.
    """

    def __init__(self, *, loops: int) -> None:
        super().__init__()
        self._loops = loops
        self._waiting = set[tuple[str, int]]()
        self._due = False

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Hashable = None
    ) -> Any:
        """Wait until everyone does, and until everyone is served."""
        answer = self._open.setdefault((stage, key), _Batch(stage)).add(item)
        self._waiting.add(current_loop_id.get())
        if len(self._waiting) == self._loops and not self._due:
            self._due = True
            self._begin(self._serve())
        return await answer

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # a loop may submit several items at once
        served, self._open = self._open, {}
        self._waiting, self._due = set(), False
        outcomes = []
        for batch in served.values():
            most = batch.stage.max_batch
            for start in range(0, len(batch.items), most):
                span = slice(start, start + most)
                part = _Batch(batch.stage, batch.items[span], batch.answers[span])
                outcomes.append((part, await self._outputs(part)))
        for part, outputs in outcomes:
            part.settle(outputs)


class EarlySealing(_Batching):
    """As Ray Serve batches: cut by a timer, whether the device is free or not.

    Args:
        wait: Seconds that a batch stays open after its first item, if it is not full.

    Source:
        ``@serve.batch`` of Ray 2.60: its batch is taken out of the queue when it is
        full or its first item has waited long enough, and waits for the device then.
    """

    def __init__(self, *, wait: float = 0.01) -> None:
        super().__init__()
        self._wait = wait

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Hashable = None
    ) -> Any:
        """Join the batch that is open, and close it when it is full."""
        place = (stage, key)
        if place not in self._open:
            batch = self._open[place] = _Batch(stage)
            loop = asyncio.get_running_loop()
            loop.call_later(self._wait, self._seal, place, batch)
        batch = self._open[place]
        answer = batch.add(item)
        if len(batch.items) == stage.max_batch:
            self._seal(place, batch)
        return await answer

    def _seal(self, place: tuple[Stage[Any, Any], Hashable], batch: _Batch) -> None:
        if self._open.get(place) is batch:
            del self._open[place]
            self._begin(self._serve(batch))

    async def _serve(self, batch: _Batch) -> None:
        batch.settle(await self._outputs(batch))
