"""The worker: one thread, late-binding batches, and an answer for everyone.

Invariants, each a property test over random sizes, keys and misfortunes:

* Every item is answered exactly once, with its own output or its own error.
* A batch has one stage and one key, and at most ``max_batch`` items.
* Within a key the oldest goes first; the stage with the highest priority leads.
* A failing item fails alone; a cancelled one is never run.
* Closing answers every waiter, those of the running batch too, and a stuck one's.

Order is proven with events: a gate holds the worker until everything is queued.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import (
    BatchError,
    CandidateError,
    ClosedError,
    StageTimeoutError,
)
from socratic_agents.core.history import Status
from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch, WaitUntil
from socratic_agents.scheduler.requests import Request
from socratic_agents.scheduler.tuning import DEFAULT_TUNING
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any


@dataclass
class Model:
    """A model that doubles numbers, and fails at some in the way that is asked for."""

    failing: frozenset[int] = frozenset()
    """Numbers that make the whole call fail."""
    refused: frozenset[int] = frozenset()
    """Numbers whose output is an error of their own."""
    batches: list[list[int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def run(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.batches.append(numbers)
        self.threads.add(threading.get_ident())
        if self.failing.intersection(numbers):
            message = f"cannot double {numbers}"
            raise ValueError(message)
        return [
            CandidateError(Status.SAFETY_FILTERED, str(number))
            if number in self.refused
            else 2 * number
            for number in numbers
        ]

    def stage(self, **options: Any) -> Stage[int, int]:
        return Stage(name="double", run=self.run, **options)


@asynccontextmanager
async def held(worker: Worker) -> AsyncIterator[threading.Event]:
    """Keep the worker busy until the event is set, at the latest at the end."""
    reached, gate = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(reached.set)
        gate.wait()

    task = asyncio.create_task(worker.call(hold))
    await reached.wait()
    try:
        yield gate
    finally:
        gate.set()
        await asyncio.gather(task, return_exceptions=True)


async def queued(worker: Worker, count: int) -> None:
    """Let the tasks submit their items, of which the worker must not take any yet."""
    await asyncio.sleep(0)
    assert count == worker.statistics().waiting


def run_briefly(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function that must not hang."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await main()

    asyncio.run(limited())


async def double(worker: Worker, number: int) -> int:
    return await worker.submit(Model().stage(), number)


numbers = st.integers(0, 30)


@given(
    items=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.booleans()), max_size=30
    ),
    max_batch=st.integers(1, 7),
    failing=st.frozensets(numbers, max_size=4),
    refused=st.frozensets(numbers, max_size=4),
)
def test_every_item_is_answered_once(
    items: list[tuple[str, int, bool]],
    max_batch: int,
    failing: frozenset[int],
    refused: frozenset[int],
) -> None:
    """Sizes, keys, failures and cancellations never mix up who gets what."""

    async def main() -> None:
        models = {name: Model(failing, refused - failing) for name in "ab"}
        stages = {
            "a": models["a"].stage(max_batch=max_batch),
            "b": models["b"].stage(max_batch=max_batch, priority=1),
        }
        async with Worker() as worker:
            async with held(worker):
                tasks = [
                    asyncio.create_task(worker.submit(stages[name], n, key=key))
                    for n, (name, key, _) in enumerate(items)
                ]
                await queued(worker, len(tasks))
                for task, (_, _, cancel) in zip(tasks, items, strict=True):
                    if cancel:
                        task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert 0 == worker.statistics().waiting

        for n, (outcome, (_, _, cancel)) in enumerate(
            zip(outcomes, items, strict=True)
        ):
            if cancel:
                assert isinstance(outcome, asyncio.CancelledError)
            elif n in failing:
                assert isinstance(outcome, ValueError)
                assert f"cannot double [{n}]" == str(outcome)
            elif n in refused:
                assert isinstance(outcome, CandidateError)
                assert str(n) == str(outcome)
            else:
                assert 2 * n == outcome
        cancelled = {n for n, (_, _, cancel) in enumerate(items) if cancel}
        for model in models.values():
            for batch in model.batches:
                assert len(batch) <= max_batch
                assert 1 == len({items[n][:2] for n in batch})
                assert not cancelled.intersection(batch)
                assert sorted(batch) == batch

    run_briefly(main)


@given(
    items=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1),
    max_batch=st.integers(1, 5),
)
def test_the_oldest_goes_first(items: list[tuple[int, int]], max_batch: int) -> None:
    """Priority decides between stages, age between keys and within a key."""

    async def main() -> None:
        order: list[list[int]] = []

        def run(batch: list[int]) -> list[int]:
            order.append(batch)
            return batch

        stages = [
            Stage(name=str(n), run=run, max_batch=max_batch, priority=n) for n in (0, 1)
        ]
        async with Worker() as worker:
            async with held(worker):
                tasks = [
                    asyncio.create_task(worker.submit(stages[stage], n, key=key))
                    for n, (stage, key) in enumerate(items)
                ]
                await queued(worker, len(tasks))
            await asyncio.gather(*tasks)

        priorities = [items[batch[0]][0] for batch in order]
        assert sorted(priorities, reverse=True) == priorities
        for stage in (0, 1):
            batches = [batch for batch in order if items[batch[0]][0] == stage]
            heads = [batch[0] for batch in batches]
            assert sorted(heads) == heads
            for key in range(3):
                same = [n for batch in batches for n in batch if items[n][1] == key]
                assert sorted(same) == same
                counts = [len(b) for b in batches if items[b[0]][1] == key]
                # Late binding: every batch but the last of a key is full.
                assert [max_batch] * len(counts[:-1]) == counts[:-1]

    run_briefly(main)


@given(count=st.integers(0, 20), max_batch=st.integers(1, 5), done=st.integers(0, 4))
def test_closing_answers_every_waiter(count: int, max_batch: int, done: int) -> None:
    """Wherever the worker stands when it closes, nobody is left waiting."""

    async def main() -> None:
        loop, here, gate = (
            asyncio.get_running_loop(),
            asyncio.Event(),
            threading.Event(),
        )
        batches: list[list[int]] = []

        def run(batch: list[int]) -> list[int]:
            batches.append(batch)
            if len(batches) > done:
                loop.call_soon_threadsafe(here.set)
                gate.wait()
            return batch

        stage = Stage(name="slow", run=run, max_batch=max_batch)
        worker = Worker()
        async with worker:
            async with held(worker):
                tasks = [
                    asyncio.create_task(worker.submit(stage, n)) for n in range(count)
                ]
                await queued(worker, count)
            if count > done * max_batch:
                await here.wait()
            else:
                await asyncio.gather(*tasks)
            closing = asyncio.create_task(worker.__aexit__())
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            gate.set()
            await closing
        answered = list(range(min(count, done * max_batch)))
        assert answered == [n for n in outcomes if isinstance(n, int)]
        rest = [o for o in outcomes if not isinstance(o, int)]
        assert all(isinstance(outcome, ClosedError) for outcome in rest)
        assert count == len(answered) + len(rest)
        with pytest.raises(ClosedError, match="expected an open worker"):
            await worker.submit(stage, 0)

    run_briefly(main)


async def test_all_models_run_in_one_thread() -> None:
    """What is not safe to share is never shared, and the event loop never waits."""
    model = Model()
    async with Worker("the-device") as worker:
        name = await worker.call(lambda: threading.current_thread().name)
        await asyncio.gather(*(worker.submit(model.stage(), n) for n in range(20)))
    assert "the-device" == name
    assert 1 == len(model.threads)
    assert threading.get_ident() not in model.threads


async def test_batches_fill_up_while_the_worker_is_busy() -> None:
    """Nothing is sealed early: what comes during a batch shares the next one."""
    model = Model()
    async with Worker() as worker:
        async with held(worker):
            tasks = [
                asyncio.create_task(worker.submit(model.stage(max_batch=4), n))
                for n in range(4)
            ]
            await queued(worker, 4)
        await asyncio.gather(*tasks)
    assert [[0, 1, 2, 3]] == model.batches


@pytest.mark.parametrize("outputs", [[], [1], [1, 2, 3]])
async def test_a_wrong_count_answers_nobody(outputs: list[int]) -> None:
    """An output too few or too many could be anyone's, so all get the error."""
    stage: Stage[int, int] = Stage(name="odd", run=lambda _: outputs)
    async with Worker() as worker:
        async with held(worker):
            tasks = [asyncio.create_task(worker.submit(stage, n)) for n in range(2)]
            await queued(worker, 2)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, BatchError)
        assert (
            "expected 2 outputs of stage 'odd', one for each item, "
            f"got {len(outputs)}; fix the model's list"
        ) == str(outcome)
    assert outcomes[0] is not outcomes[1]


