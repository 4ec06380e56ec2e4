"""Workers: where the image models run, if not in this process."""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass
from typing import Any

from socratic_agents.core.errors import ConfigurationError

__all__ = ("ProcessWorkers", "RayWorkers", "parse_workers")

PROCESS = "process"
RAY = "ray"
_ADDRESS = re.compile(r"ray://[^\s/@?#]+:\d{1,5}")


@dataclass(frozen=True)
class ProcessWorkers:
    """Copies of the image models on this machine, each in a process of its own.

    Args:
        count: How many, at least 1; ``None``: one for each device that the settings
            name, or else for each CUDA device, or 1 where there is none.
        patience: Seconds in which the first of them must have opened the models.

    Raises:
        ConfigurationError: If something is out of its range.
    """

    count: int | None = None
    _: KW_ONLY
    patience: float = 600.0

    def __post_init__(self) -> None:
        _check(self, _common(self))


@dataclass(frozen=True)
class RayWorkers:
    """Copies of the image models on a Ray cluster, each in a process of its own.

    Args:
        count: How many, at least 1; ``None``: as many as the cluster's GPUs allow, or
            one for each machine where they need none.
        gpus_each: GPUs that one takes, at least 0; a fraction shares a GPU. ``None``:
            1 where the cluster has any, and 0 elsewhere.
        address: ``ray`` (the cluster that this machine is part of, or else one that is
            started here), or ``ray://HOST:PORT``.
        patience: Seconds in which the first of them must have opened the models.

    Raises:
        ConfigurationError: If something is out of its range.
    """

    count: int | None = None
    _: KW_ONLY
    gpus_each: float | None = 1
    address: str = RAY
    patience: float = 600.0

    def __post_init__(self) -> None:
        own = {
            "gpus_each to be at least 0": self.gpus_each is None
            or 0 <= self.gpus_each < math.inf,
            "address to be 'ray' or 'ray://HOST:PORT'": self.address == RAY
            or _ADDRESS.fullmatch(self.address),
        }
        _check(self, _common(self) | own)


def parse_workers(value: Any) -> ProcessWorkers | RayWorkers:
    """Return the workers that a setting stands for.

    Args:
        value: ``process``, ``ray``, ``ray://HOST:PORT``, or workers.

    Raises:
        ConfigurationError: If it is something else.
    """
    if isinstance(value, ProcessWorkers | RayWorkers):
        return value
    if value == PROCESS:
        return ProcessWorkers()
    if value == RAY or (isinstance(value, str) and _ADDRESS.fullmatch(value)):
        return RayWorkers(gpus_each=None, address=value)
    shown = repr(value) if isinstance(value, str) else type(value).__name__
    message = (
        "expected workers (process, ray, ray://HOST:PORT), ProcessWorkers or "
        f"RayWorkers, got {shown}"
    )
    raise ConfigurationError(message)


def _common(workers: ProcessWorkers | RayWorkers) -> dict[str, Any]:
    """Return what holds for all workers, and whether it does."""
    count = workers.count
    return {
        "count to be a whole number, at least 1": count is None
        or (type(count) is int and count >= 1),
        "patience to be above 0": workers.patience > 0,
    }


def _check(workers: ProcessWorkers | RayWorkers, expected: dict[str, Any]) -> None:
    for what, right in expected.items():
        if not right:
            message = f"expected {what}, got {getattr(workers, what.split()[0])!r}"
            raise ConfigurationError(message)
