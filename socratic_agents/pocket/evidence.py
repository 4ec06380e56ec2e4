"""Evidence: what the checklist's answers on an image tell of unknown words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.pocket.hypotheses import shuffled
from socratic_agents.pocket.synonyms import MARK, parse_known, reordered
from socratic_agents.pocket.vocabulary import FILLERS, GROUNDS, OBJECT_WORDS, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from socratic_agents.pocket.prompt_parser import SceneSpec

__all__ = ("Evidence", "find_evidence", "rank_by_evidence")

LIKELY = 3
"""Meanings of each word that are put together with those of the others."""

SILENT = FILLERS | GROUNDS | OBJECT_WORDS
"""Words of a requirement that say nothing of what is asked for."""


@dataclass(frozen=True)
class Evidence:
    """One word was looked for on an image: which meanings it may have then."""

    word: str
    among: frozenset[str]
    """What the image shows of the word's kind."""
    found: bool
    """Whether the word was found: then it means one of these, and else none."""

    def allows(self, meaning: str) -> bool:
        """Return whether a meaning agrees with this."""
        return (meaning in self.among) == self.found


def find_evidence(
    unknown: Mapping[str, str],
    *,
    caption: str,
    passed: Sequence[str],
    failed: Sequence[str],
) -> list[Evidence]:
    """Return what one attempt tells.

    Args:
        unknown: Unknown word to its kind, a key of ``CHOICES``.
        caption: What it shows.
        passed: The requirements that it fulfils.
        failed: Those that it does not.
    """
    shown = parse_known(caption)
    if shown is None:
        return []
    fine = {word for one in passed for word in _content(one)}
    found = []
    for requirements, came in ((passed, True), (failed, False)):
        for requirement in requirements:
            words = _content(requirement)
            open_words = [word for word in words if word in unknown]
            others = [word for word in words if word not in unknown]
            if len(open_words) != 1:
                continue
            word = open_words[0]
            # A failure tells of the one word that is left when the others are there.
            if not came and (word in fine or not fine.issuperset(others)):
                continue
            among = _among(unknown[word], requirement, shown)
            if among:
                found.append(Evidence(word, frozenset(among), came))
    return found


def _among(kind: str, requirement: str, shown: SceneSpec) -> set[str]:
    """Return the words of a kind that an image shows where the rest is there too."""
    if kind == "background":
        return {shown.background} if shown.background else set()
    wanted = parse_known(requirement)
    if wanted is None or (len(wanted.objects) > 1) != (kind == "relation"):
        return set()
    known = [
        {word for word in vars(obj).values() if word and not word.startswith(MARK)}
        for obj in wanted.objects
    ]
    found = set[str | None]()
    for way in (shown, reordered(shown)):
        if len(known) > len(way.objects):
            continue
        if all(
            k <= set(vars(t).values()) for k, t in zip(known, way.objects, strict=False)
        ):
            pair = kind == "relation"
            found.add(way.relation if pair else getattr(way.objects[0], kind))
    return {word for word in found if word}


def rank_by_evidence(
    words: Mapping[str, str], found: Sequence[Evidence]
) -> Iterator[dict[str, str]]:
    """Yield a meaning for every word, the hypothesis first that agrees with most evidence.

    Meanings that agree equally well are tried for all words at the same time, and then
    the best ones are put together.

    Args:
        words: Unknown word to its kind, a key of ``CHOICES``.
        found: All evidence so far.
    """
    against: dict[str, dict[str, int]] = {
        word: {
            meaning: sum(c.word == word and not c.allows(meaning) for c in found)
            for meaning in shuffled(word, kind)
        }
        for word, kind in words.items()
    }
    orders = {
        word: sorted(counts, key=counts.__getitem__) for word, counts in against.items()
    }
    best = {
        word: [m for m in order if against[word][m] == against[word][order[0]]]
        for word, order in orders.items()
    }
    for number in range(max(map(len, best.values()), default=0)):
        yield {word: group[number % len(group)] for word, group in best.items()}
    likely = [[(word, m) for m in order[:LIKELY]] for word, order in orders.items()]
    combinations = [dict(pairs) for pairs in itertools.product(*likely)]
    yield from sorted(
        combinations,
        key=lambda hypothesis: sum(against[w][m] for w, m in hypothesis.items()),
    )


def _content(requirement: str) -> list[str]:
    return [word for word in words_of(requirement) if word not in SILENT]