async def test_a_failing_batch_is_halved() -> None:
    """One bad input of eight costs a few smaller calls, and no neighbour its output."""
    model = Model(failing=frozenset({5}))
    async with Worker() as worker:
        async with held(worker):
            tasks = [
                asyncio.create_task(worker.submit(model.stage(), n)) for n in range(8)
            ]
            await queued(worker, 8)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [0, 2, 4, 6, 8, 12, 14] == [o for o in outcomes if isinstance(o, int)]
    assert isinstance(outcomes[5], ValueError)
    halves = [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]
    assert [list(range(8)), *halves] == model.batches


@pytest.mark.parametrize("exit_", [SystemExit, KeyboardInterrupt, StopIteration])
async def test_the_worker_survives_every_exit(exit_: type[BaseException]) -> None:
    """A model that raises what ends threads or futures ends neither."""

    def run(batch: list[int]) -> list[int]:
        raise exit_

    async with Worker() as worker:
        with pytest.raises(BatchError, match=f"got {exit_.__name__}") as caught:
            await worker.submit(Stage[int, int](name="exits", run=run), 1)
        assert isinstance(caught.value.__cause__, exit_)
        assert 4 == await double(worker, 2)


async def test_outputs_that_are_none_are_outputs() -> None:
    """Only exceptions are raised; every other value is handed over."""
    async with Worker() as worker:
        stage = Stage[int, None](name="none", run=lambda batch: [None for _ in batch])
        assert [None] == [*await asyncio.gather(worker.submit(stage, 1))]


