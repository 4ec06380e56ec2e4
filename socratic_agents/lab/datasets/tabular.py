"""The records of a file: text, csv, tsv, JSON lines or parquet as rows of texts."""

from __future__ import annotations

import csv
import difflib
import json
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError

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

ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
"""The files that can be read."""

TEXT = "text"
"""The column of a file whose lines have no names."""

Record = dict[str, str]


def read_records(
    piece: SetFile, *, quoted: bool = True, columns: Sequence[str] | None = None
) -> list[Record]:
    """Return a file's rows; values that are no text are written as JSON does.

    Args:
        piece: A file that ends in one of ``ENDINGS``. A ``.txt`` and lines of JSON
            that are strings have the column ``text``.
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
            records = list(_table(piece, ",", quoted=True))
        case ".tsv":
            records = list(_table(piece, "\t", quoted=quoted))
        case ".jsonl":
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
    # Only these end a line: a form feed or U+2028 may stand within a prompt.
    lines = _text(piece).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]


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


def _table(piece: SetFile, separator: str, *, quoted: bool) -> Iterator[Record]:
    reader = csv.reader(
        StringIO(_text(piece), newline=""),
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
                    f"expected {len(names)} fields in line {reader.line_num} of "
                    f"{piece.name!r}, got {len(fields)}; the file is damaged or cut off"
                )
                raise ConfigurationError(message)
            pairs = zip(names, fields, strict=True)
            yield {name: value.strip() for name, value in pairs if name}
    except csv.Error as error:
        message = (
            f"expected a whole {piece.ending} file, got {piece.name!r} with an error in "
            f"line {reader.line_num} ({error}); it is cut off, or its quotation marks "
            "are not doubled"
        )
        raise ConfigurationError(message) from error


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
    for number, line in enumerate(_text(piece).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number} of {piece.name!r}"
        value = _json(line, place)
        if isinstance(value, str):
            value = {TEXT: value}
        if not isinstance(value, dict):
            message = (
                'expected JSON such as {"prompt": "..."} or a string in '
                f"{place}, got {type(value).__name__}; fix the line"
            )
            raise ConfigurationError(message)
        yield {name: _written(each) for name, each in value.items()}


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
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        message = (
            f"expected pyarrow to read {piece.name!r}, got none; install "
            "'socratic-agents[lab]'"
        )
        raise ConfigurationError(message) from error
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
