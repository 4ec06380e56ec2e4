"""Contests: all contenders over the same models, in one process, in turns.

They have their turns in the order A B C … C B A, so that a machine that grows slower or
faster meanwhile favours none of them; what calls cost is measured between the turns, and
each turn is held against the pace that the machine had right before and after it.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.bench.device.baselines import EarlySealing, OneByOne
from socratic_agents.lab.bench.device.costs import CostMeter
from socratic_agents.lab.bench.device.langgraph_loop import GraphLoop
from socratic_agents.lab.bench.device.schedulers import ENTRIES, Bed, Entry, Ways
from socratic_agents.lab.bench.device.summary import figures, result
from socratic_agents.lab.bench.device.trial import (
    Case,
    Pace,
    Turn,
    have_turn,
    library_loop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL.Image import Image

    from socratic_agents.lab.bench.device.instrumentation import Log

__all__ = ("Plan", "contest")

SEQUENTIAL, TUNED = "sequential", "ray_tuned"
WAITS = (0.01, 0.1, 0.5)
"""Seconds that batches of ``ray_tuned`` stay open, of which the best is taken."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    loops: Sequence[int]
    """Numbers of loops in flight."""
    llm_seconds: Sequence[float]
    """Medians of a call of the language model."""
    seed: int
    repeats: int
    """Turns of each contender, at least 1."""
    seconds: float
    """What a turn lasts at least."""
    contenders: Sequence[str] = tuple(ENTRIES)
    """Which of ``ENTRIES``; ``sequential`` always takes part."""


