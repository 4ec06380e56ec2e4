"""What is left out of a prompt set before a sample is drawn, and why."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError, PromptError
from socratic_agents.core.prompts import LONGEST, validate_prompt
from socratic_agents.lab.datasets.tabular import column_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from socratic_agents.lab.datasets.types import PromptRow

__all__ = ("UNSAFE_WORDS", "Filters", "Reason", "check_column", "is_unsafe")

UNSAFE_WORDS = frozenset(
    """
    bloody blood corpse corpses decapitated erotic erotica fetish fucking fuck
    gore gory hentai hitler incest kill killed killing lingerie mutilated murder
    murdered naked nazi nazis nipple nipples nsfw nude nudes nudity orgy penis porn
    porno pornographic rape raped sex sexual sexy slut suicide swastika topless torture
    tortured undressed vagina whore
    """.split()  # noqa: SIM905 - words are read more easily without quotes
)
"""English words that no prompt of a safe sample has. The list is short and ours: it
leaves out harmless prompts, and lets through what needs no such word."""


class Reason(StrEnum):
    """Why a row is left out; the first that holds counts."""

    UNUSABLE = "unusable"
    """Blank, far too long, or with control characters: it cannot be refined."""
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    UNSAFE = "unsafe"
    NO_VALUE = "no_value"
    """Its column for strata or safety is blank."""
    DUPLICATE = "duplicate"
    """An earlier row that is not left out has the same text, but for case, white
    space and the form of its characters."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the rows of a sample must be; a limit that is ``None`` is none."""

    unique: bool = True
    """Whether a text may be there only once."""
    min_words: int | None = None
    """At least so many; words are what stands between white space."""
    max_words: int | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    safe: bool = False
    """Whether rows with one of ``UNSAFE_WORDS`` are left out."""
    unsafe_column: str | None = None
    """A column of numbers, or of true and false, that says how unsafe a row is."""
    unsafe_from: float = 0.5
    """Rows with that value or more are left out; true is 1."""

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ConfigurationError: If nothing can pass them.
        """
        for unit, least, most in (
            ("words", self.min_words, self.max_words),
            ("characters", self.min_characters, self.max_characters),
        ):
            for limit in (least, most):
                if limit is not None and limit < 1:
                    message = f"expected a limit of at least 1 of {unit}, got {limit}"
                    raise ConfigurationError(message)
            if least is not None and most is not None and least > most:
                message = (
                    f"expected a minimum of {unit} up to the maximum, got {least} and "
                    f"{most}; exchange them"
                )
                raise ConfigurationError(message)
        if not math.isfinite(self.unsafe_from):
            message = f"expected --unsafe-from as a number, got {self.unsafe_from}"
            raise ConfigurationError(message)

    def apply(
        self, rows: Sequence[PromptRow], *, needed: str | None = None
    ) -> tuple[list[PromptRow], dict[str, int]]:
        """Return the rows that pass, in order, and how many did not, by reason.

        Args:
            rows: Of one prompt set.
            needed: A column that must not be blank.

        Raises:
            ConfigurationError: If a column is not there, blank everywhere, or has
                values that say nothing about safety.
        """
        columns = [name for name in (self.unsafe_column, needed) if name is not None]
        for column in columns:
            check_column(rows, column)
        passed: list[PromptRow] = []
        excluded: Counter[Reason] = Counter()
        seen: set[str] = set()
        for row in rows:
            reason = self._reason(row, columns)
            if reason is None and self.unique:
                text = _normal(row.text)
                reason = Reason.DUPLICATE if text in seen else None
                seen.add(text)
            if reason is None:
                passed.append(row)
            else:
                excluded[reason] += 1
        return passed, {r.value: excluded[r] for r in Reason if excluded[r]}

    def _reason(self, row: PromptRow, columns: Sequence[str]) -> Reason | None:
        text = row.text
        if not _usable(text):
            return Reason.UNUSABLE
        if reason := self._length(len(text.split()), len(text)):
            return reason
        if self.safe and is_unsafe(text):
            return Reason.UNSAFE
        if not all(row.columns.get(column, "") for column in columns):
            return Reason.NO_VALUE
        if self.unsafe_column is not None:
            value = _number(row, self.unsafe_column)
            return Reason.UNSAFE if value >= self.unsafe_from else None
        return None

    def _length(self, words: int, characters: int) -> Reason | None:
        if words < (self.min_words or 0) or characters < (self.min_characters or 0):
            return Reason.TOO_SHORT
        long = words > (self.max_words or words)
        long = long or characters > (self.max_characters or characters)
        return Reason.TOO_LONG if long else None


def _usable(text: str) -> bool:
    """Return whether a prompt can be refined; what most prompts are is seen at once."""
    if text.isprintable() and 0 < len(text) <= LONGEST and not text.isspace():
        return True
    try:
        validate_prompt(text)
    except PromptError:
        return False
    return True


def is_unsafe(text: str) -> bool:
    """Return whether a text has one of ``UNSAFE_WORDS``."""
    return not UNSAFE_WORDS.isdisjoint(re.findall(r"[^\W\d_]+", _normal(text)))


def check_column(rows: Iterable[PromptRow], column: str) -> None:
    """Check that rows have a column with values.

    Raises:
        ConfigurationError: If none has it, or it is blank everywhere.
    """
    names: dict[str, None] = {}
    for row in rows:
        if row.columns.get(column, ""):
            return
        names.update(dict.fromkeys(row.columns))
    if column in names:
        message = f"expected a column with values, got {column!r}, which is blank"
    else:
        message = (
            f"expected a column of the prompt set, got {column!r}; there are "
            f"{column_hint(column, names)}"
        )
    raise ConfigurationError(message)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _number(row: PromptRow, column: str) -> float:
    value = row.columns[column]
    try:
        number = {"true": 1.0, "false": 0.0}.get(value.lower())
        number = float(value) if number is None else number
    except ValueError:
        number = math.nan
    if math.isnan(number):
        message = (
            f"expected numbers, or true and false, in the column {column!r}, got "
            f"{value!r} in the row {row.id!r}; choose another column"
        )
        raise ConfigurationError(message)
    return number
