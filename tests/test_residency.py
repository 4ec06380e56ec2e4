"""Residency: models that do not fit together take turns on the device.

Invariants, each a property test over random models, work and sizes, in virtual time:

* There is never more on the device than fits.
* Every item is served, whatever must be moved for it.
* For work that waits, models are moved at most as often as without a thought for it.
* Where moving costs nothing, batches come in the order in which they always came.
* Nobody is passed over for longer than the documented limit.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents import Refinement, Refiner, Settings
from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.models import placement
from socratic_agents.models.placement import free_bytes, resident_of
from socratic_agents.runtime.devices.residents import Residents
from socratic_agents.scheduler.cost_curve import CostCurve
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch, WaitUntil
from socratic_agents.scheduler.queues import QueueItem
from socratic_agents.scheduler.residency import GB, Residency, Resident
from socratic_agents.scheduler.stage import Stage
from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEEDLESS = replace(DEFAULT_TUNING, swap_patience=0.0)
"""Batches come as if moving cost nothing."""
CURVE = CostCurve(tuple(0.5 + 0.25 * items for items in range(1, 9)))


@dataclass
class Card:
    """A device in virtual time, whose models take so many GB and seconds to move."""

    capacity: int
    sizes: dict[str, int]
    swap: float = 2.0
    tuning: SchedulerTuning = DEFAULT_TUNING
    now: float = 0.0
    here: set[str] = field(default_factory=set)
    served: list[tuple[str, int, float]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.residency = Residency(
            self.capacity * GB, clock=lambda: self.now, tuning=self.tuning
        )
        seconds: Callable[[Any], float] = self.residency.seconds
        self.policy = BatchPolicy[int](self.tuning, swap_seconds=seconds)
        for name, size in self.sizes.items():
            self.residency.make_room(size * GB)
            self.here.add(name)
            moves = {
                "load": partial(self.load, name),
                "unload": partial(self.drop, name),
            }
            self.residency.add(Resident(name=name, size=size * GB, **moves))
        # Nothing of what opening moved counts.
        self.residency.swaps, self.now = 0, 0.0

    def load(self, name: str) -> None:
        self.here.add(name)
        self.now += self.swap
        assert sum(self.sizes[one] for one in self.here) <= self.capacity
        assert self.here == self.residency.here | {name}

    def drop(self, name: str) -> None:
        self.here.remove(name)

    def add(self, stage: str, *, session: int = 0, priority: int = 0) -> None:
        number = next(self.numbers)
        item = QueueItem(number, number, session)
        self.policy.add(item, stage=stage, priority=priority, max_batch=8, curve=CURVE)

    def run(self) -> bool:
        """Run one batch; false if nothing waits, or the device may wait for more."""
        decision = self.policy.decide(self.now)
        if not isinstance(decision, RunBatch):
            if isinstance(decision, WaitUntil):
                self.now = decision.time
            return decision is not None
        stage = str(decision.queue.stage)
        self.residency.bring(stage, wanted=set(map(str, self.policy.waiting())))
        assert stage in self.here
        self.now += CURVE.predict(len(decision.items))
        self.served += [(stage, item.payload, self.now) for item in decision.items]
        return True

    def drain(self) -> list[tuple[str, int]]:
        while self.run():
            pass
        return [(stage, number) for stage, number, _ in self.served]


names = st.sampled_from("abcd")
cards = st.fixed_dictionaries(
    {
        "capacity": st.integers(10, 24),
        "sizes": st.dictionaries(names, st.integers(1, 10), min_size=2, max_size=4),
    }
)
work = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2)),
    min_size=1,
    max_size=60,
)


def loaded(card: Card, jobs: Sequence[tuple[int, int, int]]) -> Card:
    """Return a card in front of which jobs wait."""
    models = sorted(card.sizes)
    for model, session, _ in jobs:
        stage = models[model % len(models)]
        card.add(stage, session=session, priority=ord(stage) % 2)
    return card


@given(cards, work, st.floats(0.0, 5.0))
def test_all_is_served_and_never_more_is_there_than_fits(
    facts: dict[str, Any], jobs: list[tuple[int, int, int]], swap: float
) -> None:
    """Whatever comes, in whatever order (the card itself looks at what is there)."""
    card = loaded(Card(**facts, swap=swap), jobs)
    assert sorted(number for _, number in card.drain()) == list(range(len(jobs)))
    assert card.here == card.residency.here


@given(cards, work)
def test_models_are_moved_no_more_often_than_without_a_thought(
    facts: dict[str, Any], jobs: list[tuple[int, int, int]]
) -> None:
    """What waits is drained while its model is there."""
    heedful = loaded(Card(**facts), jobs)
    heedless = loaded(Card(**facts, tuning=HEEDLESS), jobs)
    heedful.drain()
    heedless.drain()
    assert heedful.residency.swaps <= heedless.residency.swaps


@given(cards, work)
def test_where_moving_is_free_the_order_is_as_ever(
    facts: dict[str, Any], jobs: list[tuple[int, int, int]]
) -> None:
    """As it is where everything fits, and was before there was a residency."""
    quick = replace(DEFAULT_TUNING, swap_rate=10**6)
    free = loaded(Card(**facts, swap=0.0, tuning=quick), jobs)
    everything = loaded(Card(**facts | {"capacity": 1000}), jobs)
    order = everything.drain()
    assert 0 == everything.residency.swaps
    assert order == free.drain()


@given(st.floats(0.1, 5.0), st.floats(0.0, 30.0), st.integers(1, 20))
def test_nobody_waits_for_ever(swap: float, patience: float, others: int) -> None:
    """A steady stream of work for what is there is interrupted after so many swaps."""
    tuning = replace(DEFAULT_TUNING, swap_patience=patience)
    card = Card(10, {"a": 8, "b": 8}, swap=swap, tuning=tuning)
    card.residency.bring("a")
    card.residency.bring("b")  # so that what it takes is measured
    card.now = 0.0
    card.add("a")  # of the oldest session, so that it would always be its turn
    longest = CURVE.predict(8)
    while "a" not in {stage for stage, *_ in card.served}:
        for _ in range(others):
            card.add("b", session=1)
        assert card.run()
        assert card.now <= patience * swap + longest + swap + CURVE.predict(1) + 1e-6


@dataclass
class Loops(Card):
    """A device with sessions that draw, look, and think, several times each."""

    owners: dict[int, int] = field(default_factory=dict)
    """The session of each item."""

    def add(self, stage: str, *, session: int = 0, priority: int = 0) -> None:
        self.owners[len(self.owners)] = session
        super().add(stage, session=session, priority=priority)

    def refine(self, sessions: int, *, times: int, think: float) -> None:
        coming = [(0.0, session) for session in range(sessions)]
        left, told = dict.fromkeys(range(sessions), times), 0
        while coming or len(self.policy):
            while coming and coming[0][0] <= self.now:
                self.add("generator", session=heapq.heappop(coming)[1])
            if not self.run():
                self.now = coming[0][0]
            for stage, number, at in self.served[told:]:
                session = self.owners[number]
                if stage == "generator":
                    self.add("captioner", session=session, priority=1)
                elif left[session] > 1:
                    left[session] -= 1
                    heapq.heappush(coming, (at + think, session))
            told = len(self.served)


def test_prompts_in_flight_share_each_swap() -> None:
    """All images of many prompts, then all captions: a swap is for all of them."""
    sizes = {"generator": 8, "captioner": 8}
    heedful, heedless = Loops(10, sizes), Loops(10, sizes, tuning=HEEDLESS)
    for card in (heedful, heedless):
        card.refine(32, times=4, think=1.0)
    assert 32 * 4 * 2 == len(heedful.served) == len(heedless.served)
    # Once for the images and once for the captions of each round, and a few more.
    assert heedful.residency.swaps <= 12
    assert heedful.residency.swaps < heedless.residency.swaps / 2
    assert heedful.now < heedless.now


# The book that is kept


def test_what_nobody_waits_for_makes_room_first() -> None:
    """Then what was not used for longest; no more goes than has to."""
    card = Card(10, {"a": 3, "b": 3, "c": 3, "d": 3})
    assert {"b", "c", "d"} == card.here
    card.residency.bring("b")
    card.residency.bring("a", wanted={"c"})
    assert {"a", "b", "c"} == card.here
    card.residency.bring("d")
    assert {"a", "b", "d"} == card.here
    assert 2 == card.residency.swaps
    assert 4.0 == card.residency.swap_seconds


def test_a_swap_is_reckoned_until_it_was_measured() -> None:
    """From its size at the documented rate; who is there, or unknown, costs nothing."""
    card = Card(10, {"a": 5, "b": 10}, swap=3.0)
    assert 1.0 == card.residency.seconds("a")
    assert 0.0 == card.residency.seconds("b") == card.residency.seconds(None)
    assert 0.0 == card.residency.seconds("nobody")
    card.residency.bring("a")
    card.residency.bring("b")
    assert 3.0 == card.residency.seconds("a")
    card.residency.bring("nobody")
    assert {"b"} == card.here


def test_a_model_of_unknown_size_is_opened_alone() -> None:
    """What lies there makes room for whatever it turns out to be."""
    card = Card(10, {"a": 3, "b": 3})
    card.residency.make_room(None)
    assert set() == card.here
    Residency().make_room(None)  # where there is room for everything, nothing happens


def test_where_all_fits_everything_is_brought_and_nothing_leaves() -> None:
    """However large it is."""
    moved = list[str]()
    residency = Residency()
    for name in "ab":
        residency.add(
            Resident(
                name=name,
                size=999 * GB,
                load=partial(moved.append, f"load {name}"),
                unload=partial(moved.append, f"unload {name}"),
            )
        )
    residency.bring("a")
    residency.bring("b")
    assert {"a", "b"} == residency.here
    assert [] == moved


def test_what_fits_together_is_all_there_once_it_was_opened() -> None:
    """Though each made room for the next; nothing is moved from then on."""
    card = Card(10, {"a": 3, "b": 7})
    card.residency.make_room(None)
    card.residency.settle()
    assert {"a", "b"} == card.here == card.residency.here
    assert 0 == card.residency.swaps
    tight = Card(9, {"a": 3, "b": 7})
    tight.residency.settle()
    assert {"b"} == tight.here


def test_what_can_never_fit_is_refused() -> None:
    """Alone, or beside what cannot be moved."""
    residency = Residency(10 * GB)
    residency.add(Resident(name="offloaded", size=4 * GB))
    with pytest.raises(ConfigurationError, match="captioner of 7 GB beside 4 GB that"):
        residency.add(Resident(name="captioner", size=7 * GB, unload=lambda: None))
    residency.add(Resident(name="scorer", size=6 * GB, unload=lambda: None))
    residency.make_room(None)
    assert {"offloaded"} == residency.here


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


def test_a_device_that_is_fuller_than_was_reckoned_is_emptied() -> None:
    """A load that runs out of memory is tried once more, with nothing else there."""
    log: list[str] = []

    def load() -> None:
        log.append("load")
        if log.count("load") == 1:
            raise OutOfMemoryError

    def unload(name: str) -> None:
        log.append(name)
        if name == "half":
            raise RuntimeError(name)

    residency = Residency(10 * GB)
    residency.add(
        Resident(name="late", size=9 * GB, load=load, unload=partial(unload, "half"))
    )
    with pytest.raises(RuntimeError, match="half"):
        residency.add(
            Resident(name="early", size=2 * GB, unload=partial(unload, "early"))
        )
    log.clear()
    residency = Residency(10 * GB)
    for name, size in (("early", 1), ("late", 9)):
        part = partial(unload, name)
        residency.add(Resident(name=name, size=size * GB, load=load, unload=part))
    residency.make_room(10 * GB)
    log.clear()
    residency.add(Resident(name="early", size=GB, unload=partial(unload, "early")))
    residency.bring("late")
    assert ["load", "late", "early", "load"] == log
    assert {"late"} == residency.here


# The worker


def _stage(name: str, log: list[str], **options: Any) -> Stage[int, int]:
    def run(items: list[int]) -> list[int]:
        log.append(f"{name} runs")
        return items

    return Stage(name=name, run=run, holds=name, **options)


async def test_the_worker_brings_what_a_batch_runs_on() -> None:
    """In its own thread, and its statistics say how often."""
    log: list[str] = []
    residency = Residency(10 * GB)
    async with Worker(residency=residency) as worker:
        for name in ("generator", "captioner"):
            moves = {
                "load": partial(log.append, f"{name} comes"),
                "unload": partial(log.append, f"{name} goes"),
            }
            residency.add(Resident(name=name, size=8 * GB, **moves))
        for name in ("captioner", "generator"):
            assert 7 == await worker.submit(_stage(name, log), 7)
        told = worker.statistics()
    assert log == [
        *("generator goes", "captioner runs", "captioner goes"),
        *("generator comes", "generator runs"),
    ]
    assert 1 == told.swaps
    assert told.swap_seconds >= 0.0


async def test_who_needs_a_model_that_cannot_be_brought_is_told() -> None:
    """The others run on."""
    log: list[str] = []

    def broken() -> None:
        raise OSError("the disk is gone")

    residency = Residency(10 * GB)
    async with Worker(residency=residency) as worker:
        residency.add(
            Resident(name="generator", size=8 * GB, load=broken, unload=lambda: None)
        )
        residency.add(Resident(name="captioner", size=8 * GB, unload=lambda: None))
        with pytest.raises(OSError, match="the disk is gone"):
            await worker.submit(_stage("generator", log), 7)
        plain: Stage[int, int] = Stage(name="plain", run=lambda items: items)
        assert 8 == await worker.submit(plain, 8)
    assert [] == log


# The models


def _network(numbers: int) -> torch.nn.Module:
    return torch.nn.Linear(numbers, 1, bias=False)


class Eye:
    """As a captioner holds its network, and something else."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.again, self.words = network, network, ["a"]


