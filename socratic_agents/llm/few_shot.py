"""Examples: which of a bank of good rewrites are shown for a user prompt."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("chosen_examples", "likeness")

RUN = 3
"""Letters in a row that count as a part of a word."""

DIVERSE = 0.5
"""Weight of what an example shares with those that are chosen already, in MMR."""


def chosen_examples(
    bank: Sequence[Mapping[str, str]], user_prompt: str, *, by: str, number: int
) -> tuple[Mapping[str, str], ...]:
    """Return the examples of a bank to show for a user prompt.

    The most fitting one comes last, next to what is asked; ties go to the earlier one.

    Args:
        bank: Each with ``user_prompt``; one of this very prompt is never shown.
        user_prompt: What is asked.
        by: ``fixed``, the first ones; ``similar``, those that are most like it;
            ``mmr``, those that are like it and not like each other.
        number: How many, at least 1; there may be fewer.

    Source: J. Carbonell, J. Goldstein, "The use of MMR, diversity-based reranking for
    reordering documents and producing summaries", SIGIR 1998.
    """
    asked = _plain(user_prompt)
    left = [example for example in bank if _plain(example["user_prompt"]) != asked]
    if by == "fixed":
        return tuple(left[:number])
    weight = DIVERSE if by == "mmr" else 0.0
    chosen = left[:0]

    def worth(example: Mapping[str, str]) -> float:
        text = example["user_prompt"]
        known = [likeness(text, other["user_prompt"]) for other in chosen]
        like = likeness(text, user_prompt)
        return (1 - weight) * like - weight * max(known, default=0.0)

    while left and len(chosen) < number:
        best = max(left, key=worth)
        left.remove(best)
        chosen.append(best)
    return tuple(reversed(chosen))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def likeness(one: str, other: str) -> float:
    """Return how alike two texts are, from 0 to 1, without a model.

    It is the cosine of their counts of words and of the words' runs of three letters.
    """
    a, b = _counts(one), _counts(other)
    shared = sum(a[part] * b[part] for part in a.keys() & b.keys())
    norms = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return shared / norms if norms else 0.0


def _counts(text: str) -> Counter[str]:
    words = re.findall(r"\w+", text.casefold())
    runs = [w[i : i + RUN] for w in words for i in range(len(w) - RUN + 1)]
    return Counter([*(f"{word} " for word in words), *runs])
