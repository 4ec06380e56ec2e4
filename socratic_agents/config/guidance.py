"""Guidance grid: the strengths of the prompt of which an optimizer chooses, as text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ("grid_text", "parse_grid")

MOST = 16
"""Strengths of a grid; a prompt is drawn too seldom to tell more of them apart."""


def parse_grid(given: Any) -> tuple[float, ...]:
    """Return the strengths of a grid, in ascending order, each once.

    Args:
        given: ``"3,5,7.5"``, one number, or several; each at least 0.

    Raises:
        ValueError: If they are no such numbers, or more than 16.
    """
    several = isinstance(given, Iterable) and not isinstance(given, str)
    parts = list(given) if several else str(given).split(",")
    try:
        scales = sorted({float(part) for part in parts})
    except (TypeError, ValueError):
        scales = []
    fine = all(math.isfinite(scale) and scale >= 0 for scale in scales)
    if not (fine and 1 <= len(scales) <= MOST):
        message = (
            f"expected 1 to {MOST} strengths of the prompt, each at least 0, such as "
            f"3,5,7.5, got {given!r}; leave it out for none"
        )
        raise ValueError(message)
    return tuple(scales)


def grid_text(grid: Iterable[float]) -> str:
    """Return strengths as ``parse_grid`` reads them."""
    return ",".join(str(scale).removesuffix(".0") for scale in grid)