def test_a_models_weights_are_found_wherever_it_holds_them() -> None:
    """Each is counted once; on a CPU there is nothing to save, unless it is asked for."""
    network = _network(25)
    network.register_buffer("mask", torch.zeros(5, dtype=torch.float64))
    pipeline = SimpleNamespace(
        components={"unet": network, "vae": None, "tokenizer": 7}
    )
    for model in (network, Eye(network), SimpleNamespace(pipeline=pipeline)):
        resident = resident_of("it", model, on_cpu=True)
        assert resident is not None
        assert 25 * 4 + 5 * 8 == resident.size
        assert resident_of("it", model) is None
        assert free_bytes(model) is None


def test_weights_leave_and_come_back() -> None:
    """To where they were; what a library moves by itself stays there."""
    network = _network(4)
    before = network.weight.clone()
    resident = resident_of("it", network, on_cpu=True)
    assert resident is not None
    assert resident.unload is not None
    resident.unload()
    resident.load()
    assert torch.equal(before, network.weight)
    network.hf_device_map = {"": "cpu"}
    fixed = resident_of("it", network, on_cpu=True)
    assert fixed is not None
    assert fixed.unload is None


def test_the_memory_that_is_left_is_that_of_its_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model lies there with its first tensor."""
    network = _network(4)
    monkeypatch.setattr(placement, "_device", lambda _: torch.device("cuda", 1))
    left = {torch.device("cuda", 1): (7, 9)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", left.__getitem__)
    assert 7 == free_bytes(network)


@pytest.mark.parametrize(("device", "emptied"), [("cuda", 1), ("mps", 1), ("cpu", 0)])
def test_an_allocator_gives_back_what_weights_leave(
    device: str, emptied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody else could have their memory."""
    calls = list[str]()
    monkeypatch.setattr(placement, "empty_caches", lambda: calls.append(device))
    network = _network(4)
    placement._leave([network], torch.device(device))
    assert emptied == len(calls)
    assert "cpu" == network.weight.device.type


