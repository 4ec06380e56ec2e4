"""Calls: whatever a model does to a batch, everyone in it is answered once."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import BatchError
from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.executor import BatchExecutor
from socratic_agents.scheduler.requests import Request
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's error, by which it is recognized."""


@dataclass
class Device:
    """Doubles numbers, as many at once as fit into its memory."""

    fits: int = 8
    calls: list[list[int]] = field(default_factory=list)
    closed: bool = False
    watched: int = 0
    """Calls that were begun under a watch."""
    noted: list[int] = field(default_factory=list)
    cost_model: CostModel = field(default_factory=CostModel)

    def run(self, numbers: list[int]) -> list[int]:
        assert len(self.calls) < self.watched
        self.calls.append(numbers)
        if len(numbers) > self.fits:
            raise OutOfMemoryError(len(numbers))
        return [2 * number for number in numbers]

    def stage(self, **options: Any) -> Stage[int, int]:
        return Stage(name="double", run=self.run, **options)

    @contextmanager
    def watch(self, stage: Stage[Any, Any]) -> Iterator[None]:
        self.watched += 1
        yield

    def executor(self) -> BatchExecutor:
        return BatchExecutor(
            self.cost_model,
            watch=self.watch,
            record=lambda stage, items, seconds: self.noted.append(items),
            closed=lambda: self.closed,
        )


async def outcomes(
    device: Device, stage: Stage[Any, Any], items: Sequence[Any]
) -> list[Any]:
    """Return what each item is answered with."""
    requests = [Request(item, stage) for item in items]
    device.executor().run(stage, None, requests)
    answers = asyncio.gather(
        *(request.answer for request in requests), return_exceptions=True
    )
    return await asyncio.wait_for(answers, 30)


@given(
    count=st.integers(1, 20),
    max_batch=st.integers(1, 8),
    fits=st.integers(0, 8),
    filling=st.sampled_from([{}, {"padded": True}, {"bucketed": True}]),
)
def test_too_little_memory_makes_calls_smaller(
    count: int, max_batch: int, fits: int, filling: dict[str, bool]
) -> None:
    """Everyone is answered by calls that fit; what does not fit is not tried again."""

    async def main() -> None:
        device = Device(fits)
        stage = device.stage(max_batch=max_batch, **filling)
        first = await outcomes(device, stage, range(count))
        limit = device.cost_model.limit(stage, None)
        failed = {len(call) for call in device.calls if len(call) > fits}
        assert count == sum(
            n
            for n, call in zip(device.noted, device.calls, strict=True)
            if len(call) <= max(fits, 1)
        )
        if not fits:
            assert all(isinstance(outcome, OutOfMemoryError) for outcome in first)
            return
        assert [2 * number for number in range(count)] == first
        assert limit <= max_batch
        assert 2 * limit >= fits or limit == max_batch
        if failed:
            assert limit <= fits
        del device.calls[:]
        device.watched = 0
        assert first == await outcomes(device, stage, range(count))
        if failed:
            assert all(len(call) <= fits for call in device.calls)

    asyncio.run(main())


async def test_memory_is_freed_before_the_next_call() -> None:
    """The failed call's frame is gone, and its tensors with it, when one frees."""

    class Tensor:
        pass

    tensors, alive = list[weakref.ref[Tensor]](), list[bool]()

    def run(items: list[int]) -> list[int]:
        tensor = Tensor()
        tensors.append(weakref.ref(tensor))
        if len(items) > 1:
            raise OutOfMemoryError
        return items

    def relieve() -> None:
        alive.append(tensors[-1]() is not None)

    device = Device()
    stage = Stage(name="draw", run=_watched(device, run), free_memory=relieve)
    assert [0, 1, 2, 3] == await outcomes(device, stage, range(4))
    assert [False, False] == alive


def _watched(device: Device, run: Any) -> Any:
    def call(items: list[Any]) -> Any:
        device.calls.append(items)
        return run(items)

    return call


