"""Benchmark runs over small models: every scheduler serves loops, and is checked.

* A scheduler that loses, doubles or mixes up items, or draws other images, ends the bench.
* The device belongs to one scheduler at a time, and one call at a time.
* Nobody waits for ever, and what is under way when a trial ends is let go.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.core.errors import BatchError
from socratic_agents.lab.bench.baselines import LockStep, Serial, TimedBatcher
from socratic_agents.lab.bench.device import costs as prices
from socratic_agents.lab.bench.device import run as device_run
from socratic_agents.lab.bench.device import trial as trial_module
from socratic_agents.lab.bench.device.costs import CostMeter
from socratic_agents.lab.bench.device.policy_scheduler import PolicyScheduler
from socratic_agents.lab.bench.device.recording_worker import RecordingWorker
from socratic_agents.lab.bench.device.run import BenchPlan, run_benchmark
from socratic_agents.lab.bench.device.schedulers import DEVICE_SCHEDULERS, SchedulerSpec
from socratic_agents.lab.bench.device.summary import trial_metrics
from socratic_agents.lab.bench.device.trial import LlmDelay, TrialSpec, run_trial
from socratic_agents.scheduler.stage import Stage
from tests.benches import Models, small_testbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.lab.bench.device.schedulers import Testbed

KEYS = {
    *("curve", "workload", "n", "llm_seconds", "contender", "efficiency"),
    *("efficiency_range", "ratio_to_sequential", "images_per_second", "busy", "fill"),
    *("loops_per_second", "loops_per_second_range", "latency_p50", "latency_p95"),
    *("event_loop_lag_p99", "cpu_ms_per_image", "total_cpu_ms_per_image", "repeats"),
    *("peak_memory_mb", "batching_limit", "thinking_seconds", "slow_range"),
}


def plan(**changes: Any) -> BenchPlan:
    facts: dict[str, Any] = {"loops": (1, 4), "llm_seconds": (0.004,), "seed": 3}
    facts |= {"repeats": 2, "seconds": 0.02}
    return BenchPlan(**facts | changes)


def quiet(_: str) -> None:
    pass


def serial() -> PolicyScheduler:
    return PolicyScheduler(Serial(loops=1))


async def trial_of(scheduler: Any, testbed: Testbed, *, loops: int = 3) -> Any:
    """Run a trial of a scheduler."""
    case = TrialSpec(llm_seconds=0.002, seed=3, seconds=0.02)
    return await run_trial(
        scheduler,
        testbed.recorder,
        testbed.loops,
        case,
        in_flight=loops,
        memory=testbed.memory,
    )


def test_everyone_serves_the_same_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result for each contender that is possible, and why another one is not."""
    monkeypatch.setattr(device_run, "WAITS", (0.001, 0.01))
    models, said = Models(), list[str]()
    results, facts = run_benchmark(small_testbed(models), plan(), report=said.append)
    names = [name for name in DEVICE_SCHEDULERS if name != "ours_step"]

    assert [(n, name) for n in (1, 4) for name in names] == [
        (one["n"], one["contender"]) for one in results
    ]
    for one in results:
        extra = {"wait"} if one["contender"] == "ray_tuned" else set()
        assert KEYS | extra == one.keys()
        assert one["efficiency"] > 0
        assert 0 < one["busy"] <= 1
        low, high = one["loops_per_second_range"]
        assert low <= one["loops_per_second"] <= high
        assert one["images_per_second"] > one["loops_per_second"]
        assert 0 < one["latency_p50"] <= one["latency_p95"]
        assert {"captioner", "generator", "scorer"} == one["fill"].keys()
        assert 2 == one["repeats"]
    assert "left out: ours_step: there are no steps" in said
    assert 1 == models.together
    assert facts["images"]["compared"] > 8
    assert 0 == facts["images"]["differing"]
    assert facts["batching_limit"] >= 1
    calls = {one["stage"]: one for one in facts["calls"]}
    assert {"generator", "captioner", "scorer"} == calls.keys()
    assert ["1", "2", "4", "8", "16"] == list(calls["generator"]["seconds"])
    assert 4 == calls["generator"]["items"]


def test_loops_one_after_the_other_are_measured_once() -> None:
    """Since nothing changes for them with how many could be in flight."""
    some = plan(contenders=("lock",), loops=(2, 3), repeats=1)
    results, _ = run_benchmark(small_testbed(), some, report=quiet)
    alone = [one for one in results if one["contender"] == "sequential"]
    assert [2, 3] == [one["n"] for one in alone]
    assert alone[0]["loops_per_second"] == alone[1]["loops_per_second"]
    assert all(1 == one["ratio_to_sequential"] for one in alone)


