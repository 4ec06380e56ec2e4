"""A table: cells as they were measured, for terminals, CSV, Markdown and pages."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = ("Table", "ends_of", "plain_text")

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With what a text begins that a spreadsheet would work out."""

PERCENT = (
    "share",
    "early stop",
    "stop is best",
    "chance",
    "later beats",
    "better than",
)
"""Columns whose values are shares, shown in percent."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table in long form: a row says of what it is."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    """Cells of each row, as many as there are columns; ``None`` where there is none."""
    name: str = ""
    title: str = ""
    note: str = ""

    def to_json(self) -> list[dict[str, Any]]:
        """Return each row as an object."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def as_csv(self) -> bytes:
        """Return it as CSV, every number as it was measured; no cell is a formula."""
        buffer = io.StringIO(newline="")
        # Both characters, or a cell with one of them would break its row.
        writer = csv.writer(buffer, lineterminator="\r\n")
        writer.writerow(self.columns)
        writer.writerows([_inert(cell) for cell in row] for row in self.rows)
        return buffer.getvalue().encode("utf-8", "replace")

    def as_markdown(self) -> str:
        """Return it as Markdown, with its title and its note."""
        columns, rows = self.shown()
        lines = [f"## {self.title}", "", self.note, ""]
        lines.append(f"| {' | '.join(columns)} |")
        lines.append(f"|{'---|' * len(columns)}")
        lines += [f"| {' | '.join(map(_escaped, row))} |" for row in rows]
        return "\n".join([*lines, ""])

    def as_rich(self, styles: Sequence[str] = ()) -> RichTable:
        """Return it for a terminal.

        Args:
            styles: Of each row; none at all: plain.
        """
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable

        columns, rows = self.shown()
        table = RichTable(
            box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
        )
        for place, name in enumerate(columns):
            # A number that does not fit is folded, never cut.
            justify = "right" if place else "left"
            table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type] # one of two
        for place, row in enumerate(rows):
            style = styles[place] if styles else ""
            table.add_row(*map(plain_text, row), style=style)
        return table

    def shown(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows as text, rounded, each interval with its value."""
        groups = _groups(self.columns)
        rows = [
            [_cell(name, [row[i] for i in places]) for name, places in groups]
            for row in self.rows
        ]
        return [name for name, _ in groups], rows


def ends_of(name: str) -> tuple[str, str]:
    """Return the names of the columns with the ends of a column's interval."""
    return f"{name} low", f"{name} high"


def plain_text(text: str, style: str = "") -> Text:
    """Return text as data: nothing in it is markup or steers a terminal."""
    from rich.text import Text

    return Text(sanitize_for_terminal(text), style=style)


def _groups(columns: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return each column that is shown, and the places of its value and its ends."""
    groups = list[tuple[str, list[int]]]()
    for place, name in enumerate(columns):
        if groups and name in ends_of(groups[-1][0]):
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
    if name.startswith(PERCENT):
        form = ".1%"
    elif name in {"difference", "since 0"}:
        form = "+.3f"
    elif name.startswith("p"):
        form = ".3g"
    elif name.startswith("tokens"):
        form = ",.0f"
    text = format(value + 0.0, form)
    if len(ends) == 2 and None not in ends:
        text += f" ({ends[0]:{form}} to {ends[1]:{form}})"
    return text


def _inert(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return cell


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
