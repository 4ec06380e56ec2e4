"""The batching policy, the group wait and think times, without threads or a clock.

* Every item comes out exactly once, unless nobody wants it any more.
* A batch has one stage and one key, and never more items than the cap.
* The oldest session goes first; users and keys take turns by what they cost.
* Captions go before images, unless full batches of images wait: then they accumulate.
* A device is left idle only while sessions think, nothing else waits, and not for long.
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.scheduler.cost_curve import CostCurve
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch, WaitUntil
from socratic_agents.scheduler.queues import QueueItem
from socratic_agents.scheduler.think_time import ThinkTimes
from socratic_agents.scheduler.tuning import DEFAULT_TUNING

if TYPE_CHECKING:
    from collections.abc import Hashable

STEEP = CostCurve(tuple(1.0 + 0.05 * items for items in range(1, 9)))
"""A call costs much, an item little: batches pay."""
CAPTIONS = CostCurve(tuple(0.2 + 0.01 * items for items in range(1, 33)))
FLAT = CostCurve((1.0, 2.0, 3.0, 4.0))
"""An item costs the same in every batch."""

seconds = st.floats(0.01, 100.0)
curves = st.lists(seconds, min_size=1, max_size=12).map(lambda s: CostCurve(tuple(s)))


@dataclass
class Device:
    """A policy, and what it decided."""

    policy: BatchPolicy[int] = field(default_factory=BatchPolicy)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    stages: dict[QueueItem[int], tuple[str, Hashable]] = field(default_factory=dict)
    taken: list[QueueItem[int]] = field(default_factory=list)

    def add(
        self,
        count: int = 1,
        *,
        stage: str = "images",
        key: Hashable = None,
        session: int | None = None,
        user: Hashable = None,
        **options: Any,
    ) -> list[QueueItem[int]]:
        items = []
        for number in itertools.islice(self.numbers, count):
            item = QueueItem(
                number, number, number if session is None else session, user
            )
            self.stages[item] = stage, key
            self.policy.add(item, stage=stage, key=key, **options)
            items.append(item)
        return items

    def images(self, count: int = 1, **options: Any) -> list[QueueItem[int]]:
        return self.add(count, **{"curve": STEEP, "max_batch": 8, **options})

    def captions(self, count: int = 1, **options: Any) -> list[QueueItem[int]]:
        usual = {"stage": "captions", "priority": 1, "curve": CAPTIONS, "max_batch": 32}
        return self.add(count, **{**usual, **options})

    def run(self, now: float = 0.0) -> RunBatch[int]:
        """Return the batch that is run, however long the device was idle before."""
        decision = self.policy.decide(now)
        if isinstance(decision, WaitUntil):
            decision = self.policy.decide(decision.time)
        assert isinstance(decision, RunBatch)
        self.taken += decision.items
        return decision

    def drain(self, now: float = 0.0) -> list[RunBatch[int]]:
        """Run all that waits."""
        runs = []
        while len(self.policy):
            runs.append(self.run(now))
        assert self.policy.decide(now) is None
        return runs

    def think(self, sessions: int, *, took: float, now: float) -> None:
        """Let sessions begin to think, who took so long until now."""
        for session in range(-sessions, 0):
            self.policy.think_times.begin(session, now=now - took)
            self.policy.think_times.end(session, now=now)
            self.policy.think_times.begin(session, now=now)


# Cost curves


@given(curve=curves, items=st.integers(0, 40))
def test_a_curve_tells_what_many_items_cost(curve: CostCurve, items: int) -> None:
    """What does not fit into a call is done in several."""
    most, left, total = len(curve.seconds), items, 0.0
    while left:
        size = min(left, most)
        total += curve.seconds[size - 1]
        left -= size
    assert curve.predict(items) == pytest.approx(total)


@given(curve=curves)
def test_batches_are_large_enough_within_a_few_percent(curve: CostCurve) -> None:
    """The smallest batch that is nearly as good as the best one is enough."""
    each = [s / items for items, s in enumerate(curve.seconds, 1)]
    assert min(each) == curve.item_seconds
    for size, factor in ((curve.good_size, 1.03), (curve.best_size, 1.005)):
        assert each[size - 1] <= factor * curve.item_seconds * (1 + 1e-9)
        assert all(
            one > factor * curve.item_seconds * (1 - 1e-9) for one in each[: size - 1]
        )
    assert 1 <= curve.good_size <= curve.best_size


# Think times


@given(curves, st.integers(1, 20))
def test_no_smaller_call_is_much_better(curve: CostCurve, items: int) -> None:
    """Of some items so many go at once that each takes the least time."""
    size = curve.batch_size(items)
    assert 1 <= size <= items
    each = curve.seconds[size - 1] / size
    for other in range(1, min(items, len(curve.seconds)) + 1):
        assert each <= curve.seconds[other - 1] / other * 1.0051


def test_copies_are_not_paid_for_where_fewer_items_need_none() -> None:
    """Of nine items eight go at once, where nine would be filled up to sixteen."""
    filled = [8.0 if items <= 8 else 15.0 for items in range(1, 17)]
    curve = CostCurve(tuple(filled))
    assert [1, 7, 8, 8, 15, 16] == [curve.batch_size(n) for n in (1, 7, 9, 12, 15, 16)]
    policy = BatchPolicy[int]()
    for number in range(9):
        item = QueueItem(number, number, number)
        policy.add(item, stage="images", max_batch=16, curve=curve)
    run = policy.decide(0.0)
    assert isinstance(run, RunBatch)
    assert 8 == len(run.items)


def test_as_many_sessions_are_admitted_as_keep_the_device_busy() -> None:
    """Those that think while the others are served, and three batches of these."""
    policy = BatchPolicy[int]()
    assert policy.admission_limit() is None
    images, captions = CostCurve((1.0, 1.6, 2.0, 2.4)), CostCurve((0.1, 0.15))
    for session in range(4):
        for stage, curve, priority in (("i", images, 0), ("c", captions, 1)):
            item = QueueItem(session, session, session)
            policy.add(item, stage=stage, curve=curve, max_batch=4, priority=priority)
    assert policy.admission_limit() is None
    while isinstance(policy.decide(0.0), RunBatch):
        pass
    assert policy.admission_limit() is None
    for session in range(4):
        policy.think_times.begin(session, now=0.0)
        policy.think_times.end(session, now=6.75)
    # 0.6 s of an image and 0.075 s of its caption: ten sessions think meanwhile.
    assert 3 * 4 + 10 == policy.admission_limit()


def test_thinking_is_counted_once_for_each_session() -> None:
    """Beginning twice changes nothing, and an end without a beginning neither."""
    thinking = ThinkTimes(DEFAULT_TUNING)
    assert 0.0 == thinking.longest(3)
    thinking.begin("a", now=1.0)
    thinking.begin("a", now=2.0)
    thinking.end("b", now=3.0)
    assert (1, 1) == (len(thinking), thinking.begun)
    thinking.end("a", now=4.0)
    assert 0 == len(thinking)
    assert 3.0 == thinking.longest(1)


@given(
    lasted=st.lists(seconds, min_size=1, max_size=3 * DEFAULT_TUNING.think_times_kept)
)
def test_only_what_happened_lately_tells_how_long_thinking_takes(
    lasted: list[float],
) -> None:
    """The longest of very many thoughts takes as long as the longest of late."""
    thinking = ThinkTimes(DEFAULT_TUNING)
    for session, one in enumerate(lasted):
        thinking.begin(session, now=0.0)
        thinking.end(session, now=one)
    assert max(lasted[-DEFAULT_TUNING.think_times_kept :]) == thinking.longest(10**6)
    assert thinking.longest(1) <= thinking.longest(3) <= thinking.longest(9)
    assert thinking.longest(0) == min(lasted[-DEFAULT_TUNING.think_times_kept :])


@given(
    lasted=st.lists(seconds, min_size=1, max_size=20),
    since=st.lists(
        st.floats(0.0, 50.0), max_size=2 * DEFAULT_TUNING.sessions_predicted
    ),
    limit=st.integers(0, 50),
)
def test_returns_are_told_in_order(
    lasted: list[float], since: list[float], limit: int
) -> None:
    """The soonest is first, none is in the past, and nobody is counted twice."""
    thinking = ThinkTimes(DEFAULT_TUNING)
    for session, one in enumerate(lasted):
        thinking.begin(session, now=0.0)
        thinking.end(session, now=one)
    for session, one in enumerate(since):
        thinking.begin(session, now=one)
    returns = thinking.returns(limit, now=50.0)
    assert sorted(returns) == returns
    assert all(0 < one <= max(lasted) for one in returns)
    assert len(returns) <= min(limit, len(since), DEFAULT_TUNING.sessions_predicted)


def test_who_thinks_longer_than_ever_is_not_counted_on() -> None:
    """Nobody knows when he will be back."""
    thinking = ThinkTimes(DEFAULT_TUNING)
    thinking.begin("a", now=0.0)
    thinking.end("a", now=2.0)
    thinking.begin("b", now=10.0)
    assert [0.5] == thinking.returns(9, now=11.5)
    assert [] == thinking.returns(9, now=12.0)


# What comes out

actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from(["images", "captions"]),
            st.integers(0, 2),  # key
            st.integers(0, 5),  # session
            st.sampled_from("xyz"),  # user
        ),
        st.tuples(st.just("discard"), st.integers(0, 60)),
        st.tuples(st.just("decide"), st.floats(0.0, 2.0)),
        st.tuples(st.just("think"), st.integers(0, 5)),
        st.tuples(st.just("back"), st.integers(0, 5)),
    ),
    max_size=80,
)


@given(actions=actions, max_batch=st.integers(1, 10), curve=st.none() | curves)
def test_every_item_comes_out_exactly_once(
    actions: list[tuple[Any, ...]], max_batch: int, curve: CostCurve | None
) -> None:
    """Whatever comes, goes and thinks: nothing is lost, doubled or mixed up."""
    device, now = Device(), 0.0
    items: list[QueueItem[int]] = []
    unwanted: set[QueueItem[int]] = set()
    idle: WaitUntil | None = None
    for what, *values in actions:
        if what == "add":
            stage, key, session, user = values
            items += device.add(
                stage=stage,
                key=key,
                session=session,
                user=user,
                priority=int(stage == "captions"),
                max_batch=max_batch,
                curve=curve,
            )
        elif what == "discard" and values[0] < len(items):
            item = items[values[0]]
            stage, key = device.stages[item]
            if item not in device.taken:
                unwanted.add(item)
            device.policy.discard(item, stage=stage, key=key)
        elif what == "decide":
            now += values[0]
            decision = device.policy.decide(now)
            waiting = set(items) - set(device.taken) - unwanted
            assert (decision is None) == (not waiting)
            if isinstance(decision, RunBatch):
                device.taken += decision.items
                queue = decision.queue
                assert 1 <= len(decision.items) <= max_batch
                assert {(queue.stage, queue.key)} == {
                    device.stages[item] for item in decision.items
                }
                assert waiting.issuperset(decision.items)
                idle = None
            elif decision:
                assert curve is not None
                assert now < decision.time <= now + curve.predict(max_batch) / 2
                # Once begun, a wait is not made longer.
                assert idle is None or decision.time <= idle.time
                idle = decision
        elif what == "think":
            device.policy.think_times.begin(values[0], now=now)
        elif what == "back":
            device.policy.think_times.end(values[0], now=now)
        left = len(items) - len(device.taken) - len(unwanted)
        assert left == len(device.policy)
    device.drain(now)
    assert len(set(device.taken)) == len(device.taken)
    assert set(items) - unwanted == set(device.taken)


@given(counts=st.lists(st.integers(1, 9), max_size=4))
def test_all_can_be_taken_out_at_once(counts: list[int]) -> None:
    """Closing answers everyone, and what was discarded is not answered again."""
    device = Device()
    items = [
        item
        for key, count in enumerate(counts)
        for item in device.images(count, key=key)
    ]
    for item in items[::3]:
        device.policy.discard(item, stage="images", key=device.stages[item][1])
    left = {item for place, item in enumerate(items) if place % 3}
    assert left == set(device.policy.clear())
    assert 0 == len(device.policy)
    assert device.policy.decide(0.0) is None
    for item in items:  # a late discard does no harm
        device.policy.discard(item, stage="images", key=device.stages[item][1])
    assert 0 == len(device.policy)


@given(count=st.integers(1, 40), max_batch=st.integers(1, 10))
def test_nobody_waits_where_costs_are_unknown(count: int, max_batch: int) -> None:
    """Without a curve batches are as large as they may be, and run at once."""
    device = Device()
    device.think(9, took=0.001, now=0.0)
    device.add(count, max_batch=max_batch)
    sizes = [len(run.items) for run in device.drain()]
    assert [max_batch] * (count // max_batch) + [count % max_batch] * (
        count % max_batch > 0
    ) == sizes


def test_batches_end_where_more_gain_nothing() -> None:
    """Where an item costs the same in every batch, each goes alone."""
    device = Device()
    device.add(3, curve=FLAT, max_batch=4)
    assert [1, 1, 1] == [len(run.items) for run in device.drain()]


# Who goes first


@given(sessions=st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_the_oldest_session_goes_first(sessions: list[int]) -> None:
    """Within a session the first item does."""
    device = Device()
    for session in sessions:
        device.images(session=session)
    device.drain()
    ages = [(item.session, item.number) for item in device.taken]
    assert sorted(ages) == ages


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    curve=st.none() | st.just(STEEP),
)
def test_users_take_turns(counts: list[int], curve: CostCurve | None) -> None:
    """Whoever has items waiting gets as many served as anyone else, within one."""
    device = Device()
    for user, count in enumerate(counts):
        device.add(count, user=user, curve=curve, max_batch=7)
    served = [0] * len(counts)
    while len(device.policy):
        for item in device.run().items:
            assert isinstance(item.user, int)
            served[item.user] += 1
        full = [n for n, most in zip(served, counts, strict=True) if n < most]
        if full:
            # Batches of unlike sizes cost unlike amounts an item.
            assert max(served) - min(full) <= (1 if curve is None else 3)


def test_who_comes_late_has_no_claim_to_the_past() -> None:
    """A newcomer shares from now on, and does not catch up."""
    device = Device()
    device.images(80, user="old")
    for _ in range(5):
        device.run()
    device.images(40, user="new")
    for _ in range(4):
        users = [item.user for item in device.run().items]
        assert 3 <= users.count("new") <= 5


def test_who_lets_all_go_has_no_claim_either() -> None:
    """Items that nobody wants any more keep no place."""
    device = Device()
    (gone,) = device.images(user="new")
    device.images(80, user="old")
    device.policy.discard(gone, stage="images")
    for _ in range(5):
        device.run()
    device.images(40, user="new")
    assert 3 <= [item.user for item in device.run().items].count("new") <= 5


def test_users_are_forgotten() -> None:
    """A service for years remembers a bounded number, and those who wait for sure."""
    device = Device()
    device.images(9, user="patient", key="other")
    for user in range(3 * DEFAULT_TUNING.remembered_users):
        device.images(user=user)
    while len(device.policy):
        device.run()
        waiting = {item.user for item in device.stages if not item.taken}
        assert waiting <= device.policy._user_seconds.keys()
    assert len(device.policy._user_seconds) <= DEFAULT_TUNING.remembered_users


@given(
    dear=st.integers(1, 5),
    counts=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_keys_take_turns_by_what_they_cost(dear: int, counts: tuple[int, int]) -> None:
    """Two keys get as many seconds each while both have items waiting."""
    device = Device()
    costs = {
        "cheap": STEEP,
        "dear": CostCurve(tuple(dear * second for second in STEEP.seconds)),
    }
    for (key, curve), count in zip(costs.items(), counts, strict=True):
        device.images(count, key=key, curve=curve)
    got = dict.fromkeys(costs, 0.0)
    while len(device.policy._queues) == 2:
        run = device.run()
        key = str(run.queue.key)
        got[key] += costs[key].predict(len(run.items))
        most = max(curve.predict(8) for curve in costs.values())
        assert (
            abs(got["cheap"] - got["dear"]) <= most + DEFAULT_TUNING.key_slack_seconds
        )
    device.drain()


def test_captions_go_first() -> None:
    """They set sessions free to think, as long as few images wait."""
    device = Device()
    device.images(15)
    device.captions(1)
    assert ["captions", "images", "images"] == [r.queue.stage for r in device.drain()]


def test_captions_pile_up_while_full_batches_of_images_wait() -> None:
    """Then images go first, until there are captions enough for a good batch."""
    device = Device()
    device.images(64)
    device.captions(1)
    order = []
    while len(device.policy):
        run = device.run()
        order.append((str(run.queue.stage), len(run.items)))
        if run.queue.stage == "images" and len(order) < 5:
            device.captions(8)
    assert [("images", 8)] * 4 == order[:4]
    assert ("captions", 32) in order[4:6]


def test_captions_are_not_passed_over_for_ever() -> None:
    """Even where no other captions come, they wait for a few batches only."""
    device = Device()
    device.images(400)
    device.captions(1)
    order = [run.queue.stage for run in device.drain()]
    assert order.index("captions") <= CAPTIONS.good_size // STEEP.best_size + 2


def test_captions_that_dominate_pile_up_sooner() -> None:
    """Where captions are most of the work, one full batch of images goes first."""
    quick = CostCurve(tuple(second / 20 for second in STEEP.seconds))
    for curve, first in ((STEEP, "captions"), (quick, "images")):
        device = Device()
        device.images(8, curve=curve)
        device.captions(1)
        assert first == device.run().queue.stage


# Waiting


def test_an_idle_device_waits_for_sessions_that_are_nearly_back() -> None:
    """Half a group is worth waiting for the other half, and then runs whole."""
    device = Device()
    device.think(4, took=0.2, now=0.0)
    device.images(4)
    decision = device.policy.decide(0.1)
    assert isinstance(decision, WaitUntil)
    assert pytest.approx(0.1 + STEEP.predict(8) / 2) == decision.time
    for session in range(-4, 0):
        device.policy.think_times.end(session, now=0.2)
    device.images(4)
    assert 8 == len(device.run(0.2).items)


@given(
    here=st.integers(1, 7),
    away=st.integers(1, 9),
    asks=st.lists(st.tuples(st.floats(0, 0.3), st.booleans()), max_size=9),
)
def test_a_wait_comes_to_an_end(
    here: int, away: int, asks: list[tuple[float, bool]]
) -> None:
    """Whoever comes meanwhile, the device is idle for half a large batch at most."""
    device, now = Device(), 0.1
    device.think(away, took=0.2, now=0.0)
    device.images(here)
    decision = device.policy.decide(now)
    for later, comes in asks:
        if not isinstance(decision, WaitUntil):
            break
        assert now < decision.time <= 0.1 + STEEP.predict(8) / 2
        now += later
        if comes:
            device.images()
        decision = device.policy.decide(now)
    if isinstance(decision, WaitUntil):
        decision = device.policy.decide(decision.time)
    assert isinstance(decision, RunBatch)
    assert len(decision.items) == min(len(device.stages), 8)


@pytest.mark.parametrize(
    ("sessions", "took", "now", "why"),
    [
        (0, 0.2, 0.1, "nobody thinks"),
        (4, 0.5, 0.0, "they are back too late"),
        (4, 0.2, 0.3, "they think longer than anyone did before"),
        (4, 60.0, 59.9, "so long that they do not travel in groups"),
    ],
)
def test_an_idle_device_does_not_wait_in_vain(
    sessions: int, took: float, now: float, why: str
) -> None:
    """What cannot pay is not tried."""
    device = Device()
    device.think(sessions, took=took, now=0.0)
    device.images(4)
    assert isinstance(device.policy.decide(now), RunBatch), why


def test_a_device_with_other_work_is_not_left_idle() -> None:
    """Neither another key nor another stage waits for sessions that think."""
    for other in ({"key": "other"}, {"stage": "captions", "priority": 1}):
        device = Device()
        device.think(4, took=0.2, now=0.0)
        device.images(4)
        device.images(1, **other)
        assert isinstance(device.policy.decide(0.1), RunBatch)


def test_captions_wait_for_nobody() -> None:
    """Loops that think come back for images."""
    device = Device()
    device.images(1)
    device.run()
    device.think(4, took=0.2, now=0.0)
    device.captions(4)
    assert isinstance(device.policy.decide(0.1), RunBatch)


def test_nobody_waits_where_sessions_come_back_with_another_key() -> None:
    """After a change of keys, a while is let pass."""
    device = Device()
    for key in ("a", "b"):
        device.images(8, key=key)
        device.run()
    device.think(4, took=0.2, now=0.0)
    device.images(4, key="b")
    assert isinstance(device.policy.decide(0.1), RunBatch)


def waits(device: Device, now: float, *, back: int) -> bool:
    """Return whether the device waits for four sessions, of which so many come back."""
    device.policy.think_times = ThinkTimes(DEFAULT_TUNING)
    device.policy._group_wait._think_times = device.policy.think_times
    device.think(4, took=0.2, now=now)
    device.images(4)
    decision = device.policy.decide(now + 0.1)
    if isinstance(decision, WaitUntil):
        for session in range(-back, 0):
            device.policy.think_times.end(session, now=now + 0.2)
        device.images(back)
        device.drain(now + 0.2)
    return isinstance(decision, WaitUntil)


def test_waits_in_vain_are_given_up_for_a_while() -> None:
    """After a few of them, some chances are let pass; then it is tried again."""
    device = Device()
    times = range(
        0,
        10 * (DEFAULT_TUNING.group_wait_failures + DEFAULT_TUNING.group_wait_pause + 1),
        10,
    )
    waited = [waits(device, float(now), back=0) for now in times]
    assert [
        *[True] * DEFAULT_TUNING.group_wait_failures,
        *[False] * DEFAULT_TUNING.group_wait_pause,
        True,
    ] == waited


def test_a_wait_that_pays_makes_good_for_others() -> None:
    """Only if none of them pays are they given up."""
    device = Device()
    for now in range(0, 1000, 10):
        assert waits(
            device,
            float(now),
            back=4 * (now // 10 % DEFAULT_TUNING.group_wait_failures == 0),
        )


def test_a_group_may_leave_some_to_the_next_one() -> None:
    """Where two calls of four cost less than one of five and one of three."""
    stairs = CostCurve((1.0, 1.0, 1.0, 1.0, 1.9, 1.9, 1.9, 1.9))
    device = Device()
    device.think(3, took=0.2, now=0.0)
    device.images(5, curve=stairs)
    decision = device.policy.decide(0.1)
    assert isinstance(decision, RunBatch)
    assert 4 == len(decision.items)


def test_a_session_may_bring_several_items() -> None:
    """Who draws four images a round is worth as much as four sessions that draw one."""
    device = Device()
    device.images(8)
    device.run()
    device.think(1, took=0.2, now=0.0)  # two thoughts for eight images
    device.images(4)
    assert isinstance(device.policy.decide(0.1), WaitUntil)


# What it costs


@pytest.mark.parametrize(
    ("users", "keys"), [(1, 1), (25, 4), (100, 1)], ids=["one", "mixed", "crowd"]
)
def test_a_decision_is_quick(users: int, keys: int) -> None:
    """With 500 items waiting it takes well under a millisecond of the processor."""
    chance, taken = random.Random(7), []
    for _ in range(5):
        device = Device()
        device.think(200, took=5.0, now=0.0)
        for number in range(500):
            add = chance.choice([device.images, device.captions])
            add(user=number % users, key=number % keys)
        for _ in range(10):
            start = time.thread_time()
            decision = device.policy.decide(4.0)
            taken.append(time.thread_time() - start)
            assert decision is not None
    # Whatever else the machine does, and a coverage's tracing, only adds to it.
    assert min(taken) < 1e-3
