"""Sessions that were just answered: what they want next comes before a long batch.

* The worker waits for their next word, and no longer.
* Whoever thinks, ends or waits for something else holds nobody up.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.return_wait import ReturnWait
from socratic_agents.scheduler.tuning import DEFAULT_TUNING
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FOREVER = 1e6
"""Seconds of a call of the generator, of which a small share is waited for."""


class Device:
    """Two stages that note their calls, and what they are said to cost."""

    def __init__(self, seconds: float = FOREVER) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.drawn = threading.Event()
        self.eyes: Stage[int, int] = Stage(
            name="eyes", run=self._look, max_batch=4, priority=1
        )
        self.hand: Stage[int, int] = Stage(name="hand", run=self._draw, max_batch=4)
        self.cost_model = CostModel()
        for items in (1, 4):
            for _ in range(DEFAULT_TUNING.trusted_calls):
                self.cost_model.observe(self.hand, None, items=items, seconds=seconds)

    def _look(self, items: list[int]) -> list[int]:
        self.calls.append(("eyes", items))
        return [item + 1 for item in items]

    def _draw(self, items: list[int]) -> list[int]:
        self.calls.append(("hand", items))
        self.drawn.set()
        return items


async def served(
    device: Device, after: Callable[[Worker, int], Awaitable[object]]
) -> list[tuple[str, list[Any]]]:
    """Let a session look while another wants to draw, and go on in some way."""
    gate, held = threading.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    def hold() -> None:
        here.call_soon_threadsafe(held.set)
        gate.wait()

    async with Worker(cost_model=device.cost_model) as worker:

        async def look() -> None:
            with worker.session():
                await after(worker, await worker.submit(device.eyes, 1))

        async def draw() -> None:
            with worker.session():
                await worker.submit(device.hand, 7)

        async with asyncio.TaskGroup() as group:
            group.create_task(worker.call(hold))
            await held.wait()
            group.create_task(look())
            group.create_task(draw())
            await asyncio.sleep(0)
            assert 2 == worker.statistics().waiting
            gate.set()
    return device.calls


async def test_what_an_answered_session_wants_next_goes_first() -> None:
    """Its score comes before the others' images, and not after they are drawn."""
    device = Device()

    async def score(worker: Worker, seen: int) -> None:
        await worker.submit(device.eyes, seen)

    calls = await served(device, score)

    assert [("eyes", [1]), ("eyes", [2]), ("hand", [7])] == calls


@pytest.mark.parametrize("way", ["thinks", "ends"])
async def test_who_says_that_it_wants_nothing_holds_nobody_up(way: str) -> None:
    """The images are drawn at once, however long a wait could be."""
    device = Device()

    async def think(worker: Worker, _: int) -> None:
        if way == "thinks":
            worker.think()
            await asyncio.to_thread(device.drawn.wait)

    assert [("eyes", [1]), ("hand", [7])] == await served(device, think)


async def test_who_says_nothing_is_waited_for_a_moment_only() -> None:
    """A small share of what the images take, though it waits for them itself."""
    device = Device(seconds=0.5)

    async def wait(_: Worker, __: int) -> None:
        await asyncio.to_thread(device.drawn.wait)

    assert [("eyes", [1]), ("hand", [7])] == await served(device, wait)


async def test_a_session_that_waits_for_more_is_not_expected() -> None:
    """It says nothing before all that it asked for is wait."""
    device = Device()
    two: Stage[int, int] = Stage(name="two", run=device._look, max_batch=1, priority=1)
    async with Worker(cost_model=device.cost_model) as worker:

        async def look() -> None:
            with worker.session():
                asked = [worker.submit(stage, 1) for stage in (two, device.hand)]
                await asyncio.gather(*asked)

        await look()
    assert [("eyes", [1]), ("hand", [1])] == device.calls


def test_a_wait_lasts_as_long_as_is_granted_once() -> None:
    """Then some batches begin without one, for those were waited for in vain."""
    granted = list[float]()

    def limit() -> float:
        granted.append(2.0)
        return 2.0

    wait = ReturnWait(limit, pause=DEFAULT_TUNING.return_wait_pause)
    assert 0 == wait.wait(10.0)
    wait.expect({1, 2})
    assert [2.0, 1.5] == [wait.wait(10.0), wait.wait(10.5)]
    wait.discard(1)
    assert 0.5 == wait.wait(11.5)
    assert 0 == wait.wait(12.0)
    assert [2.0] == granted
    for _ in range(DEFAULT_TUNING.return_wait_pause - 1):
        wait.expect({3})
        assert 0 == wait.wait(20.0)
    wait.expect({3})
    assert 2.0 == wait.wait(20.0)
    wait.discard(3)
    wait.discard(4)  # nobody has expected it
    assert 0 == wait.wait(20.5)
