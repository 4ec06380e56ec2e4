"""The rate limiter: requests go out in order, not too many at a time, and none too soon.

Invariants, over requests of any length and cancellations at any moment:

* Never more requests are on their way than there are places.
* In no minute more requests begin than the rate allows.
* Who comes first goes first, and everybody who stays gets a turn.
* Who is cancelled takes nothing away: neither a place nor time.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents import Refiner
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.usage import UsageMeter, using_meter
from socratic_agents.network.rate_limit import RateLimiter, _open
from tests.fakes import ScriptedChatModel
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import Sequence


class Clock:
    """Time that passes only in sleeps, each of which may end too early."""

    def __init__(self, *, short: float = 0.0) -> None:
        self.now, self.short = 100.0, short

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += max(seconds - self.short, 0.001)


class Requests:
    """Requests that take some steps of the event loop, and a note of what they saw."""

    def __init__(self, limiter: RateLimiter, clock: Clock) -> None:
        self.limiter, self.clock = limiter, clock
        self.begun: list[int] = []
        self.times: list[float] = []
        self.running = self.most = 0

    async def __call__(self, number: int, steps: int) -> None:
        async with self.limiter.turn():
            self.begun.append(number)
            self.times.append(self.clock.now)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                self.running -= 1


async def _play(
    requests: Requests, steps: Sequence[int], cancelled: Sequence[tuple[int, int]] = ()
) -> set[int]:
    """Send requests at once, cancel some after some steps, and return who was."""
    tasks = [
        asyncio.create_task(requests(number, count))
        for number, count in enumerate(steps)
    ]
    gone = set()
    for victim, later in cancelled:
        for _ in range(later):
            await asyncio.sleep(0)
        if tasks[victim % len(tasks)].cancel():
            gone.add(victim % len(tasks))
    await asyncio.gather(*tasks, return_exceptions=True)
    return gone


lengths = st.lists(st.integers(0, 4), min_size=1, max_size=20)
cancellations = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 6)), max_size=8)


@given(lengths, cancellations, st.integers(1, 5))
def test_places_are_kept_and_nobody_is_forgotten(
    steps: list[int], cancelled: list[tuple[int, int]], places: int
) -> None:
    """Whoever is cancelled whenever, the others get their turns in order."""

    async def play() -> None:
        clock = Clock()
        requests = Requests(RateLimiter(concurrency=places), clock)
        gone = await _play(requests, steps, cancelled)
        assert requests.most <= places
        assert sorted(requests.begun) == requests.begun
        assert set(range(len(steps))) - gone <= set(requests.begun)
        # All places are free again, no more and no less.
        requests.most = 0
        await _play(requests, [3] * (places + 1))
        assert places == requests.most

    asyncio.run(play())


@given(lengths, cancellations, st.integers(1, 9))
def test_fewer_places_are_kept_too(
    steps: list[int], cancelled: list[tuple[int, int]], places: int
) -> None:
    """After timeouts there are half as many places, whoever held them meanwhile."""

    async def play() -> None:
        clock = Clock()
        requests = Requests(RateLimiter(concurrency=places, clock=clock), clock)
        task = asyncio.create_task(_play(requests, steps, cancelled))
        await asyncio.sleep(0)
        sent = clock.now
        clock.now += 1
        for _ in range(3):  # sent together: they tell of one jam
            requests.limiter.timed_out(sent)
        await task
        fewer = max(1, places // 2)
        assert fewer == requests.limiter.concurrency
        requests.most = 0
        await _play(requests, [3] * (places + 1))
        assert fewer == requests.most

    asyncio.run(play())


@given(lengths, cancellations, st.sampled_from([1.0, 7.0, 60.0, 90.5]))
def test_no_minute_has_more_than_the_rate(
    steps: list[int], cancelled: list[tuple[int, int]], rate: float
) -> None:
    """Requests begin evenly spaced, and a cancelled one leaves no gap."""

    async def play() -> None:
        clock = Clock()
        limiter = RateLimiter(rate=rate, clock=clock, sleep=clock.sleep)
        requests = Requests(limiter, clock)
        await _play(requests, steps, cancelled)
        times = requests.times
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert sorted(requests.begun) == requests.begun
        assert gaps == pytest.approx([60 / rate] * len(gaps), abs=0.002)

    asyncio.run(play())


async def test_a_timer_that_is_early_is_no_excuse() -> None:
    """Timers have a resolution; who wakes too soon sleeps again."""
    clock = Clock(short=0.2)
    limiter = RateLimiter(rate=60, clock=clock, sleep=clock.sleep)
    requests = Requests(limiter, clock)
    await _play(requests, [0] * 4)
    assert requests.times == pytest.approx([100, 101, 102, 103], abs=0.002)


async def test_time_that_nobody_used_is_not_saved_up() -> None:
    """After a pause requests are spaced as before: there is no burst."""
    clock = Clock()
    requests = Requests(RateLimiter(rate=60, clock=clock, sleep=clock.sleep), clock)
    await requests(0, 0)
    clock.now += 600
    await _play(requests, [0, 0, 0])
    assert [100, 700, 701, 702] == pytest.approx(requests.times)


async def test_who_waits_is_told_how_long() -> None:
    """The turn says how much of the time was waiting."""
    clock = Clock()
    limiter = RateLimiter(rate=6, clock=clock, sleep=clock.sleep)
    for expected in (0.0, 10.0):
        async with limiter.turn() as waited:
            assert expected == pytest.approx(waited)


def test_threads_share_one_pace() -> None:
    """Event loops in other threads stand in the same line, and wake each other."""
    limiter, lock, running, most = RateLimiter(concurrency=2), threading.Lock(), 0, 0

    async def request() -> None:
        nonlocal running, most
        async with limiter.turn():
            with lock:
                running += 1
                most = max(most, running)
            await asyncio.sleep(0)
            with lock:
                running -= 1

    async def many() -> None:
        await asyncio.gather(*(request() for _ in range(100)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (0, 2) == (running, most)


def test_a_loop_that_ended_is_not_waited_for() -> None:
    """Who stood in line in a loop that is gone does not keep his place."""
    limiter = RateLimiter(concurrency=1)

    async def enter() -> None:
        async with limiter.turn():
            pass

    async def hold(others: asyncio.AbstractEventLoop) -> None:
        async with limiter.turn():
            waiting = others.create_task(enter())
            await asyncio.to_thread(others.run_until_complete, asyncio.sleep(0))
            others.close()
        # Its loop never ran again to hear that it may end.
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        await asyncio.wait_for(enter(), 5)

    asyncio.run(hold(asyncio.new_event_loop()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"concurrency": 0}, "expected a concurrency of at least 1, got 0"),
        ({"rate": 0.0}, "expected a rate above 0 requests a minute, got 0.0"),
        ({"rate": float("nan")}, "expected a rate above 0"),
    ],
)
def test_a_pace_at_which_nothing_moves_is_refused(
    wrong: dict[str, float], message: str
) -> None:
    """Numbers under which a request would wait for ever are errors."""
    with pytest.raises(ConfigurationError, match=message):
        RateLimiter(**wrong)  # type: ignore[arg-type]


class TestRetries:
    async def test_each_attempt_waits_its_turn(self) -> None:
        """A request that is sent again is a request: it counts against the rate."""
        clock, sent = Clock(), list[float]()

        async def request() -> str:
            sent.append(clock.now)
            if len(sent) < 3:
                raise ConnectionError
            return "there"

        async def no_wait(seconds: float) -> None:
            await asyncio.sleep(0)

        limiter = RateLimiter(rate=30, clock=clock, sleep=clock.sleep)
        retries = RetryPolicy(rate_limiter=limiter, sleep=no_wait)
        assert "there" == await retries(request)
        assert [100, 102, 104] == pytest.approx(sent)

    @pytest.mark.parametrize(("waited", "enough"), [(0.0, True), (100.0, False)])
    def test_waiting_in_line_is_no_part_of_the_patience(
        self, waited: float, enough: bool
    ) -> None:
        """A request that waited long for its turn is repeated like any other."""
        state: Any = SimpleNamespace(
            outcome=None,
            seconds_since_start=200.0,
            idle_for=0.0,
            upcoming_sleep=1.0,
            attempt_number=1,
        )
        assert enough == RetryPolicy()._enough(state, waited)

    async def test_a_wait_between_attempts_keeps_no_place(self) -> None:
        """Others are served while a failed request waits to be sent again."""
        limiter, order = RateLimiter(concurrency=1), list[str]()

        async def failing() -> None:
            order.append("fails")
            if order.count("fails") == 1:
                raise ConnectionError

        async def other() -> None:
            order.append("other")

        async def meanwhile(seconds: float) -> None:
            await RetryPolicy(rate_limiter=limiter)(other)

        await RetryPolicy(rate_limiter=limiter, sleep=meanwhile)(failing)
        assert ["fails", "other", "fails"] == order


class TestRefiner:
    async def test_all_roles_go_at_one_pace(self) -> None:
        """However many prompts are in flight, the provider sees so many requests."""
        running = most = 0

        class Watched(ScriptedChatModel):
            async def _agenerate(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
                nonlocal running, most
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)  # so that others come meanwhile
                running -= 1
                return self._generate(*args, **kwargs)  # type: ignore[arg-type]

        judged = {"reason": "", "missing": ["a hat"], "satisfied": False}
        llm = Watched(script=[judged] * 40)
        async with Refiner(
            **(FAKES | {"judge": "caption", "llm": llm, "in_flight": 20}),
            llm_concurrency=3,
        ) as refiner:
            prompts = [f"cat {number}" for number in range(20)]
            outcomes = [outcome async for outcome in refiner.refine_many(prompts)]
        assert 20 == len(outcomes)
        assert 3 == most
        assert [] == llm.script

    async def test_the_rate_is_the_settings(self) -> None:
        """A slow rate is what the refiner's requests wait for."""
        judged = {"reason": "", "missing": ["a hat"], "satisfied": False}
        llm = ScriptedChatModel(script=[judged] * 2)
        async with Refiner(
            **(FAKES | {"judge": "caption", "llm": llm}), llm_rate=600
        ) as refiner:
            outcome = await refiner.refine("a cat")
        assert 2 == outcome.usage.llm_calls
        assert outcome.usage.seconds >= 0.1

    async def test_a_cancelled_wait_costs_nothing(self) -> None:
        """Who leaves the line has sent nothing, and his meter shows it."""
        limiter, meter = RateLimiter(concurrency=1), UsageMeter()

        async def request() -> None:
            meter.add_call()

        async with limiter.turn():
            with using_meter(meter):
                waiting = asyncio.create_task(
                    RetryPolicy(rate_limiter=limiter)(request)
                )
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert 0 == meter.llm_calls
        await RetryPolicy(rate_limiter=limiter)(request)
        assert 1 == meter.llm_calls


async def test_a_turn_that_comes_too_late_opens_nothing() -> None:
    """Who waited for it was cancelled meanwhile, in another loop."""
    turn = asyncio.get_running_loop().create_future()
    turn.cancel()
    _open(turn)
    assert turn.cancelled()
