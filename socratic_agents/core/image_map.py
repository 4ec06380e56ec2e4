"""A map from images to what is known of them, which keeps no image alive."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ("WeakImageMap",)

Value = TypeVar("Value")


class WeakImageMap(Generic[Value]):
    """Values by the identity of an image, each forgotten with its image.

    PIL's images have no hash, so that no dictionary of the standard library takes them.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Image], Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __setitem__(self, image: Image, value: Value) -> None:
        number = id(image)
        # Another image may have the same number later, but not while this one lives.
        forget: Any = partial(_forget, self._entries, number)
        self._entries[number] = (weakref.ref(image, forget), value)

    def __delitem__(self, image: Image) -> None:
        del self._entries[id(image)]

    def get(self, image: Image) -> Value | None:
        """Return the value of an image, or ``None``."""
        entry = self._entries.get(id(image))
        return entry[1] if entry else None


def _forget(entries: dict[int, Any], number: int, _: object) -> None:
    entries.pop(number, None)
