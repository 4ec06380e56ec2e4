"""Guesses: which meanings of unknown words are worth a try, after what was seen."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.pocket.synonyms import CHOICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ("Trial", "guesses", "shuffled")

MOST = 512
"""Combinations that are compared at most."""


UNSEEN = 0.25
"""How far below the average a meaning is taken to score that was not seen."""


@dataclass(frozen=True)
class Trial:
    """An attempt: what it took the unknown words to mean, and how well it scored."""

    meanings: Mapping[str, str]
    score: float


def guesses(
    words: Mapping[str, str], trials: Sequence[Trial], wanted: int
) -> Iterator[dict[str, str]]:
    """Yield a meaning for every word, the most promising guess first.

    As long as little was tried, all words take new meanings at the same time, so that
    two rounds try them all. Then the meanings that scored best are put together, also
    those that never stood in one prompt.

    Args:
        words: Unknown word to its kind, a key of ``CHOICES``.
        trials: What was tried before.
        wanted: How many guesses are drawn in a round, at least 1.
    """
    trials = [trial for trial in trials if trial.meanings]
    orders = {word: shuffled(word, kind) for word, kind in words.items()}
    fresh = {
        word: [m for m in order if all(m != t.meanings.get(word) for t in trials)]
        for word, order in orders.items()
    }
    worth = {word: _worth(word, order, trials) for word, order in orders.items()}
    if len(trials) <= wanted:
        for number in range(max(map(len, fresh.values()), default=0)):
            yield {
                word: fresh[word][number]
                if number < len(fresh[word])
                else (orders if not trials else worth)[word][number % len(worth[word])]
                for word in words
            }
    while math.prod(map(len, worth.values())) > MOST:
        longest = max(worth, key=lambda word: len(worth[word]))
        worth[longest].pop()
    values = {word: _values(word, orders[word], trials) for word in words}
    combinations = [
        dict(zip(worth, meanings, strict=True))
        for meanings in itertools.product(*worth.values())
    ]
    yield from sorted(
        combinations,
        key=lambda guess: -sum(values[word][guess[word]] for word in guess),
    )


def shuffled(word: str, kind: str) -> list[str]:
    """Return a word's possible meanings, in an order of its own."""
    order = list(CHOICES[kind])
    random.Random(word).shuffle(order)
    return order


def _values(
    word: str, order: Sequence[str], trials: Sequence[Trial]
) -> dict[str, float]:
    """Return each meaning's mean score; what is not known is below the average."""
    mean = sum(trial.score for trial in trials) / max(1, len(trials))
    values = {}
    for meaning in order:
        scores = [t.score for t in trials if t.meanings.get(word) == meaning]
        values[meaning] = sum(scores) / len(scores) if scores else mean - UNSEEN
    return values


def _worth(word: str, order: Sequence[str], trials: Sequence[Trial]) -> list[str]:
    values = _values(word, order, trials)
    return sorted(order, key=lambda meaning: -values[meaning])