async def test_a_running_item_can_be_abandoned() -> None:
    """Its output is thrown away, and its neighbours get theirs."""
    loop, begun, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def run(batch: list[int]) -> list[int]:
        loop.call_soon_threadsafe(begun.set)
        gate.wait()
        return batch

    async with Worker() as worker:
        stage = Stage(name="slow", run=run)
        async with held(worker):
            tasks = [asyncio.create_task(worker.submit(stage, n)) for n in range(2)]
            await queued(worker, 2)
        await begun.wait()
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        gate.set()
        assert 1 == await tasks[1]


async def test_closing_stops_the_halving() -> None:
    """After closing, the rest of a failed batch is not tried any more."""
    worker, calls = Worker(), []

    def run(batch: list[int]) -> list[int]:
        calls.append(batch)
        worker._refuse()
        message = "no"
        raise ValueError(message)

    stage = Stage(name="fails", run=run)
    async with worker:
        async with held(worker):
            tasks = [asyncio.create_task(worker.submit(stage, n)) for n in range(2)]
            await queued(worker, 2)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [[0, 1]] == calls
    assert [ClosedError, ClosedError] == [type(outcome) for outcome in outcomes]


def test_several_event_loops_share_one_worker() -> None:
    """Items of different event loops and threads share batches, and each gets its output."""
    model, worker, results = Model(), Worker(), dict[int, list[int]]()
    worker.open()
    start = threading.Barrier(4)

    def submit(number: int) -> None:
        async def main() -> list[int]:
            start.wait()
            requests = (
                worker.submit(model.stage(), number * 10 + n) for n in range(10)
            )
            return await asyncio.gather(*requests)

        results[number] = asyncio.run(main())

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()
    for number in range(4):
        assert [2 * (number * 10 + n) for n in range(10)] == results[number]
    assert 1 == len(model.threads)


def test_a_loop_that_ended_does_not_end_the_worker() -> None:
    """Whoever left before his answer came is simply not answered."""
    worker, gate = Worker(), threading.Event()
    worker.open()

    async def leave() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def run(batch: list[int]) -> list[int]:
            loop.call_soon_threadsafe(begun.set)
            gate.wait()
            return batch

        task = asyncio.create_task(worker.submit(Stage(name="slow", run=run), 1))
        await begun.wait()
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert 6 == asyncio.run(double(worker, 3))
    worker.close()


