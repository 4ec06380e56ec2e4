"""Fault points: named places where tests let things go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("reached",)

hook: Callable[[str], None] | None = None
"""Told of every point that is reached; ``None``, as always but in tests: nobody is."""


def reached(point: str) -> None:
    """Tell the hook, if there is one, that the program is at this point.

    Args:
        point: Its name, such as ``journal:append``.
    """
    if hook is not None:
        hook(point)
