"""The cells of a study's tables as text: for CSV, Markdown and pages."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.study.table import StudyTable

__all__ = ("as_csv", "as_markdown", "shown_columns", "shown_rows")

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With what a text begins that a spreadsheet would work out."""

SHARES = ("share", "early stop", "stop is best", "chance", "later beats", "better than")
"""Columns whose values are shares, shown in percent."""


def as_csv(table: StudyTable) -> bytes:
    """Return a table as CSV, every number as it was measured; no cell is a formula."""
    buffer = io.StringIO(newline="")
    # Both characters, or a cell with one of them would break its row.
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(table.columns)
    writer.writerows([_inert(cell) for cell in row] for row in table.rows)
    return buffer.getvalue().encode("utf-8", "replace")


def as_markdown(table: StudyTable) -> str:
    """Return a table as Markdown, with its title and its note."""
    columns = shown_columns(table)
    lines = [f"## {table.title}", "", table.note, ""]
    lines.append(f"| {' | '.join(columns)} |")
    lines.append(f"|{'---|' * len(columns)}")
    lines += [f"| {' | '.join(map(_escaped, row))} |" for row in shown_rows(table)]
    return "\n".join([*lines, ""])


def shown_columns(table: StudyTable) -> list[str]:
    """Return the names of the columns, each interval within that of its value."""
    return [name for name, _ in _groups(table.columns)]


def shown_rows(table: StudyTable) -> list[list[str]]:
    """Return the rows as text, rounded, each value with its interval."""
    groups = _groups(table.columns)
    return [
        [_cell(name, [row[i] for i in of]) for name, of in groups] for row in table.rows
    ]


def _groups(columns: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return each column that is shown, and the places of its value and its ends."""
    groups = list[tuple[str, list[int]]]()
    for place, name in enumerate(columns):
        if groups and name in {f"{groups[-1][0]} low", f"{groups[-1][0]} high"}:
            groups[-1][1].append(place)
        else:
            groups.append((name, [place]))
    return groups


def _cell(name: str, parts: Sequence[Any]) -> str:
    value, *ends = parts
    if value is None:
        return "-"
    if not isinstance(value, float):
        return (
            f"{value:,}"
            if isinstance(value, int)
            else sanitize_for_terminal(str(value))
        )
    form = ".3f"
    if name.startswith(SHARES):
        form = ".1%"
    elif name in {"difference", "since 0"}:
        form = "+.3f"
    elif name.startswith("p"):
        form = ".3g"
    elif name.startswith("tokens"):
        form = ",.0f"
    told = format(value + 0.0, form)
    if len(ends) == 2 and None not in ends:
        told += f" ({ends[0]:{form}} to {ends[1]:{form}})"
    return told


def _inert(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return cell


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