def test_users_get_their_shares_told() -> None:
    """Of the device's seconds, where there are several users."""
    testbed = small_testbed(users=("greedy", "greedy", "modest"))
    some = plan(contenders=("ours",), loops=(6,), repeats=1)
    ours = run_benchmark(testbed, some, report=quiet)[0][-1]
    assert {"greedy", "modest"} == ours["user_shares"].keys()
    assert 1 == pytest.approx(sum(ours["user_shares"].values()), abs=1e-3)


def test_a_graph_is_left_out_where_a_round_is_more_than_an_image() -> None:
    """A language model that is asked is not measured for each median of a wait."""
    said = list[str]()
    testbed = small_testbed(plain=False, speaks=True, rounds=2)
    some = plan(contenders=("langgraph", "ours"), loops=(2,), repeats=1)
    results, _ = run_benchmark(testbed, some, report=said.append)
    assert ["sequential", "ours"] == [one["contender"] for one in results]
    assert [0.0, 0.0] == [one["llm_seconds"] for one in results]
    assert any(line.startswith("left out: langgraph") for line in said)


def test_a_testbed_is_closed_whatever_happens() -> None:
    """Those who opened something are told that it is over."""
    closed = list[str]()

    async def close() -> None:
        closed.append("closed")

    testbed = small_testbed(Models(shade=9), closers=(close,))
    with pytest.raises(BatchError, match="up to rounding, got one that differs by 9"):
        run_benchmark(testbed, plan(loops=(4,), contenders=("lockstep",)), report=quiet)
    assert ["closed"] == closed


class Wrong(PolicyScheduler):
    """Answers wrongly, in a way of its own."""

    def __init__(self, wrong: str) -> None:
        super().__init__(Serial(loops=3))
        self.wrong = wrong
        self.last: Any = None

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Any = None
    ) -> Any:
        answer = await super().submit(stage, item, key=key)
        if self.wrong == "crossed":
            answer, self.last = self.last or answer, answer
        elif self.wrong == "doubled":
            await super().submit(stage, item, key=key)
        elif self.wrong == "failed":
            raise BatchError("no")
        return answer


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("crossed", "expected the output of stage '[a-z]*' for an item"),
        ("doubled", "0 lost and [1-9][0-9]* doubled"),
        ("failed", "^no$"),
    ],
)
async def test_a_wrong_contender_ends_the_bench(wrong: str, message: str) -> None:
    """Whoever it is that gets a wrong answer."""
    with pytest.raises(BatchError, match=message):
        await trial_of(Wrong(wrong), small_testbed())


async def test_a_lost_item_is_found() -> None:
    """One that is neither answered nor let go is no longer waited for, but counted."""
    testbed = small_testbed()
    log = (await trial_of(serial(), testbed)).log
    log.check()
    log.waiting["scorer"] += 1
    with pytest.raises(BatchError, match="got 1 lost and 0 doubled"):
        log.check()


