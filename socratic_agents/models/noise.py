"""Noise: what a pipeline draws at random beside its first latents, from the seed too.

Many pipelines do not tell their scheduler of the generators that they were given. One
that adds noise at each step would draw another image of the same seed every time.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

__all__ = ("Noise", "noise_states", "scheduler_noise", "seeded_noise")


class Noise(Enum):
    """Where what a pipeline draws at random comes from, as far as was seen."""

    SEEDED = "the generators that it is given"
    PROCESS = "the process's own source, which is seeded for one image at a time"
    SHARED = "unknown, since several calls are taken in turns"


@contextmanager
def scheduler_noise(
    pipeline: Any, generators: Sequence[torch.Generator]
) -> Iterator[None]:
    """Let a pipeline's scheduler draw from these generators where it is told of none.

    Args:
        pipeline: Its scheduler may be of any kind.
        generators: One for each image.
    """
    scheduler: Any = getattr(pipeline, "scheduler", None)
    step = getattr(scheduler, "step", None)
    if not callable(step):
        yield
        return

    takes = "generator" in inspect.signature(step).parameters

    @functools.wraps(step)
    def told(*args: Any, **named: Any) -> Any:
        if takes and named.get("generator") is None:
            named["generator"] = list(generators)
        return step(*args, **named)

    if hasattr(scheduler, "noise_sampler_seed"):  # a Brownian tree for each image
        scheduler.noise_sampler_seed = [one.initial_seed() for one in generators]
    before = vars(scheduler).get("step")
    scheduler.step = told
    try:
        yield
    finally:
        del scheduler.step
        if before is not None:
            scheduler.step = before


def noise_states(device: torch.device | None) -> list[bytes]:
    """Return the state of the process's own sources of noise, to be compared.

    Args:
        device: One that may be drawn from, beside the CPU's.
    """
    import torch

    states = [torch.get_rng_state()]
    if device is not None and device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device is not None and device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return [state.numpy().tobytes() for state in states]


@contextmanager
def seeded_noise(seed: int) -> Iterator[None]:
    """Let the process's own source of noise follow a seed, and then be as it was."""
    import torch

    # A fork of the sources forgets Apple's graphics, which the seed sets as well.
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        if apple is not None:
            torch.mps.set_rng_state(apple)
