"""Hypotheses: which meanings of unknown words are worth a try, after what was seen."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.pocket.synonyms import CHOICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ("Attempt", "rank_by_score", "shuffled")

MOST = 512
"""Combinations that are compared at most."""


UNSEEN = 0.25
"""How far below the average a meaning is taken to score that was not seen."""


@dataclass(frozen=True)
class Attempt:
    """An attempt: what it took the unknown words to mean, and how well it scored."""

    meanings: Mapping[str, str]
    score: float


def rank_by_score(
    words: Mapping[str, str], attempts: Sequence[Attempt], wanted: int
) -> Iterator[dict[str, str]]:
    """Yield a meaning for every word, the most promising hypothesis first.

    As long as little was tried, all words take new meanings at the same time, so that
    two rounds try them all. Then the meanings that scored best are put together, also
    those that never stood in one prompt.

    Args:
        words: Unknown word to its kind, a key of ``CHOICES``.
        attempts: What was tried before.
        wanted: How many hypotheses are drawn in a round, at least 1.
    """
    attempts = [attempt for attempt in attempts if attempt.meanings]
    orders = {word: shuffled(word, kind) for word, kind in words.items()}
    fresh = {
        word: [m for m in order if all(m != t.meanings.get(word) for t in attempts)]
        for word, order in orders.items()
    }
    worth = {word: _by_value(word, order, attempts) for word, order in orders.items()}
    if len(attempts) <= wanted:
        for number in range(max(map(len, fresh.values()), default=0)):
            yield {
                word: fresh[word][number]
                if number < len(fresh[word])
                else (orders if not attempts else worth)[word][
                    number % len(worth[word])
                ]
                for word in words
            }
    while math.prod(map(len, worth.values())) > MOST:
        longest = max(worth, key=lambda word: len(worth[word]))
        worth[longest].pop()
    values = {word: _values(word, orders[word], attempts) for word in words}
    combinations = [
        dict(zip(worth, meanings, strict=True))
        for meanings in itertools.product(*worth.values())
    ]
    yield from sorted(
        combinations,
        key=lambda hypothesis: (
            -sum(values[word][hypothesis[word]] for word in hypothesis)
        ),
    )


def shuffled(word: str, kind: str) -> list[str]:
    """Return a word's possible meanings, in an order of its own."""
    order = list(CHOICES[kind])
    random.Random(word).shuffle(order)
    return order


def _values(
    word: str, order: Sequence[str], attempts: Sequence[Attempt]
) -> dict[str, float]:
    """Return each meaning's mean score; what is not known is below the average."""
    mean = sum(attempt.score for attempt in attempts) / max(1, len(attempts))
    values = {}
    for meaning in order:
        scores = [t.score for t in attempts if t.meanings.get(word) == meaning]
        values[meaning] = sum(scores) / len(scores) if scores else mean - UNSEEN
    return values


def _by_value(
    word: str, order: Sequence[str], attempts: Sequence[Attempt]
) -> list[str]:
    values = _values(word, order, attempts)
    return sorted(order, key=lambda meaning: -values[meaning])
