"""Ways to share a device between loops, as they decide in the virtual bench."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from socratic_agents.scheduler.policy import BatchPolicy, RunBatch
from socratic_agents.scheduler.queues import QueueItem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from socratic_agents.lab.bench.simulated.model_costs import ModelCosts
    from socratic_agents.scheduler.cost_curve import CostCurve

__all__ = (
    "SIMULATED_SCHEDULERS",
    "DeviceCall",
    "EarlySealing",
    "LangGraph",
    "Lock",
    "LockStep",
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


class SimulatedScheduler(Protocol):
    """What the virtual bench asks of a scheduler."""

    loops: int
    """In flight; fewer when the bench comes to its end."""

    def arrive(self, stage: str, loop: int, *, now: float) -> None:
        """Take note that a loop needs a stage."""

    def think(self, loop: int, *, now: float) -> None:
        """Take note that a loop begins to wait for its language model."""

    def leave(self, loop: int, *, now: float) -> None:
        """Take note that a loop ends."""

    def decide(self, now: float) -> DeviceCall | float | None:
        """Return what a free device does, or when to ask again at the latest."""

    def node(self, now: float) -> float:
        """Return how long the loop's own machinery takes for a step, with queueing."""


class Lock:
    """Every call under one lock: first come, first served, one item each."""

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        self._curves = models.curves
        self._waiting = deque[tuple[str, int]]()
        self.loops = loops

    def arrive(self, stage: str, loop: int, *, now: float) -> None:  # noqa: ARG002 - the protocol
        """Queue."""
        self._waiting.append((stage, loop))

    def think(self, loop: int, *, now: float) -> None:
        """Know nothing of it."""

    def leave(self, loop: int, *, now: float) -> None:
        """Know nothing of it."""

    def decide(self, now: float) -> DeviceCall | float | None:  # noqa: ARG002 - the protocol
        """Serve the first."""
        if not self._waiting:
            return None
        stage, loop = self._waiting.popleft()
        return _whole(stage, [loop], self._curves)

    def node(self, now: float) -> float:  # noqa: ARG002 - the protocol
        """Take no time."""
        return 0.0


class LangGraph(Lock):
    """The same as a graph: its nodes take turns on the one event loop."""

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        super().__init__(models, loops=loops)
        self._cost, self._free = _node_cost(loops), 0.0

    def node(self, now: float) -> float:
        """Wait for the event loop and run."""
        self._free = max(self._free, now) + self._cost
        return self._free - now


class LockStep(Lock):
    """All loops at once: nobody goes on before the last one is done with a stage."""

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        super().__init__(models, loops=loops)
        self._here: dict[str, list[int]] = {stage: [] for stage in self._curves}
        self._serving: str | None = None

    def arrive(self, stage: str, loop: int, *, now: float) -> None:  # noqa: ARG002 - the protocol
        """Queue."""
        self._here[stage].append(loop)

    def decide(self, now: float) -> DeviceCall | float | None:  # noqa: ARG002 - the protocol
        """Serve a stage for which all are there, in the largest batches."""
        for stage, here in self._here.items():
            whole = len(here) == self.loops and self._serving is None
            if here and (whole or stage == self._serving):
                size = len(self._curves[stage].seconds)
                batch, self._here[stage] = here[:size], here[size:]
                self._serving = stage if self._here[stage] else None
                return _whole(stage, batch, self._curves)
        return None


class EarlySealing(Lock):
    """As Ray Serve batches: cut by a timer, whether the device is free or not.

    Source:
        ``@serve.batch`` of Ray 2.60: its batch is taken out of the queue when it is
        full or its first item has waited long enough, and waits for the device then.
    """

    def __init__(self, models: ModelCosts, *, loops: int, wait: float = 0.01) -> None:
        super().__init__(models, loops=loops)
        self._wait = wait
        self._open: dict[str, tuple[float, list[int]]] = {}
        self._sealed = deque[tuple[str, list[int]]]()

    def arrive(self, stage: str, loop: int, *, now: float) -> None:
        """Join the batch that is open, and close it when it is full."""
        self._seal(now)
        _, batch = self._open.setdefault(stage, (now + self._wait, []))
        batch.append(loop)
        if len(batch) == len(self._curves[stage].seconds):
            self._sealed.append((stage, self._open.pop(stage)[1]))

    def decide(self, now: float) -> DeviceCall | float | None:
        """Serve the batches in the order in which they were sealed."""
        self._seal(now)
        if self._sealed:
            stage, batch = self._sealed.popleft()
            return _whole(stage, batch, self._curves)
        return min((due for due, _ in self._open.values()), default=None)

    def _seal(self, now: float) -> None:
        """Close what is due, in the order in which it was."""
        due = sorted((at, stage) for stage, (at, _) in self._open.items() if at <= now)
        for _, stage in due:
            self._sealed.append((stage, self._open.pop(stage)[1]))


class Ours(Lock):
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
            return _whole(str(decision.queue.stage), loops, self._curves)
        return decision.time if decision else None


class OursByStep(Lock):
    """Images that join and leave the generator's batch at any of its steps."""

    def __init__(self, models: ModelCosts, *, loops: int) -> None:
        super().__init__(models, loops=loops)
        self._models = models
        self._here: dict[str, deque[int]] = {stage: deque() for stage in self._curves}
        self._steps: dict[int, int] = {}

    def arrive(self, stage: str, loop: int, *, now: float) -> None:  # noqa: ARG002 - the protocol
        """Queue."""
        self._here[stage].append(loop)

    def decide(self, now: float) -> DeviceCall | float | None:  # noqa: ARG002 - the protocol
        """Score, caption, or denoise all images that are on their way by one step."""
        drawing, step = self._here["generator"], self._models.step
        for stage in ("scorer", "captioner"):
            here, curve = self._here[stage], self._curves[stage]
            piling = len(here) < curve.good_size and len(drawing) >= 2 * step.best_size
            if here and not piling:
                size = min(len(here), curve.best_size)
                batch = [here.popleft() for _ in range(size)]
                return _whole(stage, batch, self._curves)
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


def _whole(
    stage: str, loops: Sequence[int], curves: Mapping[str, CostCurve]
) -> DeviceCall:
    return DeviceCall(stage, loops, curves[stage].predict(len(loops)), loops)


def _node_cost(loops: int) -> float:
    """Return what a node takes with so many loops in flight."""
    for (few, low), (many, high) in itertools.pairwise(NODE):
        if loops <= many:
            return low + (high - low) * (loops - few) / (many - few)
    return NODE[-1][1]


SIMULATED_SCHEDULERS: Mapping[str, Callable[..., SimulatedScheduler]] = {
    "sequential": Lock,
    "lock": Lock,
    "lockstep": LockStep,
    "ray_default": EarlySealing,
    "ray_tuned": EarlySealing,
    "langgraph": LangGraph,
    "ours": Ours,
    "ours_step": OursByStep,
}
"""By name; ``sequential`` has one loop in flight, ``ray_tuned`` its best wait."""
