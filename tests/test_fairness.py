"""Users who share a refiner: nobody's hundred prompts keep another's single one waiting.

Order is proven with events: a gate holds the device until everything is queued.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents import Refinement
from socratic_agents.runtime.refine import refine
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.cost_curve import CostCurve
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch
from socratic_agents.scheduler.queues import QueueItem
from socratic_agents.scheduler.requests import current_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FLOOD = 100


@dataclass
class Device:
    """A generator that draws one image a call, and only when the gate is open."""

    drawn: list[str] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def draw(self, prompt: str, seed: int) -> Image.Image:
        self.reached.set()
        self.gate.wait(60)
        self.drawn.append(prompt)
        return Image.new("RGB", (2, 2), (seed, 0, 0))


async def caption(image: Image.Image) -> str:
    return "an image"


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
async def refiner(device: Device) -> AsyncIterator[Refiner]:
    """Return an open refiner of one round, with room for all prompts at once."""
    async with Refiner(
        generator=device.draw,
        captioner=caption,
        scorer=None,
        judge="never",
        selector="first",
        rounds=1,
        seed=7,
        in_flight=2 * FLOOD,
    ) as refiner:
        yield refiner
        device.gate.set()


async def queued(refiner: Refiner, count: int) -> None:
    """Let tasks run until so many items wait for the device."""
    async with asyncio.timeout(30):
        while waiting(refiner) < count:  # noqa: ASYNC110 - the worker only counts
            await asyncio.sleep(0)


def waiting(refiner: Refiner) -> int:
    statistics = refiner.statistics()
    return statistics.waiting if statistics else 0


async def flood(refiner: Refiner, user: str | None) -> list[Any]:
    prompts = (f"flood {number}" for number in range(FLOOD))
    return [one async for one in refiner.refine_many(prompts, user=user)]


@pytest.mark.parametrize(
    ("users", "places"),
    [(("alice", "bob"), range(4)), ((None, "bob"), range(4)), ((None, None), [FLOOD])],
    ids=["named", "one named", "nobody named"],
)
async def test_a_single_prompt_is_served_soon(
    device: Device, refiner: Refiner, users: tuple[str | None, ...], places: range
) -> None:
    """Within a few batches, if it is another user's; else in the order of coming."""
    many = asyncio.create_task(flood(refiner, users[0]))
    assert await asyncio.to_thread(device.reached.wait, 60)
    await queued(refiner, FLOOD - 1)  # all but the one at the gate
    one = asyncio.create_task(refiner.refine("single", user=users[1]))
    await queued(refiner, FLOOD)
    device.gate.set()
    assert "single" == (await one).user_prompt
    outcomes = await many
    assert device.drawn.index("single") in places
    assert FLOOD + 1 == len(device.drawn)
    assert all(isinstance(outcome, Refinement) for outcome in outcomes)


async def test_an_image_does_not_depend_on_the_user(
    device: Device, refiner: Refiner
) -> None:
    """Only when it is drawn does."""
    device.gate.set()
    named = await refiner.refine("a cat", user="alice")
    plain = await refiner.refine("a cat")
    assert named.best == plain.best
    assert named.to_json()["settings"] == plain.to_json()["settings"]


async def test_the_function_for_one_prompt_takes_a_user_too() -> None:
    """Whoever looks at the session that a call belongs to finds him there."""
    users = list[Any]()

    async def draw(prompt: str, seed: int) -> Image.Image:
        session = current_session.get()
        users.append(session and session.user)
        return Image.new("RGB", (2, 2), "red")

    fakes: dict[str, Any] = {"generator": draw, "captioner": caption, "scorer": None}
    roles: dict[str, Any] = {"judge": "never", "selector": "first", "rounds": 1}
    await refine("a cat", **fakes, **roles, user="alice")
    assert ["alice"] == users


@given(
    flooded=st.integers(1, 200),
    before=st.integers(0, 20),
    max_batch=st.integers(1, 16),
    known=st.booleans(),
    others=st.integers(1, 5),
)
def test_a_newcomer_is_in_one_of_the_next_batches(
    flooded: int, before: int, max_batch: int, known: bool, others: int
) -> None:
    """However much others have queued: after one item of each of them at most."""
    curve = CostCurve(tuple(1 + n / 10 for n in range(max_batch))) if known else None
    policy, options = BatchPolicy[str](), {"max_batch": max_batch, "curve": curve}

    def add(user: str, number: int) -> None:
        item = QueueItem(user, number, number, user)
        policy.add(item, stage="images", **options)  # type: ignore[arg-type]

    def run() -> list[str]:
        decision = policy.decide(0.0)
        assert isinstance(decision, RunBatch)
        return [item.payload for item in decision.items]

    for number in range(flooded * others):
        add(f"other {number % others}", number)
    for _ in range(before):
        if len(policy) > max_batch:
            run()
    add("newcomer", flooded * others)
    served = list[str]()
    while "newcomer" not in served:
        served += run()
    assert served.index("newcomer") <= others
