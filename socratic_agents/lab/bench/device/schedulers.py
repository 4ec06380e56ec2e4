"""The schedulers under test, and the testbed that all of them work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.bench.baselines import BASELINES, Policy, Serial
from socratic_agents.lab.bench.device.policy_scheduler import PolicyScheduler
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from socratic_agents.lab.bench.device.costs import Costs
    from socratic_agents.lab.bench.device.determinism import DeterminismCheck
    from socratic_agents.lab.bench.device.instrumentation import CallLog
    from socratic_agents.lab.bench.device.memory import Memory
    from socratic_agents.lab.bench.device.recording_worker import (
        RecordingWorker,
        SchedulerUnderTest,
    )
    from socratic_agents.lab.bench.device.trial import LoopSetup

__all__ = ("DEVICE_SCHEDULERS", "SchedulerSpec", "Testbed", "Variants")


def _worker(costs: Costs) -> Any:
    """Return the library's own worker, which knows what calls cost."""
    return Worker("bench-device", cost_model=costs.cost_model())


def _baseline(policy: Callable[..., Policy], _: Costs, loops: int) -> PolicyScheduler:
    return PolicyScheduler(policy(loops=loops))


@dataclass(frozen=True, kw_only=True)
class Variants:
    """Other variants of the calls of the same models."""

    loops: Mapping[str, LoopSetup] = field(default_factory=dict)
    """By name: ``strict``, with calls of one size, and ``step``, with single steps of
    the denoiser that drawings share."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Why a variant is not possible."""
    closers: Sequence[Callable[[], Awaitable[None]]] = ()


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """Models that were opened, and loops that work with them."""

    name: str
    recorder: RecordingWorker
    loops: LoopSetup
    """Whole drawings share a batch."""
    others: Callable[[CallLog], Variants] = lambda _: Variants()
    """Opens variants of the calls of the same models, found in the log of a loop."""
    memory: Memory
    determinism: DeterminismCheck
    rounds: int = 4
    """Of a loop."""
    kinds: int = 1
    """Loops that differ in what they ask for, one after the other."""
    speaks: bool = False
    """Whether a language model is asked, rather than time let pass."""
    steady: bool = False
    """Whether the device keeps its pace, as a card does that nobody else uses."""
    plain: bool = True
    """Whether a round is one image, its caption and its score."""
    closers: Sequence[Callable[[], Awaitable[None]]] = ()


@dataclass(frozen=True, kw_only=True)
class SchedulerSpec:
    """A scheduler under test."""

    open: Callable[[Costs, int], AbstractAsyncContextManager[SchedulerUnderTest]]
    """costs, loops in flight -> the scheduler"""
    variant: str = "request"
    """How the models are called."""
    rule: str = ""
    """What is known of the sizes of its calls; see ``Sameness.see``."""
    alone: bool = False
    """Whether one loop comes after the other."""
    graph: bool = False
    """Whether the loop is a graph."""


DEVICE_SCHEDULERS: Mapping[str, SchedulerSpec] = {
    **{
        name: SchedulerSpec(
            open=partial(_baseline, policy),
            rule="single" if policy is Serial else "",
            alone=name == "sequential",
            graph=name == "langgraph",
        )
        for name, policy in BASELINES.items()
    },
    "ours": SchedulerSpec(open=lambda costs, _: _worker(costs)),
    "ours_strict": SchedulerSpec(
        open=lambda costs, _: _worker(costs), variant="strict", rule="strict"
    ),
    "ours_step": SchedulerSpec(open=lambda costs, _: _worker(costs), variant="step"),
}
"""By the contender's name."""