async def test_statistics_count_what_was_done() -> None:
    """Batches, items and fill are exact; busy is a share."""
    model = Model()
    async with Worker() as worker:
        before = worker.statistics()
        assert (0, 0, 0.0, 0) == (
            before.batches,
            before.items,
            before.fill,
            before.waiting,
        )
        async with held(worker):
            tasks = [
                asyncio.create_task(worker.submit(model.stage(max_batch=4), n))
                for n in range(6)
            ]
            await queued(worker, 6)
            during = worker.statistics()
            assert (1, 6) == (during.batches, during.waiting)
            assert 0 < during.busy <= 1
        await asyncio.gather(*tasks)
        after = worker.statistics()
    assert (3, 7, 0, (1 + 1 + 0.5) / 3) == (
        after.batches,
        after.items,
        after.waiting,
        after.fill,
    )


async def test_a_finished_batch_is_not_kept() -> None:
    """Images are let go when their waiters have them, not at the next batch."""

    class Picture:
        pass

    gone = threading.Event()

    def run(batch: list[int]) -> list[Picture]:
        picture = Picture()
        weakref.finalize(picture, gone.set)
        return [picture]

    async with Worker() as worker:
        await worker.submit(Stage(name="draw", run=run), 1)
        assert await asyncio.to_thread(gone.wait, 20)


