"""Stages: what a device does with lists of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

__all__ = ("AnyStage", "Stage")

Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[Item, Output]):
    """One thing that a device does with lists of items."""

    name: str
    """For messages and statistics."""
    run: Callable[[list[Item]], Sequence[Output | Exception]]
    """Blocks in the worker's thread; one output for every item, in order. An output
    that is an exception is raised where its item was submitted, and only there."""
    max_batch: int = 8
    """Items of one call, at least 1."""
    padded: bool = False
    """Pad every call to ``max_batch`` with copies of its last item. The last bits of an
    output depend on the size of its batch: with one size for all calls, an item's
    output is the same whatever else is in flight, where its place does not matter."""
    bucketed: bool = False
    """Pad every call to 1, 2, 3, 4, 6, 8, 12 … items, so that a device sees few sizes;
    ``padded`` wins over it."""
    priority: int = 0
    """The highest goes first: stages after which sessions think (captions, scores)
    before the one that keeps the device busy for long (images)."""
    model: str | None = None
    """What its calls cost is stored under this name, of the model, its device and the
    versions that run it; ``None``: only as long as the worker lives."""
    holds: str | None = None
    """Name of the model that must be on the device meanwhile; see ``residency``."""
    timeout: float | None = None
    """Seconds after which a call is taken to be stuck; ``None``: never."""
    free_memory: Callable[[], object] | None = None
    """Frees what memory can be freed; called when there is too little."""
    reduce_memory: Callable[[], object] | None = None
    """Makes the model work in smaller pieces from now on; called when there is too
    little memory for a single item."""

    def padded_size(self, items: int, *, limit: int) -> int:
        """Return with how many items, copies among them, the model is called.

        Args:
            items: At least 1.
            limit: What fits into the memory, at least ``items``.
        """
        if self.padded:
            return min(self.max_batch, limit)
        if self.bucketed:
            power = 1 << (items - 1).bit_length()
            size = power * 3 // 4 if items <= power * 3 // 4 else power
            return min(size, self.max_batch, limit)
        return items


AnyStage: TypeAlias = "Stage[Any, Any]"
"""A stage of whatever items: queues hold those of many kinds."""