def contest(
    bed: Bed, plan: Plan, *, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a result for every setting and contender, and what all have in common.

    Args:
        bed: What they work with; closed at the end.
        plan: What is measured.
        say: Told how far it is.

    Raises:
        BatchError: If a contender lost, doubled or mixed up anything, or drew other
            images than the others.
    """
    return asyncio.run(_contest(bed, plan, say))


async def _contest(
    bed: Bed, plan: Plan, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    ways = Ways()
    try:
        log = await _lone(bed, plan)
        meter = CostMeter(log, loops=bed.kinds, steady=bed.steady)
        await asyncio.to_thread(meter.measure, plan.repeats, warm=True)
        bed.port.caps = meter.costs().caps
        say("calls measured; the contenders have their turns")
        ways = bed.others(log)
        arena = _Arena(bed, ways, _entries(bed, ways, plan.contenders, say), meter, say)
        # A language model that is asked takes as long as it takes.
        medians = [0.0] if bed.speaks else plan.llm_seconds
        fields = list[_Field]()
        for median, group in itertools.groupby(
            itertools.product(medians, plan.loops), key=lambda pair: pair[0]
        ):
            sequential: list[Turn] = []  # the same however many could be in flight
            for _, loops in group:
                case = _case(bed, plan, median)
                fields.append(await arena.play(case, loops, plan.repeats, sequential))
                sequential = fields[-1].turns[SEQUENTIAL]
    finally:
        for close in (*bed.closers, *ways.closers):
            await close()
    costs = meter.costs()
    facts = {
        "batching_limit": round(costs.batching_limit, 3),
        "calls": costs.to_json(),
        "images": bed.sameness.to_json(),
    }
    return [one for field in fields for one in field.results(bed, meter)], facts


def _entries(
    bed: Bed, ways: Ways, names: Sequence[str], say: Callable[[str], None]
) -> dict[str, Entry]:
    """Return who takes part; the sequential loops are what others are held against."""
    entries = dict[str, Entry]()
    for name, entry in ENTRIES.items():
        if name not in {SEQUENTIAL, *names}:
            continue
        why = None
        if entry.way not in {"request", *ways.loops}:
            why = ways.lacks.get(entry.way, "this workload has no such way")
        elif entry.graph and not bed.plain:
            why = "its nodes draw one image a round and know no checklist"
        if why is None:
            entries[name] = entry
        else:
            say(f"left out: {name}: {why}")
    return entries


def _case(bed: Bed, plan: Plan, median: float) -> Case:
    return Case(
        llm_seconds=median, seed=plan.seed, seconds=plan.seconds, rounds=bed.rounds
    )


async def _lone(bed: Bed, plan: Plan) -> Log:
    """Let lone loops run, one of each kind, and return the log of them."""
    case, loops = _case(bed, plan, 0.0), bed.loops
    async with OneByOne() as rival:
        log = bed.port.turn(rival)
        for number in range(bed.kinds):
            agents = loops.agents(Pace(case, number, case.window(loops=1)))
            prompt = loops.prompts[number % len(loops.prompts)]
            await library_loop(
                agents, prompt, seed=case.seed + number, rounds=case.rounds
            )
    return log


@dataclass(frozen=True)
class _Field:
    """All turns with so many loops in flight."""

    case: Case
    loops: int
    turns: Mapping[str, list[Turn]]
    wait: float
    """Of ``ray_tuned``."""

    def results(self, bed: Bed, meter: CostMeter) -> list[dict[str, Any]]:
        """Return a result for each contender, by what calls cost in the whole run."""
        costs, rounds = meter.costs(), self.case.rounds
        found = {
            name: [
                figures(turn, costs, rounds=rounds, usual=meter.usual) for turn in turns
            ]
            for name, turns in self.turns.items()
        }
        return [
            {
                "curve": bed.name,
                "workload": bed.name,
                "n": self.loops,
                "llm_seconds": self.case.llm_seconds,
                "contender": name,
                **result(
                    seen,
                    found[SEQUENTIAL],
                    costs,
                    loops=self.loops,
                    rounds=rounds,
                    alone=ENTRIES[name].alone,
                ),
                **({"wait": self.wait} if name == TUNED else {}),
            }
            for name, seen in found.items()
        ]


@dataclass(frozen=True)
class _Arena:
    """Where contenders have their turns."""

    bed: Bed
    ways: Ways
    entries: Mapping[str, Entry]
    meter: CostMeter
    say: Callable[[str], None]

    async def play(
        self, case: Case, loops: int, repeats: int, sequential: list[Turn]
    ) -> _Field:
        """Let all contenders have their turns, over and over."""
        wait = await self._best_wait(case, loops) if TUNED in self.entries else 0.0
        turns: dict[str, list[Turn]] = {name: [] for name in self.entries}
        names = list(self.entries)
        if sequential:
            turns[SEQUENTIAL] = sequential
            names.remove(SEQUENTIAL)
        for repeat in range(repeats):
            before = await asyncio.to_thread(self.meter.pace)
            for name in names if repeat % 2 == 0 else names[::-1]:
                turn = await self._turn(name, case, loops, wait)
                after = await asyncio.to_thread(self.meter.pace)
                turns[name].append(replace(turn, pace=(before + after) / 2))
                before = after
            if not self.bed.steady:
                await asyncio.to_thread(self.meter.measure)
            self.say(f"{loops} in flight: turn {repeat + 1} of {repeats} is over")
        return _Field(case, loops, turns, wait)

    async def _best_wait(self, case: Case, loops: int) -> float:
        """Return how long batches that a timer closes had best stay open."""
        if loops == 1:
            return min(WAITS)  # a lone loop waits for nobody
        costs, rates = self.meter.costs(), dict[float, float]()
        for wait in WAITS:
            seen = await self._turn(TUNED, case, loops, wait)
            found = figures(seen, costs, rounds=case.rounds)
            rates[wait] = found.loops_per_second
        return max(rates, key=rates.__getitem__)

    async def _turn(self, name: str, case: Case, loops: int, wait: float) -> Turn:
        entry, sameness = self.entries[name], self.bed.sameness
        if name == TUNED:
            rival: Any = EarlySealing(wait=wait)
        else:
            rival = entry.open(self.meter.costs(), loops)
        seen: list[tuple[str, int, Image]] = []
        turn = await have_turn(
            rival,
            self.bed.port,
            self.ways.loops.get(entry.way, self.bed.loops),
            case,
            in_flight=1 if entry.alone else loops,
            memory=self.bed.memory,
            body=GraphLoop() if entry.graph else library_loop,
            saw=lambda *drawn: seen.append(drawn),
        )
        for drawn in seen:  # not before: it would hold up the loops
            sameness.see(name, entry.rule, *drawn)
        return turn