def test_without_torch_there_are_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a model in Python holds."""
    monkeypatch.delitem(sys.modules, "torch")
    assert resident_of("it", SimpleNamespace(pipeline=7), on_cpu=True) is None


async def test_a_refiner_lets_its_models_take_turns() -> None:
    """The same images, captions and scores as where everything fits."""
    prompts = ["a crimson ball above an azure box", "a tiny emerald ring"]
    found = []
    for memory in (None, 0.0185):
        async with Refiner(seed=7, rounds=2, device_memory=memory) as refiner:
            outcomes = [one async for one in refiner.refine_many(prompts)]
            told = refiner.statistics()
        assert told is not None
        assert (told.swaps > 0) is (memory is not None)
        found.append(
            {
                one.user_prompt: one.rounds
                for one in outcomes
                if isinstance(one, Refinement)
            }
        )
    plain, turns = (
        {
            prompt: [
                (c.prompt, c.caption, dict(c.scores))
                for r in rounds
                for c in r.candidates
            ]
            for prompt, rounds in one.items()
        }
        for one in found
    )
    assert plain == turns
    assert 2 == len(plain)


async def test_a_model_that_is_too_large_is_refused_when_it_is_opened() -> None:
    """In one line that says what helps."""
    with pytest.raises(ConfigurationError, match=r"got generator of 0\.0181 GB; take"):
        await Refiner(device_memory=0.01).agents()


async def test_a_card_that_is_full_makes_room_and_opens_again() -> None:
    """Where nobody said how much there is, what is in the way is found out by trying."""
    async with Worker() as worker:
        residents = Residents(Settings(), worker)
        with pytest.raises(OutOfMemoryError):
            residents.open("generator", partial(_failing, [OutOfMemoryError()]))
        worker.residency.capacity = 10
        residents.note("generator", _network(4))  # on a CPU: nothing to note
        worker.residency.add(Resident(name="it", size=8, unload=lambda: None))
        problem = LoadError("it cannot be opened")
        problem.__cause__ = OutOfMemoryError()
        assert 7 == residents.open("captioner", partial(_failing, [problem]))
        assert set() == worker.residency.here
        with pytest.raises(LoadError, match="no such file"):
            residents.open("captioner", partial(_failing, [LoadError("no such file")]))


def _failing(problems: list[Exception]) -> int:
    if problems:
        raise problems.pop()
    return 7


def test_what_is_there_fits_where_nobody_said_how_much_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that was opened beyond what was reckoned is not refused."""
    module = "socratic_agents.runtime.devices.residents"
    free: list[int | None] = [100, None]
    monkeypatch.setattr(f"{module}.free_bytes", lambda _: free.pop())
    monkeypatch.setattr(
        f"{module}.resident_of",
        lambda name, size, **_: Resident(name=name, size=size, unload=lambda: None),
    )
    worker = Worker()
    residents = Residents(Settings(), worker)
    residents.note("generator", 20)  # on no card
    assert worker.residency.capacity is None
    residents.note("generator", 20)
    assert 102 == worker.residency.capacity
    residents.note("captioner", 110)
    assert 110 == worker.residency.capacity
    assert {"captioner"} == worker.residency.here
