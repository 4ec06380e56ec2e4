"""Failpoints: named places in the code where tests inject faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("failpoint",)

hook: Callable[[str], None] | None = None
"""Called with the name of every failpoint; ``None`` except in tests."""


def failpoint(name: str) -> None:
    """Call the hook, if there is one.

    Args:
        name: Of the place, such as ``journal:append``.
    """
    if hook is not None:
        hook(name)