def test_a_worker_that_nobody_closes_does_not_keep_the_program() -> None:
    """The interpreter ends, after the running batch and with everyone answered."""
    code = """
import asyncio
from socratic_agents.scheduler.worker import Stage, Worker
worker = Worker()
worker.open()
print(asyncio.run(worker.submit(Stage(name="same", run=list), "done")))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ("done\n", "") == (run.stdout, run.stderr)


async def test_closing_twice_is_closing() -> None:
    """Whoever cannot know closes again, without harm; unopened workers too."""
    worker = Worker()
    async with worker:
        pass
    worker.close()
    Worker().close()


async def test_a_padded_stage_always_gets_as_many_items() -> None:
    """Every call has one size, and nobody is answered with a copy's output."""
    sizes = []

    def run(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return [item * 10 + place for place, item in enumerate(items)]

    stage = Stage(name="padded", run=run, max_batch=4, padded=True)
    async with Worker() as worker:
        outputs = await asyncio.gather(*(worker.submit(stage, n) for n in range(6)))

    assert {4} == set(sizes)
    assert [0, 1, 2, 3, 4, 5] == [output // 10 for output in outputs]


async def test_a_padded_stage_counts_its_copies() -> None:
    """One output for two items is no answer, also where one of them is a copy."""
    stage: Stage[int, int] = Stage(
        name="short", run=lambda items: items[:1], max_batch=2, padded=True
    )
    async with Worker() as worker:
        with pytest.raises(BatchError, match="expected 2 outputs"):
            await worker.submit(stage, 1)


async def test_a_padded_stage_fails_one_item_alone() -> None:
    """The halves of a failed batch are filled up again."""

    def run(items: list[int]) -> list[int]:
        assert 4 == len(items)
        if 2 in items:
            message = "two"
            raise ValueError(message)
        return items

    stage = Stage(name="picky", run=run, max_batch=4, padded=True)
    async with Worker() as worker:
        outputs = await asyncio.gather(
            *(worker.submit(stage, n) for n in range(4)), return_exceptions=True
        )

    assert [0, 1, 3] == [output for output in outputs if isinstance(output, int)]
    assert isinstance(outputs[2], ValueError)


@dataclass
class Misfortunes:
    """A model of many threads that fails, refuses, and counts what it has answered."""

    failing: frozenset[int]
    refused: frozenset[int]
    lock: threading.Lock = field(default_factory=threading.Lock)
    runs: dict[int, int] = field(default_factory=dict)
    """How often a call with this number returned."""
    sizes: list[int] = field(default_factory=list)

    def run(self, numbers: list[int]) -> list[int | Exception]:
        with self.lock:
            self.sizes.append(len(numbers))
            if self.failing.intersection(numbers):
                raise ValueError(str(numbers))
            for number in set(numbers):
                self.runs[number] = self.runs.get(number, 0) + 1
        return [
            CandidateError(Status.SAFETY_FILTERED, str(number))
            if number in self.refused
            else 2 * number
            for number in numbers
        ]

    def check(self, number: int, outcome: object) -> None:
        """Check that this is the number's own outcome, of a call that ran once."""
        if number in self.failing:
            assert isinstance(outcome, ValueError)
            assert str([number]) == str(outcome).replace(f", {number}", "")
            return
        assert 1 == self.runs[number]
        if number in self.refused:
            assert isinstance(outcome, CandidateError)
            assert str(number) == str(outcome)
        else:
            assert 2 * number == outcome


@given(
    items=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    threads=st.integers(1, 3),
    max_batch=st.integers(1, 7),
    failing=st.frozensets(st.integers(0, 40), max_size=4),
    refused=st.frozensets(st.integers(0, 40), max_size=4),
    closing=st.none() | st.integers(0, 40),
    filling=st.sampled_from([{}, {"padded": True}, {"bucketed": True}]),
)
def test_threads_closing_and_cancelling_at_any_time(
    items: list[tuple[str, int, bool]],
    threads: int,
    max_batch: int,
    failing: frozenset[int],
    refused: frozenset[int],
    closing: int | None,
    filling: dict[str, Any],
) -> None:
    """Nothing is held back: however it comes, each item gets one answer, its own."""
    model, worker = Misfortunes(failing, refused - failing), Worker()
    stages = {
        name: Stage(
            name=name, run=model.run, max_batch=max_batch, priority=p, **filling
        )
        for p, name in enumerate("ab")
    }
    outcomes: dict[int, Any] = {}
    start = threading.Barrier(threads)
    worker.open()

    async def one(number: int) -> None:
        stage, key, cancel = items[number]
        task = asyncio.create_task(
            worker.submit(stages[stage], number, key=key), name=str(number)
        )
        await asyncio.sleep(0)
        if cancel:
            task.cancel()
        if number == closing:
            worker._refuse()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert number not in outcomes
        outcomes[number] = outcome

    async def main(mine: list[int]) -> None:
        start.wait()
        with worker.session(user=mine[0] if mine else None):
            async with asyncio.timeout(30):
                await asyncio.gather(*map(one, mine))

    places = range(len(items))
    runners = [
        threading.Thread(target=lambda n=n: asyncio.run(main(list(places[n::threads]))))
        for n in range(threads)
    ]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert 0 == worker.statistics().waiting
    worker.close()

    assert set(places) == set(outcomes)
    for number, outcome in outcomes.items():
        if isinstance(outcome, ClosedError):
            assert closing is not None
        elif isinstance(outcome, asyncio.CancelledError):
            assert items[number][2]
        else:
            model.check(number, outcome)
    assert all(1 == count for count in model.runs.values())
    assert all(size <= max_batch for size in model.sizes)


class Noting(Worker):
    """Sets an event when a call is over, its watch too."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = threading.Event()

    def _record(self, stage: Stage[Any, Any], items: int, seconds: float) -> None:
        super()._record(stage, items, seconds)
        self.noted.set()


async def test_a_stuck_call_is_given_up() -> None:
    """Everyone gets an error that says what to do; when it ends, the worker works again."""
    gate, calls = threading.Event(), list[list[int]]()

    def run(batch: list[int]) -> list[int]:
        calls.append(batch)
        gate.wait()
        raise ValueError

    stage = Stage(name="draw", run=run, max_batch=2, timeout=0.01)
    async with Noting() as worker:
        async with held(worker):
            tasks = [asyncio.create_task(worker.submit(stage, n)) for n in range(3)]
            await queued(worker, 3)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [StageTimeoutError] * 3 == [type(outcome) for outcome in outcomes]
        assert (
            "expected a worker that answers for stage 'draw', got one that has been "
            "stuck for more than 0.01 s in a call of stage 'draw'; wait for the call, "
            "or restart the program"
        ) == str(outcomes[2])
        with pytest.raises(
            StageTimeoutError, match="stage 'double', got one that has been"
        ):
            await double(worker, 1)
        worker.noted.clear()
        gate.set()
        assert await asyncio.to_thread(worker.noted.wait, 30)
        assert 4 == await double(worker, 2)
    # Its halves would only have been answers for nobody.
    assert [[0, 1]] == calls


async def test_a_stuck_worker_can_be_closed() -> None:
    """The program may go on without it, and does not wait for the call."""
    gate = threading.Event()

    def run(batch: list[int]) -> list[int]:
        gate.wait()
        return batch

    async with Worker() as worker:
        with pytest.raises(StageTimeoutError):
            await worker.submit(Stage(name="draw", run=run, timeout=0.01), 1)
    assert worker._thread.is_alive()
    gate.set()
    await asyncio.to_thread(worker._thread.join, 30)
    assert not worker._thread.is_alive()


async def test_a_call_within_its_timeout_is_not_given_up() -> None:
    """The watch ends with the call, and says nothing afterwards."""
    model, watches = Model(), set[threading.Thread]()

    def run(numbers: list[int]) -> Sequence[int | Exception]:
        watches.update(
            thread
            for thread in threading.enumerate()
            if isinstance(thread, threading.Timer)
        )
        return model.run(numbers)

    stage = Stage(name="quick", run=run, timeout=60)
    async with Worker() as worker:
        assert 2 == await worker.submit(stage, 1)
        [watch] = watches
        watch.join(30)
        assert not watch.is_alive()
        # A watch that goes off at the very end of its call comes too late.
        worker._give_up(stage, object())
        assert 4 == await worker.submit(stage, 2)


async def test_items_of_the_session_that_began_first_go_first() -> None:
    """Sessions end one after the other, rather than all at the end."""
    model = Model()
    stage, ready = model.stage(max_batch=1), asyncio.Event()

    async def submit_all(number: int) -> None:
        with worker.session():
            if number == 0:
                await ready.wait()  # it asks last, but began first
            await asyncio.gather(
                worker.submit(stage, 2 * number), worker.submit(stage, 2 * number + 1)
            )

    async with Worker() as worker, held(worker) as gate:
        tasks = [asyncio.create_task(submit_all(number)) for number in range(2)]
        await asyncio.sleep(0)  # each session begins tasks of its own
        await queued(worker, 2)
        ready.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await queued(worker, 4)
        gate.set()
        await asyncio.gather(*tasks)
    assert [[0], [1], [2], [3]] == model.batches


async def test_users_share_the_device() -> None:
    """Who asks for little does not wait for all of somebody who asks for much."""
    model = Model()
    stage = model.stage(max_batch=2)

    async def submit_all(user: str, *numbers: int) -> None:
        with worker.session(user=user):
            await asyncio.gather(*(worker.submit(stage, n) for n in numbers))

    async with Worker() as worker, held(worker) as gate:
        tasks = [
            asyncio.create_task(submit_all("much", *range(8))),
            asyncio.create_task(submit_all("little", 8, 9)),
        ]
        await asyncio.sleep(0)  # each session begins tasks of its own
        await queued(worker, 10)
        gate.set()
        await asyncio.gather(*tasks)
    assert {8, 9} < {number for batch in model.batches[:2] for number in batch}


class SignallingPolicy(BatchPolicy[Request]):
    """Sets an event when it leaves the device idle for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def decide(self, now: float) -> RunBatch[Request] | WaitUntil | None:
        decision = super().decide(now)
        if isinstance(decision, WaitUntil):
            self.waits.set()
        return decision


async def test_an_idle_device_waits_for_a_session_that_thinks() -> None:
    """Two sessions that could share a call do so, where a call costs the same for two."""
    model, cost_model, policy = Model(), CostModel(), SignallingPolicy()
    stage = model.stage(max_batch=2)
    for _ in range(DEFAULT_TUNING.trusted_calls):
        for items in (1, 2):
            cost_model.observe(stage, None, items=items, seconds=100.0)
    for _ in range(4):  # how long thoughts take, as a rule
        policy.think_times.begin("past", now=0.0)
        policy.think_times.end("past", now=20.0)
    thinks = asyncio.Event()

    async def early() -> None:
        with worker.session():
            await worker.submit(stage, 0)
            worker.think()
            await thinks.wait()
            await worker.submit(stage, 2)

    async def late() -> None:
        with worker.session():
            await worker.submit(stage, 1)
            worker.think()
            thinks.set()
            assert await asyncio.to_thread(policy.waits.wait, 30)
            await worker.submit(stage, 3)

    worker = Worker(cost_model=cost_model)
    worker._policy = policy
    async with worker:
        async with held(worker):
            tasks = [asyncio.create_task(one()) for one in (early, late)]
            await queued(worker, 2)
        await asyncio.gather(*tasks)
    assert [[0, 1], [2, 3]] == model.batches


async def test_a_session_thinks_only_while_nothing_of_it_waits() -> None:
    """One that also waits for a caption does not; one that ended does not either."""
    async with Worker() as worker:
        thinking = worker._policy.think_times
        worker.think()  # whoever is no session says nothing
        assert 0 == len(thinking)
        with worker.session():
            async with held(worker) as gate:
                task = asyncio.create_task(double(worker, 1))
                await queued(worker, 1)
                worker.think()
                assert 0 == len(thinking)
                gate.set()
                await task
            worker.think()
            worker.think()
            assert (1, 1) == (len(thinking), thinking.begun)
            await double(worker, 2)
            assert 0 == len(thinking)
            worker.think()
            assert 1 == len(thinking)
        assert 0 == len(thinking)


async def test_statistics_tell_stages_apart() -> None:
    """Every call of a stage counts, halves of a failed one too."""
    model = Model(failing=frozenset({1}))
    async with Worker() as worker:
        async with held(worker):
            tasks = [
                asyncio.create_task(worker.submit(model.stage(), n)) for n in range(2)
            ]
            await queued(worker, 2)
        await asyncio.gather(*tasks, return_exceptions=True)
        done = worker.statistics().stages["double"]
    assert (4, 3) == (done.items, done.batches)
    assert done.seconds > 0


async def test_what_calls_cost_is_kept_at_the_end(tmp_path: Path) -> None:
    """The next worker knows it from its first batch on."""
    path = tmp_path / "calibration.json"
    stage = Model().stage(model="tiny")
    cost_model = CostModel(path)
    async with Worker(cost_model=cost_model) as worker:
        for number in range(DEFAULT_TUNING.trusted_calls):
            await worker.submit(stage, number)
    assert 1 == len(CostModel(path)._records)


async def refined(
    worker: Worker, stages: Sequence[Stage[int, int]], rounds: int
) -> None:
    """Go through rounds as a refinement does, with models that take no time."""
    draw, caption, score = stages
    with worker.session():
        for number in range(rounds):
            await worker.submit(draw, number, key=(64, 64))
            await worker.submit(caption, number)
            await worker.submit(score, number)
            worker.think()
            await asyncio.sleep(0)


def instant() -> list[Stage[int, int]]:
    return [
        Stage(name=name, run=list, priority=priority)
        for name, priority in (("draw", 0), ("caption", 1), ("score", 1))
    ]


@pytest.mark.slow
async def test_500_sessions_cost_little() -> None:
    """A candidate costs the program itself at most 2 ms of a core; 0.1 is usual."""
    stages, rounds = instant(), 4
    async with Worker() as worker:
        start = time.process_time()
        await asyncio.gather(*(refined(worker, stages, rounds) for _ in range(500)))
        seconds = time.process_time() - start
    assert seconds / (500 * rounds) < 2e-3


@pytest.mark.slow
@pytest.mark.no_cover  # as many rounds as others run together
async def test_memory_does_not_grow() -> None:
    """After 10,000 rounds nothing is left of them but counts."""
    stages = instant()
    async with Worker() as worker:
        await asyncio.gather(*(refined(worker, stages, 10) for _ in range(50)))
        tracemalloc.start()
        try:
            for _ in range(20):
                await asyncio.gather(*(refined(worker, stages, 10) for _ in range(50)))
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        done = worker.statistics()
    assert 3 * 10_500 == done.items
    assert grown < 1_000_000