async def test_who_never_serves_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A contender that is stuck ends the bench, too."""
    monkeypatch.setattr(trial_module, "STUCK", 0.05)
    with pytest.raises(BatchError, match="did not get through in"):
        await trial_of(PolicyScheduler(TimedBatcher(loops=3, wait=60)), small_testbed())


async def test_a_failed_candidate_ends_the_bench() -> None:
    """A failure is no figure."""
    good = small_testbed()

    def broken(pace: LlmDelay) -> Any:
        agents = good.loops.agents(pace)

        async def assess(prompt: str, candidate: Any) -> Any:
            return {"score": float("nan")}

        return replace(agents, assess=assess)

    testbed = replace(good, loops=replace(good.loops, agents=broken))
    with pytest.raises(BatchError, match="expected every candidate of a bench"):
        await trial_of(serial(), testbed)


@pytest.mark.parametrize(
    ("open_policy", "largest"),
    [
        (lambda: Serial(loops=5), 1),
        (lambda: LockStep(loops=5), 4),
        (lambda: TimedBatcher(loops=5, wait=0.005), 4),
    ],
    ids=["serial", "lock step", "timed"],
)
async def test_each_baseline_forms_its_batches(
    open_policy: Callable[[], Any], largest: int
) -> None:
    """One item, all that are in flight up to the largest call, or what came in time."""
    models = Models()
    testbed = small_testbed(models)
    trial = await trial_of(PolicyScheduler(open_policy()), testbed, loops=5)
    assert largest == max(models.sizes["generator"])
    assert largest == max(len(call.users) for call in trial.log.calls)
    assert 1 == models.together
    assert trial.window.images % trial.window.step == 0


async def test_a_failing_batch_fails_for_all_of_it() -> None:
    """A baseline hands on what a stage raises, and what it returns too little."""

    def fail(_: list[int]) -> list[int]:
        raise ValueError("no")

    for name, run, expected in (
        ("raises", fail, ValueError),
        ("short", lambda _: [], BatchError),
    ):
        stage: Stage[int, int] = Stage(name=name, run=run, max_batch=2)
        async with PolicyScheduler(TimedBatcher(loops=2, wait=10)) as scheduler:
            asked = [scheduler.submit(stage, item) for item in (1, 2)]
            got = await asyncio.gather(*asked, return_exceptions=True)
        assert [expected, expected] == [type(one) for one in got]


async def test_a_recording_worker_leads_nowhere_between_trials() -> None:
    """And hands on an output that is an error, and a list that is too short."""
    recorder = RecordingWorker()
    bad: Stage[int, Any] = Stage(
        name="bad", run=lambda items: [KeyError("x")] * len(items)
    )
    with pytest.raises(BatchError, match="expected a scheduler under test"):
        await recorder.submit(bad, 1)
    async with serial() as scheduler:
        recorder.start(scheduler)
        with recorder.session(user="one"):
            recorder.think()
            with pytest.raises(KeyError):
                await recorder.submit(bad, 1)
            short: Stage[int, Any] = Stage(name="short", run=lambda _: [])
            with pytest.raises(BatchError, match="expected 1 outputs of stage 'short'"):
                await recorder.submit(short, 1)
    recorder.caps = {"generator": 5}
    assert (5, 5, 0) == tuple(
        recorder.largest_measured(name, None)
        for name in ("generator", "denoiser", "scorer")
    )


async def test_drawings_step_by_step_count_when_they_are_done() -> None:
    """The device's calls do not tell whose drawings they were."""
    testbed = small_testbed()
    meter = CostMeter(await device_run._lone(testbed, plan()), loops=1)
    meter.measure()
    trial = await trial_of(serial(), testbed)
    whole = trial_metrics(trial, meter.costs(), rounds=4)
    trial.log.calls[:] = [
        replace(call, stage="denoiser") if call.stage == "generator" else call
        for call in trial.log.calls
    ]
    stepwise = trial_metrics(trial, meter.costs(), rounds=4)
    assert {"captioner", "scorer"} == stepwise.fill.keys()
    assert whole.images_per_second == pytest.approx(stepwise.images_per_second, rel=0.2)


async def test_a_turn_is_held_against_the_pace_of_its_time() -> None:
    """A scheduler whose trial came while the machine was slow has done as well as the others."""
    testbed = small_testbed()
    meter = CostMeter(await device_run._lone(testbed, plan()), loops=1)
    meter.measure()
    trial, costs = await trial_of(serial(), testbed), meter.costs()
    usual = trial_metrics(trial, costs, rounds=4)
    slow = trial_metrics(replace(trial, pace=2.0), costs, rounds=4, usual=1.0)
    assert (1.0, 2.0) == (usual.slow, slow.slow)
    assert usual.loops_per_second == slow.loops_per_second
    assert usual.rate(costs, loops=1) == pytest.approx(usual.loops_per_second)
    # With many loops the device alone decides.
    assert slow.rate(costs, loops=4000) == pytest.approx(2 * slow.loops_per_second)
    assert 0 < meter.pace() == meter.usual


def test_a_steady_device_has_one_pace() -> None:
    """Calls of one item, that others may slow down, are not held against it."""
    some = plan(contenders=("ours",), loops=(2,), repeats=1)
    results, _ = run_benchmark(small_testbed(steady=True), some, report=quiet)
    assert all([1.0, 1.0] == one["slow_range"] for one in results)


async def test_calls_that_last_too_long_are_not_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Larger ones would cost minutes, and tell nothing new."""
    monkeypatch.setattr(prices, "LONGEST", 0.0)
    meter = CostMeter(await device_run._lone(small_testbed(), plan()), loops=1)
    meter.measure(2, warm=True)
    measured = meter.costs().stages.values()
    assert measured
    assert all([1] == list(cost.seconds) for cost in measured)


def test_entries_know_what_they_are() -> None:
    """Every contender can be opened, whatever calls cost."""
    testbed = small_testbed()
    costs = CostMeter(asyncio.run(device_run._lone(testbed, plan())), loops=1)
    costs.measure()
    for name, spec in DEVICE_SCHEDULERS.items():
        assert isinstance(spec, SchedulerSpec), name
        assert hasattr(spec.open(costs.costs(), 2), "submit")
