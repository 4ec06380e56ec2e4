"""Lettering: whether an image says what was asked for, letter by letter."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("QUOTED", "compare_text")

MOST_WRONG = 0.05
"""Share of the letters asked for that may be wrong: one of twenty, none of fewer."""
STRANGE = 0.5
"""From that share on it is another text, of which no letter is worth telling."""
MOST_TOLD = 3
"""Wrong letters that are told one by one."""
LONGEST = 300
"""Letters of a reading that are looked at."""

QUOTED = re.compile(
    r"[\"“„«]([^\"“”„«»]{1,120})[\"”“»]|"
    r"(?<!\w)['\u2018]([^'\u2019]{1,120})['\u2019](?!\w)"
)
"""A text in quotes; the apostrophe of a word is none."""
_NO_TEXT = re.compile(
    r"\b(?:no|not any|without)\b.*\b(?:text|words?|letters?|lettering|writing)\b"
    r"|^\W*(?:none|nothing|no|n/a|blank|empty)\W*$"
    r"|\b(?:illegible|unreadable|not (?:legible|readable|visible))\b",
    re.IGNORECASE,
)


def compare_text(asked: str, read: str) -> Answer:
    """Return whether a reading holds a text, and else what is wrong with its letters.

    Upper and lower case, spaces, line breaks, quotes and other punctuation do not count,
    nor do other ways to encode a letter (Unicode NFKC). Of a longer reading the words
    count that are most alike. At most one letter of twenty may be wrong, missing or too
    many; two neighbours that are swapped are one wrong letter.

    Args:
        asked: The exact text.
        read: What was read on the image; empty: nobody knows.

    Source:
        F. Damerau, A technique for computer detection and correction of spelling errors
        (CACM 1964), in the form of the optimal string alignment.
    """
    wanted, shown = _letters(asked), printable_line(read)[:LONGEST]
    if not shown:
        return Answer(said=YesNo.UNKNOWN)
    found = min(
        _windows(shown, asked), key=lambda one: _distance(wanted, _letters(one))
    )
    share = _distance(wanted, _letters(found)) / max(1, len(wanted))
    if share <= MOST_WRONG:
        return Answer(said=YesNo.YES)
    if _NO_TEXT.search(shown):
        seen = f"nothing to read, asked for {_told(asked)}"
    elif share >= STRANGE:
        seen = f"reads {_told(shown)}, asked for {_told(asked)}"
    else:
        shape = str.upper if asked.isupper() else str
        wrong = [*_differences(shape(wanted), shape(_letters(found)))]
        more = len(wrong) - MOST_TOLD
        listed = ", ".join(wrong[:MOST_TOLD]) + (f" and {more} more" * (more > 0))
        seen = f"reads {_told(found)}, asked for {_told(asked)}: {listed}"
    return Answer(said=YesNo.NO, seen=seen)


def _letters(text: str) -> str:
    """Return what counts of a text; all of it where nothing else would be left."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c for c in plain if unicodedata.category(c)[0] in "LMNS")
    return kept or "".join(plain.split())


def _told(text: str) -> str:
    """Return a text as it is told to others, in quotes and without their separators."""
    return '"' + text.strip().strip("\"'“”„").replace(";", ",")[:60] + '"'


def _windows(read: str, asked: str) -> Iterator[str]:
    """Yield the parts of a reading that may be the text: quoted ones, and its words."""
    yield read
    for quoted in QUOTED.finditer(read):
        yield quoted[1] or quoted[2]
    words, number = read.split(), len(asked.split())
    for size in {max(1, number - 1), number, number + 1}:
        for start in range(len(words) - size + 1):
            yield " ".join(words[start : start + size])


def _distance(wanted: str, found: str) -> int:
    return _table(wanted, found)[len(wanted)][len(found)]


def _table(wanted: str, found: str) -> list[list[int]]:
    """Return the edits from each beginning of one text to each of the other."""
    table = [[*range(len(found) + 1)]]
    for i, letter in enumerate(wanted, start=1):
        row = [i]
        for j, other in enumerate(found, start=1):
            best = min(
                table[i - 1][j] + 1,
                row[j - 1] + 1,
                table[i - 1][j - 1] + (letter != other),
            )
            if i > 1 and j > 1 and wanted[i - 2 : i] == other + found[j - 2]:
                best = min(best, table[i - 2][j - 2] + 1)
            row.append(best)
        table.append(row)
    return table


def _differences(wanted: str, found: str) -> Iterator[str]:
    """Yield each wrong letter in words, from the first to the last."""
    table, told = _table(wanted, found), list[str]()
    i, j = len(wanted), len(found)
    while i or j:
        here = table[i][j]
        if i and j and wanted[i - 1] == found[j - 1] and here == table[i - 1][j - 1]:
            i, j = i - 1, j - 1
        elif (
            min(i, j) > 1
            and wanted[i - 2 : i] == found[j - 1] + found[j - 2]
            and here == table[i - 2][j - 2] + 1
        ):
            told.append(f"letters {i - 1} and {i} are swapped")
            i, j = i - 2, j - 2
        elif i and j and here == table[i - 1][j - 1] + 1:
            told.append(f"letter {i} is {found[j - 1]!r}, not {wanted[i - 1]!r}")
            i, j = i - 1, j - 1
        elif i and here == table[i - 1][j] + 1:
            told.append(f"letter {i} ({wanted[i - 1]!r}) is missing")
            i -= 1
        else:
            place = f"after letter {i}" if i else "before letter 1"
            told.append(f"{found[j - 1]!r} {place} is too much")
            j -= 1
    yield from reversed(told)
