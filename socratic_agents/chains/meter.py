"""Counting what the language model costs, without passing a counter everywhere."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("Meter", "current_meter", "metered")


@dataclass
class Meter:
    """What the calls of one refinement cost; tasks started inside it count too."""

    llm_calls: int = 0
    """Requests that were sent, failed and repeated ones included."""
    input_tokens: int = 0
    output_tokens: int = 0

    def add_tokens(self, usage: Mapping[str, object] | None) -> None:
        """Add what a reply reports, where it reports anything."""
        for name in ("input_tokens", "output_tokens"):
            tokens = (usage or {}).get(name)
            if isinstance(tokens, int):
                setattr(self, name, getattr(self, name) + tokens)


_METER: ContextVar[Meter | None] = ContextVar("socratic_meter", default=None)


def current_meter() -> Meter:
    """Return the meter in force, or one that nobody reads."""
    return _METER.get() or Meter()


@contextmanager
def metered(meter: Meter | None = None) -> Iterator[Meter]:
    """Count all calls made inside into one meter.

    Args:
        meter: Count on in this one; a fresh one by default.
    """
    meter = meter if meter is not None else Meter()
    token = _METER.set(meter)
    try:
        yield meter
    finally:
        _METER.reset(token)
