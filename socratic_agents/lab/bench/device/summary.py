"""Summary metrics: what a scheduler reached in its trials, to be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.bench.device.costs import Costs
    from socratic_agents.lab.bench.device.trial import BenchTrial

__all__ = ("TrialMetrics", "result", "trial_metrics")

GENERATOR = ("generator", None)


@dataclass(frozen=True, kw_only=True)
class TrialMetrics:
    """One trial of a scheduler."""

    loops_per_second: float
    """By the work that was done for them, so that it does not matter at which of its
    stages a loop is when the window ends."""
    images_per_second: float
    thought: float
    """Seconds that a loop waited for its language model."""
    busy: float
    fill: Mapping[str, float]
    rounds: Sequence[float]
    """Seconds of each round that ended, sorted."""
    lag: float
    """Seconds by which the event loop was late, at the 99th percentile."""
    cpu: float
    """Seconds of a processor for an image, the device's thread left out."""
    all_cpu: float
    peak: int
    """Bytes in use, at most."""
    shares: Mapping[str, float]
    """Of the device's seconds, by user."""
    slow: float
    """How many times as long as usual calls took in this trial."""

    def efficiency(self, costs: Costs, *, loops: int) -> float:
        """Return its share of the bound, of a machine as slow as it had."""
        return self.loops_per_second / costs.bound(loops, self.thought, slow=self.slow)

    def rate(self, costs: Costs, *, loops: int) -> float:
        """Return how many loops would have ended in a second at the usual pace."""
        return self.efficiency(costs, loops=loops) * costs.bound(loops, self.thought)


def trial_metrics(
    trial: BenchTrial, costs: Costs, *, rounds: int, usual: float | None = None
) -> TrialMetrics:
    """Summarise what a scheduler did in its window.

    Args:
        trial: What was seen.
        costs: What the stages take.
        rounds: Of a loop.
        usual: The usual pace; ``None``: that of this trial.
    """
    window, calls = trial.window, trial.log.calls
    start, end, lasted = window.began, window.ended, window.lasted
    work = busy = cpu = 0.0
    items: dict[str, float] = {}
    users: dict[str, float] = {}
    sizes: dict[str, list[float]] = {}
    for call in calls:
        share = call.share(start, end)
        seconds, count = share * (call.ended - call.began), len(call.users)
        busy, cpu = busy + seconds, cpu + share * call.cpu
        items[call.stage] = items.get(call.stage, 0.0) + share * count
        if share:
            sizes.setdefault(call.stage, []).append(count / call.most)
        for user in call.users:
            users[user] = users.get(user, 0.0) + seconds / count
        if cost := costs.stages.get((call.stage, call.key)):
            work += share * count * cost.best
    images = items.get("generator", 0.0)
    if not images:  # it was drawn step by step, of which nobody knows whose they were
        images = float(window.images)
        work += images * costs.stages[GENERATOR].best
        sizes.pop("denoiser", None)
    rate = work / costs.best / lasted
    lags = sorted(late for at, late in trial.lag.seconds if start <= at <= end)
    return TrialMetrics(
        loops_per_second=rate,
        images_per_second=images / lasted,
        thought=window.thought() * rounds,
        busy=min(busy / lasted, 1.0),
        fill={stage: fmean(shares) for stage, shares in sorted(sizes.items())},
        rounds=window.latencies(),
        lag=_quantile(lags, 0.99),
        cpu=max(window.cpu - cpu, 0.0) / images,
        all_cpu=window.cpu / images,
        peak=trial.lag.peak,
        slow=trial.pace / (usual or trial.pace),
        shares={user: s / sum(users.values()) for user, s in sorted(users.items())},
    )


def result(
    trials: Sequence[TrialMetrics],
    sequential: Sequence[TrialMetrics],
    costs: Costs,
    *,
    loops: int,
    rounds: int,
    alone: bool = False,
) -> dict[str, Any]:
    """Return the medians over a scheduler's trials, as JSON values.

    Args:
        trials: At least one.
        sequential: The trials of one loop after the other; at least one.
        costs: What the stages take.
        loops: In flight.
        rounds: Of a loop.
        alone: Whether the scheduler lets only one of them be in flight.
    """
    served = 1 if alone else loops
    rates = [trial.rate(costs, loops=served) for trial in trials]
    shares = [
        rate / costs.bound(loops, trial.thought)
        for rate, trial in zip(rates, trials, strict=True)
    ]
    slowest = median(trial.rate(costs, loops=1) for trial in sequential)
    latencies = sorted(took for trial in trials for took in trial.rounds)
    stages = dict.fromkeys(stage for trial in trials for stage in trial.fill)
    found: dict[str, Any] = {
        "efficiency": round(median(shares), 4),
        "efficiency_range": [round(min(shares), 4), round(max(shares), 4)],
        "ratio_to_sequential": round(median(rates) / slowest, 3),
        "images_per_second": round(median(t.images_per_second for t in trials), 4),
        "loops_per_second": round(median(rates), 5),
        "loops_per_second_range": [round(min(rates), 5), round(max(rates), 5)],
        "thinking_seconds": round(median(trial.thought for trial in trials), 4),
        "busy": round(median(trial.busy for trial in trials), 4),
        "fill": {
            stage: round(median(t.fill[stage] for t in trials if stage in t.fill), 3)
            for stage in stages
        },
        "latency_p50": round(rounds * _quantile(latencies, 0.5), 3),
        "latency_p95": round(rounds * _quantile(latencies, 0.95), 3),
        "event_loop_lag_p99": round(median(trial.lag for trial in trials), 6),
        "cpu_ms_per_image": round(1000 * median(trial.cpu for trial in trials), 2),
        "total_cpu_ms_per_image": round(1000 * median(t.all_cpu for t in trials), 2),
        "peak_memory_mb": round(max(trial.peak for trial in trials) / 2**20, 1),
        "batching_limit": round(costs.batching_limit, 3),
        "repeats": len(trials),
        "slow_range": [
            round(min(t.slow for t in trials), 3),
            round(max(t.slow for t in trials), 3),
        ],
    }
    if len(trials[0].shares) > 1:
        names = trials[0].shares
        found["user_shares"] = {
            name: round(median(t.shares.get(name, 0.0) for t in trials), 4)
            for name in names
        }
    return found


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of what is sorted; 0: there is nothing."""
    return values[math.ceil(share * len(values)) - 1] if values else 0.0
