"""Counts: how many of something an image shows, as probabilities of numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("NUMBER_WORDS", "Count", "read_number")

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen twenty"
)
NUMBER_WORDS: dict[str, int] = {w: n for n, w in enumerate(_WORDS.split())}
"""English words of numbers that people count with."""

_NUMBER = re.compile(
    rf"(?<![\d.,])\b(\d{{1,4}}|{'|'.join(NUMBER_WORDS)}|no|none)\b(?![.,]\d)"
)

NEGLIGIBLE = 1e-4
"""Shares below it are not kept."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many of something one image shows."""

    number: int | None
    """The likeliest; ``None``: nobody knows."""
    shares: Mapping[int, float] = field(default_factory=dict)
    """P(number) of those numbers that were heard, together 1; empty where only text
    came."""

    @classmethod
    def of(cls, heard: Mapping[int, float]) -> Count:
        """Return the count of probabilities that need not add up to 1."""
        total = sum(heard.values())
        shares = {n: heard[n] / total for n in sorted(heard)}
        likeliest = max(shares, key=lambda number: shares[number])
        kept = {n: share for n, share in shares.items() if share >= NEGLIGIBLE}
        return cls(number=likeliest, shares=kept)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        shares = {str(number): share for number, share in self.shares.items()}
        return {"number": self.number, "shares": shares}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Count:
        """Read the JSON form."""
        shares = {int(number): share for number, share in data["shares"].items()}
        return cls(number=data["number"], shares=shares)


def read_number(text: str) -> int | None:
    """Return the first number that a text says, in digits or in words, if it says one."""
    found = _NUMBER.search(text.lower())
    if found is None:
        return None
    said = found[1]
    if said.isdecimal():
        return int(said)
    return NUMBER_WORDS.get(said, 0)
