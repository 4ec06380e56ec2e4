"""Workers: where the image models run, if not in this process."""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass
from typing import Any

from socratic_agents.errors import ConfigurationError

__all__ = ("RayWorkers", "read_workers")

RAY = "ray"
_ADDRESS = re.compile(r"ray://[^\s/@?#]+:\d{1,5}")


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
        expected = {
            "count to be a whole number, at least 1": self.count is None
            or (type(self.count) is int and self.count >= 1),
            "gpus_each to be at least 0": self.gpus_each is None
            or 0 <= self.gpus_each < math.inf,
            "address to be 'ray' or 'ray://HOST:PORT'": self.address == RAY
            or _ADDRESS.fullmatch(self.address),
            "patience to be above 0": self.patience > 0,
        }
        for what, right in expected.items():
            if not right:
                message = f"expected {what}, got {getattr(self, what.split()[0])!r}"
                raise ConfigurationError(message)


def read_workers(value: Any) -> RayWorkers:
    """Return the workers that a setting stands for.

    Args:
        value: ``ray``, ``ray://HOST:PORT``, or workers.

    Raises:
        ConfigurationError: If it is something else.
    """
    if isinstance(value, RayWorkers):
        return value
    if value == RAY or (isinstance(value, str) and _ADDRESS.fullmatch(value)):
        return RayWorkers(gpus_each=None, address=value)
    shown = repr(value) if isinstance(value, str) else type(value).__name__
    message = f"expected workers (ray, ray://HOST:PORT) or RayWorkers, got {shown}"
    raise ConfigurationError(message)
