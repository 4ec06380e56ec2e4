"""Benchmark runs: all schedulers over the same models, in one process, one by one.

Their trials are in the order A B C … C B A, so that a machine that grows slower or
faster meanwhile favours none of them; what calls cost is measured between the trials,
and each trial is compared with the machine's pace right before and after it.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.bench.baselines import Serial, TimedBatcher
from socratic_agents.lab.bench.device.costs import CostMeter
from socratic_agents.lab.bench.device.langgraph_loop import LangGraphLoop
from socratic_agents.lab.bench.device.policy_scheduler import PolicyScheduler
from socratic_agents.lab.bench.device.schedulers import (
    DEVICE_SCHEDULERS,
    SchedulerSpec,
    Testbed,
    Variants,
)
from socratic_agents.lab.bench.device.summary import result, trial_metrics
from socratic_agents.lab.bench.device.trial import (
    BenchTrial,
    LlmDelay,
    TrialSpec,
    library_loop,
    run_trial,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL.Image import Image

    from socratic_agents.lab.bench.device.instrumentation import CallLog

__all__ = ("BenchPlan", "run_benchmark")

SEQUENTIAL, TUNED = "sequential", "ray_tuned"
WAITS = (0.01, 0.1, 0.5)
"""Seconds that batches of ``ray_tuned`` stay open, of which the best is taken."""


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What is measured."""

    loops: Sequence[int]
    """Numbers of loops in flight."""
    llm_seconds: Sequence[float]
    """Medians of a call of the language model."""
    seed: int
    repeats: int
    """Trials of each scheduler, at least 1."""
    seconds: float
    """What a trial lasts at least."""
    contenders: Sequence[str] = tuple(DEVICE_SCHEDULERS)
    """Which of ``DEVICE_SCHEDULERS``; ``sequential`` always takes part."""


