"""Schedulers that share a device between loops, as the simulated bench runs them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from socratic_agents.lab.bench.baselines import BASELINES, Arrival, Serial
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch
from socratic_agents.scheduler.queues import QueueItem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from socratic_agents.lab.bench.baselines import Policy
    from socratic_agents.lab.bench.simulated.model_costs import ModelCosts

__all__ = (
    "SIMULATED_SCHEDULERS",
    "Baseline",
    "DeviceCall",
    "Ours",
    "OursByStep",
    "SimulatedScheduler",
)

NODE = ((1, 0.34e-3), (50, 0.41e-3), (200, 0.47e-3), (500, 0.60e-3))
"""Seconds of a processor that a node of a graph takes, by loops in flight: LangGraph
1.2.22 without a checkpointer, five empty nodes, measured on two cores."""


@dataclass(frozen=True)
class DeviceCall:
    """What the device does next."""

    stage: str
    loops: Sequence[int]
    """Whose items are in the batch."""
    seconds: float
    done: Sequence[int]
    """Those who have what they came for when it ends."""


class SimulatedScheduler(ABC):
    """What the simulated bench asks of a scheduler.

    Args:
        models: What calls cost.
        loops: In flight; fewer when the simulation comes to its end.
    """

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        self._models, self._curves, self.loops = models, models.curves, loops

    @abstractmethod
    def arrive(self, stage: str, loop: int, *, now: float) -> None:
        """Note that a loop needs a stage."""

    @abstractmethod
    def decide(self, now: float) -> DeviceCall | float | None:
        """Return what a free device does, or when to ask again at the latest."""

    def think(self, loop: int, *, now: float) -> None:  # noqa: B027 - most need not know
        """Note that a loop begins to wait for its language model."""

    def leave(self, loop: int, *, now: float) -> None:  # noqa: B027 - most need not know
        """Note that a loop ends."""

    def node(self, now: float) -> float:  # noqa: ARG002 - most take no time
        """Return how long the loop's own machinery takes for a step, with queueing."""
        return 0.0

    def _call(self, stage: str, loops: Sequence[int]) -> DeviceCall:
        seconds = self._curves[stage].predict(len(loops))
        return DeviceCall(stage, loops, seconds, loops)


class Baseline(SimulatedScheduler):
    """A baseline policy in virtual time.

    Args:
        models: What calls cost.
        loops: In flight.
        policy: Makes the policy for so many loops.
        graph: Whether each loop is a graph, whose nodes take turns on the event loop.
    """

    def __init__(
        self,
        models: ModelCosts,
        *,
        loops: int,
        policy: Callable[..., Policy] = Serial,
        graph: bool = False,
    ) -> None:
        super().__init__(models, loops=loops)
        self._policy = policy(loops=loops)
        self._node, self._free = _node_cost(loops) if graph else 0.0, 0.0

    def arrive(self, stage: str, loop: int, *, now: float) -> None:
        """Hand it on."""
        largest = len(self._curves[stage].seconds)
        arrival = Arrival(
            stage=stage, loop=loop, largest=largest, payload=(stage, loop)
        )
        self._policy.arrive(arrival, now=now)

    def decide(self, now: float) -> DeviceCall | float | None:
        """Do what the policy says."""
        self._policy.loops = self.loops
        decision = self._policy.decide(now)
        if decision is None or isinstance(decision, float):
            return decision
        stages, loops = zip(*(arrival.payload for arrival in decision), strict=True)
        return self._call(stages[0], loops)

    def node(self, now: float) -> float:
        """Wait for the event loop and run."""
        if not self._node:
            return 0.0
        self._free = max(self._free, now) + self._node
        return self._free - now


class Ours(SimulatedScheduler):
    """The decisions of the library's own worker."""

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        super().__init__(models, loops=loops)
        self._policy, self._numbers = BatchPolicy[int](), itertools.count()

    def arrive(self, stage: str, loop: int, *, now: float) -> None:
        """Queue, as in the worker."""
        if stage == "generator":
            self._policy.think_times.end(loop, now=now)
        curve = self._curves[stage]
        self._policy.add(
            QueueItem(loop, next(self._numbers), loop),
            stage=stage,
            priority=0 if stage == "generator" else 1,
            max_batch=len(curve.seconds),
            curve=curve,
        )

    def think(self, loop: int, *, now: float) -> None:
        """Take note, as the worker does."""
        self._policy.think_times.begin(loop, now=now)

    def leave(self, loop: int, *, now: float) -> None:
        """Take note, as the worker does."""
        self._policy.think_times.end(loop, now=now)

    def decide(self, now: float) -> DeviceCall | float | None:
        """Do what the policy says."""
        decision = self._policy.decide(now)
        if isinstance(decision, RunBatch):
            loops = [item.payload for item in decision.items]
            return self._call(str(decision.queue.stage), loops)
        return decision.time if decision else None


class OursByStep(SimulatedScheduler):
    """Images that join and leave the generator's batch at any of its steps.

    It exists here alone: on a device this is the models' own step batcher, whose
    threads decide nothing in virtual time.
    """

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        super().__init__(models, loops=loops)
        self._here: dict[str, deque[int]] = {stage: deque() for stage in self._curves}
        self._steps: dict[int, int] = {}

    def arrive(self, stage: str, loop: int, *, now: float) -> None:  # noqa: ARG002 - the protocol
        """Queue."""
        self._here[stage].append(loop)

    def decide(self, now: float) -> DeviceCall | float | None:  # noqa: ARG002 - the protocol
        """Score, caption, or denoise all images in flight by one step."""
        drawing, step = self._here["generator"], self._models.step
        for stage in ("scorer", "captioner"):
            here, curve = self._here[stage], self._curves[stage]
            piling = len(here) < curve.good_size and len(drawing) >= 2 * step.best_size
            if here and not piling:
                size = min(len(here), curve.best_size)
                batch = [here.popleft() for _ in range(size)]
                return self._call(stage, batch)
        while drawing and len(self._steps) < step.best_size:
            self._steps[drawing.popleft()] = self._models.steps
        if not self._steps:
            return None
        batch = list(self._steps)
        self._steps = {loop: left - 1 for loop, left in self._steps.items()}
        done = [loop for loop, left in self._steps.items() if not left]
        for loop in done:
            del self._steps[loop]
        seconds = step.predict(len(batch)) + self._models.decode * len(done)
        return DeviceCall("generator", batch, seconds, done)


def _node_cost(loops: int) -> float:
    """Return what a node takes with so many loops in flight."""
    for (few, low), (many, high) in itertools.pairwise(NODE):
        if loops <= many:
            return low + (high - low) * (loops - few) / (many - few)
    return NODE[-1][1]


SIMULATED_SCHEDULERS: Mapping[str, Callable[..., SimulatedScheduler]] = {
    **{
        name: partial(Baseline, policy=policy, graph=name == "langgraph")
        for name, policy in BASELINES.items()
    },
    "ours": Ours,
    "ours_step": OursByStep,
}
"""By the contender's name."""
