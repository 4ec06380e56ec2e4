"""The simulated bench: schedulers beside each other, in virtual time.

It takes seconds, needs no device and no models, and is exactly repeatable. What the
worker's own scheduler decides is decided by the worker's own code.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.bench.baselines import TimedBatcher
from socratic_agents.lab.bench.simulated.model_costs import MODELS
from socratic_agents.lab.bench.simulated.schedulers import (
    SIMULATED_SCHEDULERS,
    Baseline,
)
from socratic_agents.lab.bench.simulated.simulator import (
    ROUNDS,
    Scenario,
    SimulationResult,
    Simulator,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from socratic_agents.lab.bench.simulated.model_costs import ModelCosts
    from socratic_agents.lab.bench.simulated.schedulers import SimulatedScheduler

__all__ = ("bound", "measure", "simulate")

LOOPS = (1, 4, 8, 16, 32, 64, 128)
"""Loops in flight."""
NAMES = tuple(models.name for models in MODELS)
WAITS = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds that batches of ``ray_tuned`` stay open, of which the best is taken."""


def measure(
    models: ModelCosts,
    open_scheduler: Callable[..., SimulatedScheduler],
    case: Scenario,
    *,
    loops: int,
) -> SimulationResult:
    """Let a scheduler serve loops, and check that each gets what it came for.

    Args:
        models: What calls cost.
        open_scheduler: Makes the scheduler for these models and so many loops.
        case: What is to be done.
        loops: In flight, at least 1.

    Raises:
        BatchError: If an item was lost, doubled or mixed up.
    """
    return Simulator(models, open_scheduler(models, loops=loops), case).run(loops)


def bound(models: ModelCosts, case: Scenario, *, loops: int) -> float:
    """Return how many loops can end in a second at most, whoever serves them.

    The device cannot do more than its best batches back to back, and so many loops
    cannot do more than so many that never wait for each other.
    """
    best = sum(curve.item_seconds for curve in models.curves.values())
    alone = sum(curve.predict(1) for curve in models.curves.values())
    return min(1 / best, loops / (alone + case.mean_think_time())) / ROUNDS


def simulate(
    *,
    seed: int = 0,
    llm_seconds: Sequence[float] = (1.0,),
    loops: Sequence[int] = LOOPS,
    names: Sequence[str] = NAMES,
    contenders: Sequence[str] = tuple(SIMULATED_SCHEDULERS),
) -> Iterator[dict[str, Any]]:
    """Yield a result for every setting and scheduler, as JSON values.

    Args:
        seed: Decides how long each call of the language model takes; all schedulers
            see the same.
        llm_seconds: Medians of such a call.
        loops: Numbers of loops in flight.
        names: Which of ``MODELS``.
        contenders: Which of ``SIMULATED_SCHEDULERS``.

    Raises:
        BatchError: If a scheduler lost, doubled or mixed up anything.
    """
    chosen = [models for models in MODELS if models.name in names]
    for models, median, count in itertools.product(chosen, llm_seconds, loops):
        single = sum(curve.predict(1) for curve in models.curves.values())
        limit = single / sum(curve.item_seconds for curve in models.curves.values())
        case = Scenario(total=max(4 * count, 64), llm_seconds=median, seed=seed)
        most = bound(models, case, loops=count)
        slowest = measure(models, SIMULATED_SCHEDULERS["sequential"], case, loops=1)
        for name in contenders:
            extra, measured = _measured(name, models, case, count, slowest)
            rate = measured.loops_per_second
            yield {
                "curve": models.name,
                "n": count,
                "llm_seconds": median,
                "contender": name,
                "efficiency": round(rate / most, 4),
                "ratio_to_sequential": round(rate / slowest.loops_per_second, 3),
                "images_per_second": round(rate * ROUNDS, 4),
                "loops_per_second": round(rate, 5),
                "busy": round(measured.busy, 4),
                "fill": {k: round(v, 3) for k, v in measured.fill.items()},
                "latency_p50": round(measured.latency(0.5), 3),
                "latency_p95": round(measured.latency(0.95), 3),
                "batching_limit": round(limit, 3),
                **extra,
            }


def _measured(
    name: str, models: ModelCosts, case: Scenario, loops: int, slowest: SimulationResult
) -> tuple[dict[str, Any], SimulationResult]:
    """Return what a scheduler did, and the setting of it that did best."""
    if name == "sequential":
        return {}, slowest
    if name != "ray_tuned":
        return {}, measure(models, SIMULATED_SCHEDULERS[name], case, loops=loops)
    tried = {
        wait: measure(
            models,
            partial(Baseline, policy=partial(TimedBatcher, wait=wait)),
            case,
            loops=loops,
        )
        for wait in WAITS
    }
    best = max(WAITS, key=lambda wait: tried[wait].loops_per_second)
    return {"wait": best}, tried[best]
