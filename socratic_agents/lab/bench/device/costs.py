"""Costs: what calls of the models take on this device, and what follows from it.

Measured on the spot, in the same process as the schedulers, with items of real loops.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from socratic_agents.scheduler.cost_model import CostModel
from socratic_agents.scheduler.tuning import DEFAULT_TUNING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from socratic_agents.lab.bench.device.instrumentation import CallLog
    from socratic_agents.scheduler.worker import Stage

__all__ = ("Cost", "CostMeter", "Costs")

SAME = 1.02
"""Of sizes that cost as much for an item, up to 2 %, the smallest is the largest
call."""
PROBES = 3
"""Calls of one item of each stage that tell how fast the machine is just now."""
LEAST = 16
"""Sizes up to here are measured, even where a stage's own calls are smaller."""

LONGEST = 5.0
"""Seconds of a call after which no larger one is tried."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stage takes, for items of one key."""

    seconds: Mapping[int, float]
    """Of a call, by its size: the median of several."""
    items: float
    """Of a loop."""
    widest: int
    """Items of a lone loop that wait at once, at most."""

    @property
    def best(self) -> float:
        """Seconds of an item in the most efficient call."""
        return min(s / size for size, s in self.seconds.items())

    @property
    def alone(self) -> float:
        """Seconds of an item in the most efficient call that a lone loop can make."""
        fits = [s / n for n, s in self.seconds.items() if n <= max(self.widest, 1)]
        return min(fits)

    @property
    def cap(self) -> int:
        """Items of the largest call that is worth making."""
        return min(n for n, s in self.seconds.items() if s / n <= self.best * SAME)


@dataclass(frozen=True)
class Costs:
    """What all stages take."""

    stages: Mapping[tuple[str, Hashable], Cost]
    """By the stage's name and the key of the items."""
    identities: Mapping[tuple[str, Hashable], Stage[Any, Any]]

    @property
    def best(self) -> float:
        """Seconds of the device for a loop, in the most efficient calls: D*."""
        return sum(cost.items * cost.best for cost in self.stages.values())

    @property
    def alone(self) -> float:
        """Seconds of the device for a lone loop."""
        return sum(cost.items * cost.alone for cost in self.stages.values())

    @property
    def batching_limit(self) -> float:
        """How many times faster than items one by one the best calls are."""
        single = sum(cost.items * cost.seconds[1] for cost in self.stages.values())
        return single / self.best

    @property
    def caps(self) -> dict[str, int]:
        """Items of the largest call, by the name of the stage."""
        caps: dict[str, int] = {}
        for (name, _), cost in self.stages.items():
            caps[name] = max(caps.get(name, 1), cost.cap)
        return caps

    def bound(self, loops: int, thought: float, *, slow: float = 1.0) -> float:
        """Return how many loops can end in a second at most, whoever serves them.

        The device cannot do more than its best calls back to back, and so many loops
        cannot do more than so many that never wait for each other.

        Args:
            loops: In flight, at least 1.
            thought: Seconds that a loop waits for its language model.
            slow: How many times as long as usual the device took.
        """
        return min(1 / (self.best * slow), loops / (self.alone * slow + thought))

    def cost_model(self) -> CostModel:
        """Return a calibration that knows it, as a worker's does after a while."""
        cost_model = CostModel()
        for place, cost in self.stages.items():
            stage, key = self.identities[place], place[1]
            for size, seconds in cost.seconds.items():
                for _ in range(DEFAULT_TUNING.trusted_calls):
                    cost_model.observe(stage, key, items=size, seconds=seconds)
        return cost_model

    def to_json(self) -> list[dict[str, Any]]:
        """Return the JSON form, one object a stage and key."""
        return [
            {
                "stage": name,
                "key": None if key is None else str(key),
                "items": cost.items,
                "cap": cost.cap,
                "seconds": {str(n): round(s, 6) for n, s in cost.seconds.items()},
            }
            for (name, key), cost in self.stages.items()
        ]


class CostMeter:
    """Measures what calls take, in sizes that double, over and over all of them.

    Args:
        log: Of some lone loops, whose items are used.
        loops: How many they were, at least 1.
        steady: Whether the device is as fast at any time: then it is measured once.
    """

    def __init__(self, log: CallLog, *, loops: int, steady: bool = False) -> None:
        self._steady = steady
        self._samples = {
            (stage.name, key): (stage, items)
            for (stage, key), items in log.samples.items()
        }
        self._items = {
            (stage.name, key): count / loops
            for (stage, key), count in log.submitted.items()
        }
        self._widest = dict(log.widest)
        self._paces: list[float] = []
        self._seen: dict[tuple[str, Hashable], dict[int, list[float]]] = {
            place: {size: [] for size in _sizes(stage)}
            for place, (stage, _) in self._samples.items()
        }

    def measure(self, times: int = 1, *, warm: bool = False) -> None:
        """Call each size of each stage so many times.

        Args:
            times: At least 1.
            warm: Whether one more comes before, which does not count: the first calls
                may compile, or ask for memory.
        """
        for repeat in range(times + warm):
            for place, (stage, items) in self._samples.items():
                sizes = self._seen[place]
                for size in list(sizes):
                    seconds = _called(stage, items, size)
                    if seconds is None:  # there is no room for more
                        self._seen[place] = {n: s for n, s in sizes.items() if n < size}
                        break
                    if repeat >= warm:
                        sizes[size].append(seconds)
                    elif seconds > LONGEST:
                        self._seen[place] = {
                            n: s for n, s in sizes.items() if n <= size
                        }
                        break

    def pace(self) -> float:
        """Return what a lone loop's calls of one item take the device just now."""
        lasted = 1.0 if self._steady else 0.0
        for place, (stage, items) in self._samples.items() if not self._steady else ():
            calls = [_called(stage, items, 1) or 0.0 for _ in range(PROBES)]
            lasted += self._items[place] * median(calls)
        self._paces.append(lasted)
        return lasted

    @property
    def usual(self) -> float:
        """The median of all that ``pace`` returned; there must have been one."""
        return median(self._paces)

    def costs(self) -> Costs:
        """Return the medians of all calls until now."""
        stages = {
            place: Cost(
                seconds={size: median(taken) for size, taken in sizes.items()},
                items=self._items[place],
                widest=self._widest[place[0]],
            )
            for place, sizes in self._seen.items()
        }
        return Costs(stages, {p: stage for p, (stage, _) in self._samples.items()})


def _sizes(stage: Stage[Any, Any]) -> list[int]:
    most = max(stage.max_batch, LEAST) if stage.max_batch > 1 else 1
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]


def _called(stage: Stage[Any, Any], items: Sequence[Any], size: int) -> float | None:
    """Return the seconds of a call; ``None``: there is no room for so many items."""
    batch = [items[place % len(items)] for place in range(size)]
    began = time.perf_counter()
    try:
        stage.run(batch)
    except Exception as error:
        if size == 1 or type(error).__name__ != "OutOfMemoryError":
            raise
        return None
    return time.perf_counter() - began
