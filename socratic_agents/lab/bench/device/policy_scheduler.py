"""A baseline policy on a real device, over the same stages as the worker."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError
from socratic_agents.lab.bench.baselines import Arrival
from socratic_agents.lab.bench.device.instrumentation import current_loop_id

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from socratic_agents.lab.bench.baselines import Policy
    from socratic_agents.scheduler.worker import Stage

__all__ = ("PolicyScheduler",)


class PolicyScheduler:
    """Runs what a policy decides, with one thread for the device, as the worker has.

    Args:
        policy: Decides what the device does next.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._device = ThreadPoolExecutor(1, "bench-device")
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        # What runs must end before the next scheduler has the models.
        await asyncio.to_thread(self._device.shutdown, cancel_futures=True)

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Hashable = None
    ) -> Any:
        """Wait until the policy serves the item, and return its output."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        arrival = Arrival(
            stage=(stage, key),
            loop=current_loop_id.get(),
            largest=stage.max_batch,
            payload=(stage, item, answer),
        )
        self._policy.arrive(arrival, now=loop.time())
        # Not at once: a loop may submit several items at the same moment.
        loop.call_soon(self._ask)
        return await answer

    def session(self, *, user: Hashable = None) -> AbstractContextManager[None]:  # noqa: ARG002 - it knows none
        """Know nothing of loops."""
        return nullcontext()

    def think(self) -> None:
        """Know nothing of it."""

    def _ask(self) -> None:
        """Begin what the policy decides, if the device is free."""
        if self._running is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        decision = self._policy.decide(loop.time())
        if isinstance(decision, float):
            self._timer = loop.call_at(decision, self._ask)
        elif decision is not None:
            self._running = loop.create_task(self._run(decision))

    async def _run(self, batch: Sequence[Arrival]) -> None:
        payloads = (arrival.payload for arrival in batch)
        (stage, *_), items, answers = zip(*payloads, strict=True)
        outputs: Sequence[Any] = ()
        failure: Exception | None = None
        try:
            loop = asyncio.get_running_loop()
            outputs = await loop.run_in_executor(self._device, stage.run, list(items))
            if len(outputs) != len(items):
                message = (
                    f"expected {len(items)} outputs of stage {stage.name!r}, got "
                    f"{len(outputs)}; fix the stage"
                )
                failure = BatchError(message)
        except Exception as error:  # noqa: BLE001 - it is raised where it was submitted
            failure = error
        for place, answer in enumerate(answers):
            if answer.done():
                continue  # nobody waits any more
            if failure is not None:
                answer.set_exception(failure)
            else:
                answer.set_result(outputs[place])
        self._running = None
        self._ask()