def run_benchmark(
    testbed: Testbed, plan: BenchPlan, *, report: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a result for every setting and scheduler, and what all have in common.

    Args:
        testbed: What they work with; closed at the end.
        plan: What is measured.
        report: Told how far it is.

    Raises:
        BatchError: If a scheduler lost, doubled or mixed up anything, or drew other
            images than the others.
    """
    return asyncio.run(_contest(testbed, plan, report))


async def _contest(
    testbed: Testbed, plan: BenchPlan, report: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    variants = Variants()
    try:
        log = await _lone(testbed, plan)
        meter = CostMeter(log, loops=testbed.kinds, steady=testbed.steady)
        await asyncio.to_thread(meter.measure, plan.repeats, warm=True)
        testbed.recorder.caps = meter.costs().caps
        report("calls measured; now the trials")
        variants = testbed.others(log)
        runner = _Runner(
            testbed,
            variants,
            _entries(testbed, variants, plan.contenders, report),
            meter,
            report,
        )
        # A language model that is asked takes as long as it takes.
        medians = [0.0] if testbed.speaks else plan.llm_seconds
        all_trials = list[_Trials]()
        for median, group in itertools.groupby(
            itertools.product(medians, plan.loops), key=lambda pair: pair[0]
        ):
            sequential: list[
                BenchTrial
            ] = []  # the same however many could be in flight
            for _, loops in group:
                case = _case(testbed, plan, median)
                all_trials.append(
                    await runner.run(case, loops, plan.repeats, sequential)
                )
                sequential = all_trials[-1].trials[SEQUENTIAL]
    finally:
        for close in (*testbed.closers, *variants.closers):
            await close()
    costs = meter.costs()
    facts = {
        "batching_limit": round(costs.batching_limit, 3),
        "calls": costs.to_json(),
        "images": testbed.determinism.to_json(),
    }
    return [
        one for trials_ in all_trials for one in trials_.results(testbed, meter)
    ], facts


def _entries(
    testbed: Testbed,
    variants: Variants,
    names: Sequence[str],
    report: Callable[[str], None],
) -> dict[str, SchedulerSpec]:
    """Return who takes part; the sequential loops are what others are compared with."""
    specs = dict[str, SchedulerSpec]()
    for name, spec in DEVICE_SCHEDULERS.items():
        if name not in {SEQUENTIAL, *names}:
            continue
        why = None
        if spec.variant not in {"request", *variants.loops}:
            why = variants.lacks.get(spec.variant, "this workload has no such variant")
        elif spec.graph and not testbed.plain:
            why = "its nodes draw one image a round and know no checklist"
        if why is None:
            specs[name] = spec
        else:
            report(f"left out: {name}: {why}")
    return specs


def _case(testbed: Testbed, plan: BenchPlan, median: float) -> TrialSpec:
    return TrialSpec(
        llm_seconds=median, seed=plan.seed, seconds=plan.seconds, rounds=testbed.rounds
    )


async def _lone(testbed: Testbed, plan: BenchPlan) -> CallLog:
    """Let lone loops run, one of each kind, and return the log of them."""
    case, loops = _case(testbed, plan, 0.0), testbed.loops
    async with PolicyScheduler(Serial(loops=1)) as scheduler:
        log = testbed.recorder.start(scheduler)
        for number in range(testbed.kinds):
            agents = loops.agents(LlmDelay(case, number, case.window(loops=1)))
            prompt = loops.prompts[number % len(loops.prompts)]
            await library_loop(
                agents, prompt, seed=case.seed + number, rounds=case.rounds
            )
    return log


@dataclass(frozen=True)
class _Trials:
    """All trials with so many loops in flight."""

    case: TrialSpec
    loops: int
    trials: Mapping[str, list[BenchTrial]]
    wait: float
    """Of ``ray_tuned``."""

    def results(self, testbed: Testbed, meter: CostMeter) -> list[dict[str, Any]]:
        """Return a result for each scheduler, by what calls cost in the whole run."""
        costs, rounds = meter.costs(), self.case.rounds
        found = {
            name: [
                trial_metrics(trial, costs, rounds=rounds, usual=meter.usual)
                for trial in trials
            ]
            for name, trials in self.trials.items()
        }
        return [
            {
                "curve": testbed.name,
                "workload": testbed.name,
                "n": self.loops,
                "llm_seconds": self.case.llm_seconds,
                "contender": name,
                **result(
                    seen,
                    found[SEQUENTIAL],
                    costs,
                    loops=self.loops,
                    rounds=rounds,
                    alone=DEVICE_SCHEDULERS[name].alone,
                ),
                **({"wait": self.wait} if name == TUNED else {}),
            }
            for name, seen in found.items()
        ]


@dataclass(frozen=True)
class _Runner:
    """Runs the trials of all schedulers."""

    testbed: Testbed
    variants: Variants
    specs: Mapping[str, SchedulerSpec]
    meter: CostMeter
    report: Callable[[str], None]

    async def run(
        self, case: TrialSpec, loops: int, repeats: int, sequential: list[BenchTrial]
    ) -> _Trials:
        """Run the trials of all schedulers, over and over."""
        wait = await self._best_wait(case, loops) if TUNED in self.specs else 0.0
        trials: dict[str, list[BenchTrial]] = {name: [] for name in self.specs}
        names = list(self.specs)
        if sequential:
            trials[SEQUENTIAL] = sequential
            names.remove(SEQUENTIAL)
        for repeat in range(repeats):
            before = await asyncio.to_thread(self.meter.pace)
            for name in names if repeat % 2 == 0 else names[::-1]:
                trial = await self._trial(name, case, loops, wait)
                after = await asyncio.to_thread(self.meter.pace)
                trials[name].append(replace(trial, pace=(before + after) / 2))
                before = after
            if not self.testbed.steady:
                await asyncio.to_thread(self.meter.measure)
            self.report(f"{loops} in flight: trial {repeat + 1} of {repeats} is over")
        return _Trials(case, loops, trials, wait)

    async def _best_wait(self, case: TrialSpec, loops: int) -> float:
        """Return how long batches that a timer closes had best stay open."""
        if loops == 1:
            return min(WAITS)  # a lone loop waits for nobody
        costs, rates = self.meter.costs(), dict[float, float]()
        for wait in WAITS:
            seen = await self._trial(TUNED, case, loops, wait)
            found = trial_metrics(seen, costs, rounds=case.rounds)
            rates[wait] = found.loops_per_second
        return max(rates, key=rates.__getitem__)

    async def _trial(
        self, name: str, case: TrialSpec, loops: int, wait: float
    ) -> BenchTrial:
        spec, determinism = self.specs[name], self.testbed.determinism
        if name == TUNED:
            timed = TimedBatcher(loops=loops, wait=wait)
            scheduler: Any = PolicyScheduler(timed)
        else:
            scheduler = spec.open(self.meter.costs(), loops)
        seen: list[tuple[str, int, Image]] = []
        trial = await run_trial(
            scheduler,
            self.testbed.recorder,
            self.variants.loops.get(spec.variant, self.testbed.loops),
            case,
            in_flight=1 if spec.alone else loops,
            memory=self.testbed.memory,
            body=LangGraphLoop() if spec.graph else library_loop,
            on_image=lambda *drawn: seen.append(drawn),
        )
        for drawn in seen:  # not before: it would hold up the loops
            determinism.see(name, spec.rule, *drawn)
        return trial
