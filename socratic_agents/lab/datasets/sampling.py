"""Samples of a prompt set: the same for the same seed, on every machine.

What is left to chance comes from SHA-256 and not from a generator of random numbers,
whose streams change with the version of its library.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets.filters import Filters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.datasets.types import PromptRow

__all__ = ("Method", "Sample", "allocate", "draw_sample")


class Method(StrEnum):
    """How a sample is drawn."""

    RANDOM = "random"
    """Every set of n prompts is as likely as any other. The sample of a smaller n with
    the same seed is part of it."""
    SYSTEMATIC = "systematic"
    """Every k-th prompt from a place that the seed says; k need not be whole."""
    STRATIFIED = "stratified"
    """From each value of a column, in proportion to how many prompts have it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Some rows of a prompt set, and how they were chosen."""

    rows: tuple[PromptRow, ...]
    """In the order of the prompt set."""
    total: int
    """Rows of the prompt set."""
    eligible: int
    """Rows that the sample was drawn from: all that were not left out."""
    excluded: Mapping[str, int]
    """Rows that were left out, by the first reason for it."""
    method: Method
    seed: int
    stratify: str | None = None
    """The column of the strata."""
    allocation: Mapping[str, int] | None = None
    """How many rows each stratum gave; some may have given none."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its rows."""
        return tuple(row.id for row in self.rows)

    @property
    def questions(self) -> int:
        """How many questions its rows have."""
        return sum(len(row.questions) for row in self.rows)

    @property
    def sha256(self) -> str:
        """A hash of the ids and texts of its rows, in order."""
        lines = (f"{json.dumps([row.id, row.text])}\n" for row in self.rows)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        allocation = None if self.allocation is None else dict(self.allocation)
        return {
            "rows": self.total,
            "eligible": self.eligible,
            "excluded": dict(self.excluded),
            "n": len(self.rows),
            "seed": self.seed,
            "method": self.method.value,
            "stratify": self.stratify,
            "allocation": allocation,
            "ids": list(self.ids),
            "prompts": [row.to_json() for row in self.rows],
            "sha256": self.sha256,
        }


def draw_sample(
    rows: Sequence[PromptRow],
    n: int | None = None,
    *,
    seed: int = 0,
    method: Method = Method.RANDOM,
    stratify: str | None = None,
    filters: Filters | None = None,
) -> Sample:
    """Draw a sample of the rows that pass a sieve.

    Args:
        rows: Of one prompt set; no id is there twice.
        n: At least 1, and no more than pass; ``None`` takes all of them.
        seed: The same rows, seed and arguments give the same sample.
        method: How to choose.
        stratify: The column of the strata, which the stratified method needs. Rows
            where it is blank are left out.
        filters: What rows must be; the default leaves out repeated texts.

    Raises:
        ConfigurationError: If there are too few rows, or no such column.
    """
    if (method is Method.STRATIFIED) != (stratify is not None):
        message = (
            "expected a column to stratify by with the method 'stratified', and only "
            f"with it, got the method {method.value!r} and the column {stratify!r}"
        )
        raise ConfigurationError(message)
    filters = Filters() if filters is None else filters
    pool, excluded = filters.apply(rows, needed=stratify)
    count = len(pool) if n is None else n
    if not 1 <= count <= len(pool):
        left = ", ".join(f"{number} {reason}" for reason, number in excluded.items())
        message = (
            f"expected 1 to {len(pool)} prompts, as many as can be drawn, got {count} "
            f"(of {len(rows)} rows; left out: {left or 'none'})"
        )
        raise ConfigurationError(message)
    allocation = None
    if stratify is not None:
        strata: dict[str, list[PromptRow]] = {}
        for row in pool:
            strata.setdefault(row.columns[stratify], []).append(row)
        sizes = {name: len(strata[name]) for name in sorted(strata)}
        allocation = allocate(sizes, count)
        chosen = {
            row.id
            for name, share in allocation.items()
            for row in _random(strata[name], share, seed)
        }
    elif method is Method.SYSTEMATIC:
        chosen = {row.id for row in _systematic(pool, count, seed)}
    else:
        chosen = {row.id for row in _random(pool, count, seed)}
    return Sample(
        rows=tuple(row for row in pool if row.id in chosen),
        total=len(rows),
        eligible=len(pool),
        excluded=excluded,
        method=method,
        seed=seed,
        stratify=stratify,
        allocation=allocation,
    )


def allocate(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """Share ``n`` places among strata in proportion to their sizes.

    Each gets its exact share rounded down; the places that are left go to the largest
    remainders, then to the larger stratum, then by name.

    Args:
        sizes: Rows of each stratum, at least 1.
        n: From 0 to the sum of the sizes.

    Source: the method of largest remainders (A. Hamilton, 1792).
    """
    total = sum(sizes.values())
    shares = {name: n * size // total for name, size in sizes.items()}
    left = n - sum(shares.values())
    order = sorted(sizes, key=lambda s: (-(n * sizes[s] % total), -sizes[s], s))
    for name in order[:left]:
        shares[name] += 1
    return shares


def _random(rows: Sequence[PromptRow], n: int, seed: int) -> list[PromptRow]:
    """Return the rows whose hashes are the smallest: each set is equally likely."""
    return nsmallest(n, rows, key=lambda row: _hash(seed, row.id))


def _systematic(rows: Sequence[PromptRow], n: int, seed: int) -> list[PromptRow]:
    """Return every k-th row, where k is the number of rows over ``n``.

    Since the steps are fractions, every row is equally likely, the last ones too.

    Source: the fractional interval method (C.-E. Särndal et al., Model Assisted Survey
    Sampling, 1992, section 3.4).
    """
    total = len(rows)
    start = int.from_bytes(_hash(seed, "start")) % total
    return [rows[(start + place * total) // n] for place in range(n)]


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, name]).encode()).digest()
