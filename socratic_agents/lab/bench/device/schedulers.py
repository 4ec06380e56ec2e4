"""Entries: who takes part in a contest, and what all of them work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.lab.bench.device.baselines import EarlySealing, InStep, OneByOne
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from socratic_agents.lab.bench.device.costs import Costs
    from socratic_agents.lab.bench.device.determinism import Sameness
    from socratic_agents.lab.bench.device.instrumentation import Log
    from socratic_agents.lab.bench.device.memory import Memory
    from socratic_agents.lab.bench.device.recording_worker import Port, Rival
    from socratic_agents.lab.bench.device.trial import Loops

__all__ = ("ENTRIES", "Bed", "Entry", "Ways")


def _worker(costs: Costs) -> Any:
    """Return the library's own worker, which knows what calls cost."""
    return Worker("bench-device", calibration=costs.calibration())


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Other ways to call the models."""

    loops: Mapping[str, Loops] = field(default_factory=dict)
    """By name: ``strict``, with calls of one size, and ``step``, with single steps of
    the denoiser that drawings share."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Why a way is not possible."""
    closers: Sequence[Callable[[], Awaitable[None]]] = ()


@dataclass(frozen=True, kw_only=True)
class Bed:
    """Models that were opened, and loops that work with them."""

    name: str
    port: Port
    loops: Loops
    """Whole drawings share a batch."""
    others: Callable[[Log], Ways] = lambda _: Ways()
    """Opens other ways to call the same models, which are found in the log of a loop."""
    memory: Memory
    sameness: Sameness
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
class Entry:
    """A contender."""

    open: Callable[[Costs, int], AbstractAsyncContextManager[Rival]]
    """costs, loops in flight -> the way to share the device"""
    way: str = "request"
    """How the models are called."""
    rule: str = ""
    """What is known of the sizes of its calls; see ``Sameness.see``."""
    alone: bool = False
    """Whether one loop comes after the other."""
    graph: bool = False
    """Whether the loop is a graph."""


ENTRIES: Mapping[str, Entry] = {
    "sequential": Entry(open=lambda *_: OneByOne(), rule="single", alone=True),
    "lock": Entry(open=lambda *_: OneByOne(), rule="single"),
    "lockstep": Entry(open=lambda _, loops: InStep(loops=loops)),
    "ray_default": Entry(open=lambda *_: EarlySealing()),
    "ray_tuned": Entry(open=lambda *_: EarlySealing()),
    "langgraph": Entry(open=lambda *_: OneByOne(), rule="single", graph=True),
    "ours": Entry(open=lambda costs, _: _worker(costs)),
    "ours_strict": Entry(
        open=lambda costs, _: _worker(costs), way="strict", rule="strict"
    ),
    "ours_step": Entry(open=lambda costs, _: _worker(costs), way="step"),
}
"""By name; ``sequential`` has one loop in flight, ``ray_tuned`` its best wait."""
