"""The records of a file: text, csv, tsv, JSON or parquet as rows of texts."""

from __future__ import annotations

import csv
import difflib
import json
import re
from contextlib import suppress
from io import BytesIO, StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from socratic_agents.lab.datasets.archives import SetFile

__all__ = (
    "ENDINGS",
    "check_columns",
    "column_hint",
    "read_json",
    "read_lines",
    "read_records",
)

ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""The files that can be read."""

SEPARATORS = (",", ";", "\t")
"""Of a ``.csv``: spreadsheets write semicolons where the comma is in numbers."""

SAMPLE = 20
"""Rows by which the separator is found."""

KNOWN = frozenset({"prompt", "text", "caption", "id"})
"""Names of columns by which a header is known."""

SAID = re.compile(r'"?sep=([,;\t|])"?(?:\r\n|\r|\n)', re.IGNORECASE)
"""A first line that says what the separator is."""

LONGEST_FIELD = 2**31 - 1
"""The largest limit that every system takes."""

TEXT = "text"
"""The column of a file whose lines have no names."""

Record = dict[str, str]


def read_records(
    piece: SetFile, *, quoted: bool = True, columns: Sequence[str] | None = None
) -> list[Record]:
    """Return a file's rows; values that are no text are written as JSON does.

    Args:
        piece: A file that ends in one of ``ENDINGS``. A ``.txt`` and strings of JSON
            have the column ``text``; fields of a ``.csv`` may have semicolons or tabs
            between them; JSON is a value a line, or a list of all.
        quoted: Whether quotation marks around a field of a ``.tsv`` are no part of it.
        columns: The columns of a ``.parquet`` to read, of those that it has; ``None``
            reads all.

    Raises:
        ConfigurationError: If it is damaged, truncated, binary, not UTF-8, or empty.
    """
    match piece.ending:
        case ".txt":
            records = [{TEXT: line} for line in read_lines(piece)]
        case ".csv":
            records = list(_table(piece, None, quoted=True))
        case ".tsv":
            records = list(_table(piece, "\t", quoted=quoted))
        case ".jsonl" | ".json":
            records = list(_json_lines(piece))
        case ".parquet":
            records = list(_parquet(piece, columns))
        case _:
            message = (
                f"expected a file that ends in {', '.join(ENDINGS)}, got "
                f"{piece.name!r}; convert or rename it"
            )
            raise ConfigurationError(message)
    if not records:
        message = f"expected at least one row in {piece.name!r}, got none; check it"
        raise ConfigurationError(message)
    return records


def read_lines(piece: SetFile) -> list[str]:
    """Return the lines of a text that are not blank.

    Raises:
        ConfigurationError: If it is binary or not UTF-8.
    """
    return [line.strip() for line in _lines(piece) if line.strip()]


def read_json(piece: SetFile) -> Any:
    """Return the value of a JSON file.

    Raises:
        ConfigurationError: If it is none.
    """
    return _json(_text(piece), repr(piece.name))


def check_columns(
    piece: SetFile, columns: Iterable[str], wanted: Iterable[str]
) -> None:
    """Check that a file has the columns of its set.

    Raises:
        ConfigurationError: If one is missing.
    """
    there = tuple(columns)
    for name in wanted:
        if name not in there:
            message = (
                f"expected a column {name!r} in {piece.name!r}, got "
                f"{_listed(there)}; give the set's own file, or read this one as the "
                "set 'file' with --column"
            )
            raise ConfigurationError(message)


def column_hint(name: str, columns: Iterable[str]) -> str:
    """Return the columns that there are, and which of them may have been meant."""
    there = list(columns)
    close = difflib.get_close_matches(name, there, n=1)
    return _listed(there) + (f"; did you mean {close[0]!r}?" if close else "")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns)) or "no column at all"


def _lines(piece: SetFile) -> list[str]:
    # Only these end a line: a form feed or U+2028 may stand within a prompt.
    return _text(piece).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _text(piece: SetFile) -> str:
    data = piece.data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = f"expected UTF-8 text in {piece.name!r}, got UTF-16; save it as UTF-8"
        raise ConfigurationError(message)
    if b"\0" in data:
        message = (
            f"expected text in {piece.name!r}, got binary data; check that it is the "
            "right file"
        )
        raise ConfigurationError(message)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = (
            f"expected UTF-8 text in {piece.name!r}, got other bytes at byte "
            f"{error.start + 1}; save it as UTF-8"
        )
        raise ConfigurationError(message) from error


def _table(piece: SetFile, separator: str | None, *, quoted: bool) -> Iterator[Record]:
    """Yield the rows of a table; ``separator`` is found out if it is ``None``."""
    text, skipped = _text(piece), 0
    # A field has no longest here; the limit is one of the whole process.
    csv.field_size_limit(max(LONGEST_FIELD, csv.field_size_limit()))
    if separator is None:
        if said := SAID.match(text):  # as spreadsheets begin a file, for each other
            separator, text, skipped = said[1], text[said.end() :], 1
        else:
            separator = _separator(text)
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    names: list[str] | None = None
    try:
        for fields in reader:
            if not fields:
                continue  # a blank line
            if names is None:
                names = _header(piece, fields)
                continue
            if len(fields) != len(names):
                message = (
                    f"expected {len(names)} fields in line {reader.line_num + skipped} of "
                    f"{piece.name!r}, got {len(fields)}; the file is damaged or cut off"
                )
                raise ConfigurationError(message)
            pairs = zip(names, fields, strict=True)
            yield {name: value.strip() for name, value in pairs if name}
    except csv.Error as error:
        message = (
            f"expected a whole {piece.ending} file, got {piece.name!r} with an error in "
            f"line {reader.line_num + skipped} ({error}); it is cut off, or its quotation marks "
            "are not doubled"
        )
        raise ConfigurationError(message) from error


def _separator(text: str) -> str:
    """Return what stands between the fields of a ``.csv``.

    It is what splits the header into names, of which one is known, and else most of
    the first rows like the header: a row may be damaged, and is told later.
    """
    split: dict[str, list[str]] = {}
    alike: dict[str, bool] = {}
    for separator in SEPARATORS:
        rows = csv.reader(StringIO(text, newline=""), delimiter=separator)
        with suppress(csv.Error):
            header, *others = [row for row in islice(rows, SAMPLE) if row] or [[]]
            if len(header) > 1:
                split[separator] = [name.strip().lower() for name in header]
                same = sum(len(row) == len(header) for row in others)
                alike[separator] = 2 * same > len(others)
    best = sorted(split, key=lambda s: (KNOWN.isdisjoint(split[s]), not alike[s]))
    fits = best and (alike[best[0]] or not KNOWN.isdisjoint(split[best[0]]))
    return best[0] if fits else SEPARATORS[0]


def _header(piece: SetFile, fields: Sequence[str]) -> list[str]:
    names = [field.strip() for field in fields]
    named = [name for name in names if name]  # an index of rows has no name
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        message = (
            f"expected names of columns in the first line of {piece.name!r}, got "
            f"{twice[0]!r} twice; rename one"
        )
        raise ConfigurationError(message)
    return names


def _json_lines(piece: SetFile) -> Iterator[Record]:
    for place, value in _json_values(piece):
        record = {TEXT: value} if isinstance(value, str) else value
        if not isinstance(record, dict):
            message = (
                'expected JSON such as {"prompt": "..."} or a string in '
                f"{place}, got {type(value).__name__}; fix it"
            )
            raise ConfigurationError(message)
        yield {name: _written(each) for name, each in record.items()}


def _json_values(piece: SetFile) -> Iterator[tuple[str, Any]]:
    """Yield the values of a file, and where each is."""
    if (text := _text(piece)).lstrip().startswith("["):
        with suppress(ValueError, RecursionError):  # else it may be lines of lists
            if isinstance(values := json.loads(text), list):
                for number, value in enumerate(values, start=1):
                    yield f"value {number} of {piece.name!r}", value
                return
    for number, line in enumerate(_lines(piece), start=1):
        if line.strip():
            place = f"line {number} of {piece.name!r}"
            yield place, _json(line, place)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = (
            f"expected JSON in {place}, got something else ({error}); it is damaged "
            "or cut off"
        )
        raise ConfigurationError(message) from error


def _parquet(piece: SetFile, columns: Sequence[str] | None) -> Iterator[Record]:
    with needs_extra(f"to read {piece.name!r}"):
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    try:
        file = ParquetFile(BytesIO(piece.data))
        there = file.schema_arrow.names
        wanted = None if columns is None else [n for n in columns if n in there]
        for batch in file.iter_batches(columns=wanted):
            written = [map(_written, column.to_pylist()) for column in batch.columns]
            names = batch.schema.names
            for values in zip(*written, strict=True):
                yield dict(zip(names, values, strict=True))
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        message = (
            f"expected a whole parquet file, got {piece.name!r}, which cannot be read "
            f"({reason}); it is damaged or cut off"
        )
        raise ConfigurationError(message) from error


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if type(value) in {int, float}:  # millions of them, and much quicker
        return repr(value)
    return json.dumps(value, default=str)
