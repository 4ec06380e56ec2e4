"""Memory plan: which models take turns on a device that is too small for all of them.

It is arithmetic and no measurement: the scheduler's own book is kept over the steps of
one round, and a swap is reckoned from the size of what is brought.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from socratic_agents.agents.search.registry import most_rounds
from socratic_agents.config.settings import FEWEST
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.runtime.image_models import FINAL
from socratic_agents.scheduler.residency import GB, Residency, Resident
from socratic_agents.scheduler.tuning import DEFAULT_TUNING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from socratic_agents.config.settings import Settings

__all__ = ("MemoryPlan", "memory_plan")


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What lies on the device when, and what moving it takes."""

    capacity: float
    """Bytes that weights may take there."""
    sizes: Mapping[str, float]
    """Bytes of each model, by the setting that names it."""
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What is done to what is there then."""
    swaps: int = 0
    """How often a model is brought, in all."""
    seconds: float = 0.0
    """How long that takes, in all."""
    problem: str | None = None
    """Why it cannot work, if it cannot."""
    unknown: tuple[str, ...] = ()
    """The settings whose models' sizes are not known, so that there is no plan."""

    @property
    def total(self) -> float:
        """Bytes of all models."""
        return sum(self.sizes.values())

    def lines(self) -> list[str]:
        """Return it in words for people."""
        if self.unknown:
            models = " and ".join(self.unknown)
            return [f"the size of {models} is not known before it was opened once"]
        parts = " + ".join(f"{n} {size / GB:.3g}" for n, size in self.sizes.items())
        reckoned = f"weights {parts} = {self.total / GB:.3g} GB by arithmetic"
        if self.total <= self.capacity:
            return [f"{reckoned}, which fit into {self.capacity / GB:.3g} GB together"]
        told = f"{reckoned}, more than {self.capacity / GB:.3g} GB"
        if self.problem is not None:
            return [told, self.problem]
        return [f"{told}: they take turns", *self.turns()]

    def turns(self) -> list[str]:
        """Return what lies there when, and what moving it takes, in words."""
        said = [
            f"to {step}: {' and '.join(there)}" for step, there in self.steps.items()
        ]
        swaps = (
            f"about {self.swaps} swaps, {self.seconds:.3g} s together, reckoned at "
            f"{DEFAULT_TUNING.swap_rate:g} GB/s and not measured; prompts in flight "
            "share each"
        )
        return [f"on the device {', '.join(said)}", swaps]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; sizes are in bytes."""
        return {
            "capacity": round(self.capacity),
            "sizes": {name: round(size) for name, size in self.sizes.items()},
            "fits": self.total <= self.capacity,
            "steps": {step: list(there) for step, there in self.steps.items()},
            "swaps": self.swaps,
            "seconds": round(self.seconds, 3),
            "problem": self.problem,
            "unknown": list(self.unknown),
        }


def memory_plan(
    settings: Settings, sizes: Mapping[str, float], capacity: float, *, prompts: int
) -> MemoryPlan:
    """Return what lies on a device when, if all rounds are used.

    Args:
        settings: Say what is done.
        sizes: Bytes of each model, by the setting that names it.
        capacity: Bytes that weights may take there.
        prompts: How many are refined, at least 0.
    """
    plan = MemoryPlan(capacity=capacity, sizes=sizes)
    if plan.total <= capacity:
        return plan
    try:
        residency = _opened(sizes, capacity)
    except ConfigurationError as problem:
        return replace(plan, problem=str(problem))
    there: dict[str, tuple[str, ...]] = {}
    for step, holds in _steps(settings):
        if holds in sizes:
            residency.bring(holds)
            there[step] = tuple(name for name in sizes if name in residency.here)
    waves = ceil(prompts / (settings.in_flight or FEWEST))
    return replace(
        plan,
        steps=there,
        swaps=waves * residency.swaps,
        seconds=waves * residency.swap_seconds,
    )


def _opened(sizes: Mapping[str, float], capacity: float) -> Residency:
    """Return the book of a device on which the models were opened, one by one.

    Raises:
        ConfigurationError: If one of them does not fit, even alone.
    """
    now = [0.0]

    def load(size: float) -> None:
        now[0] += size / (DEFAULT_TUNING.swap_rate * GB)

    residency = Residency(int(capacity), clock=lambda: now[0])
    for name, size in sizes.items():
        residency.make_room(int(size))
        residency.add(
            Resident(
                name=name,
                size=int(size),
                load=partial(load, size),
                unload=lambda: None,
            )
        )
    return residency


def _steps(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what is done to a prompt, and which model it takes."""
    look = [("look", "captioner"), ("score", "scorer")]
    if settings.llm == "captioner":
        look.append(("write", "captioner"))
    for _ in range(most_rounds(settings, worst_case(settings).images)):
        yield from (("draw", "generator"), *look)
    if settings.final_generator is not None:
        yield from (("draw at the end", FINAL), *look)