async def test_a_single_item_is_worth_every_remedy() -> None:
    """First memory is freed, then the model works in pieces, then the item fails."""
    device, tried = Device(fits=0), list[str]()

    def smaller() -> None:
        tried.append("smaller")
        device.fits = 1

    stage = device.stage(
        free_memory=lambda: tried.append("relieve"), reduce_memory=smaller
    )
    assert [6] == await outcomes(device, stage, [3])
    assert ["relieve", "smaller"] == tried
    assert [[3], [3], [3]] == device.calls

    device = Device(fits=0)
    tried.clear()
    stage = device.stage(
        free_memory=lambda: tried.append("relieve"),
        reduce_memory=lambda: tried.append("smaller"),
    )
    [error] = await outcomes(device, stage, [3])
    assert isinstance(error, OutOfMemoryError)
    assert ["relieve", "smaller"] == tried


async def test_only_the_item_that_does_not_fit_fails() -> None:
    """One image that is too large takes nobody's place."""

    def run(items: list[int]) -> list[int]:
        if 5 in items:
            raise OutOfMemoryError
        return items

    device = Device()
    stage = Stage(name="draw", run=_watched(device, run))
    got = await outcomes(device, stage, range(8))
    assert isinstance(got[5], OutOfMemoryError)
    assert [0, 1, 2, 3, 4, 6, 7] == [g for g in got if isinstance(g, int)]


async def test_a_remedy_that_fails_is_no_remedy() -> None:
    """The worker's thread survives, and the batch is still run."""

    def broken() -> None:
        raise ZeroDivisionError

    device = Device(fits=2)
    got = await outcomes(device, device.stage(free_memory=broken), range(4))
    assert [0, 2, 4, 6] == got
    assert 2 == device.cost_model.limit(device.stage(free_memory=broken), None)


async def test_nothing_begins_after_closing() -> None:
    """Whoever closed has answered everyone."""
    device, stage = Device(closed=True), Device().stage()
    request = Request(1, stage)
    device.executor().run(stage, None, [request])
    assert 0 == device.watched
    assert request.wanted


async def test_whoever_is_answered_or_gone_is_left_out() -> None:
    """An answer that is still on its way to its event loop counts, too."""
    device = Device()
    stage = device.stage()
    requests = [Request(number, stage) for number in range(3)]
    requests[0].resolve("early")
    requests[1].answer.cancel()
    assert [False, False, True] == [request.wanted for request in requests]
    device.executor().run(stage, None, requests)
    assert [[2]] == device.calls
    assert ("early", 4) == (await requests[0].answer, await requests[2].answer)
    device.executor().run(stage, None, requests)
    assert [[2]] == device.calls


async def test_the_first_answer_counts() -> None:
    """A second one, of a batch that was closed meanwhile, is thrown away."""
    request = Request(1, Device().stage())
    request.resolve("first")
    request.resolve("second")
    await asyncio.sleep(0)
    assert "first" == await request.answer


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"bucketed": True}, [1, 2, 3, 4, 6, 6]),
        ({"padded": True}, [6, 6, 6, 6, 6, 6]),
        ({"padded": True, "bucketed": True}, [6, 6, 6, 6, 6, 6]),
    ],
)
async def test_calls_are_filled_up(options: dict[str, bool], sizes: list[int]) -> None:
    """A device sees the sizes that the stage allows; nobody gets a copy's output."""
    device = Device()
    stage = device.stage(max_batch=6, **options)
    for count in range(1, 7):
        got = await outcomes(device, stage, range(count))
        assert [2 * number for number in range(count)] == got
    assert sizes == [len(call) for call in device.calls]
    assert [1, 2, 3, 4, 5, 6] == device.noted


async def test_every_call_is_learned_from_but_failed_ones() -> None:
    """What a failure took says nothing about the next call."""
    device = Device()

    def run(numbers: list[int]) -> list[int]:
        if len(numbers) > 1:
            raise ValueError
        return [numbers[0]] * (1 if numbers[0] else 2)

    learned = list[int]()

    class Learning(CostModel):
        def observe(self, stage: Any, key: Any, *, items: int, seconds: float) -> None:
            assert seconds >= 0
            learned.append(items)

    device.cost_model = Learning()
    stage = Stage(name="odd", run=_watched(device, run))
    got = await outcomes(device, stage, [0, 1])
    assert isinstance(got[0], BatchError)
    assert 1 == got[1]
    assert [1] == learned
    assert [2, 1, 1] == device.noted
