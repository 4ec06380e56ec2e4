"""Prompts with questions that depend on each other, as DSG-1k and DPG-Bench write them.

Source: the format is that of the Davidsonian Scene Graph (J. Cho et al., ICLR 2024).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets.tabular import check_columns, read_records
from socratic_agents.lab.datasets.types import PromptRow, RowQuestion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.datasets.archives import SetFile
    from socratic_agents.lab.datasets.tabular import Record

__all__ = ("question_rows",)

COLUMNS = (
    *("item_id", "text", "keywords", "proposition_id", "dependency"),
    *("category_broad", "category_detailed", "tuple", "question_natural_language"),
)


def question_rows(piece: SetFile) -> list[PromptRow]:
    """Return a row for each prompt of a table that has a line for each question.

    ``source`` is the set that a prompt is from, as its id says. What a question is
    said to depend on, and is no other question of its prompt, is left out.

    Raises:
        ConfigurationError: If it is no such table, or one prompt has two texts.
    """
    records = read_records(piece)
    check_columns(piece, records[0], COLUMNS)
    items: dict[str, list[Record]] = {}
    for record in records:
        items.setdefault(record["item_id"], []).append(record)
    rows = []
    for item, lines in items.items():
        texts = {line["text"] for line in lines}
        if len(texts) > 1:
            message = (
                f"expected one text of {item!r} in {piece.name!r}, got {len(texts)}; "
                "give each prompt its own item_id"
            )
            raise ConfigurationError(message)
        rows.append(
            PromptRow(
                id=item,
                text=lines[0]["text"],
                columns={"source": re.sub(r"[_-]?[0-9]+$", "", item)},
                questions=_questions(lines),
            )
        )
    return rows


def _questions(lines: Sequence[Record]) -> tuple[RowQuestion, ...]:
    """Return the questions of one prompt, parents before their children."""
    own: dict[str, Record] = {}
    for line in lines:
        number = line["proposition_id"]
        while number in own:  # no question is lost because two have one number
            number += "'"
        own[number] = line
    parents = {
        number: [p for p in _numbers(line["dependency"]) if p in own and p != number]
        for number, line in own.items()
    }
    order = _ordered(parents)
    places = {number: place for place, number in enumerate(order)}
    return tuple(
        RowQuestion(
            id=number,
            text=own[number]["question_natural_language"],
            parents=tuple(
                sorted(places[p] for p in parents[number] if places[p] < places[number])
            ),
            requirement=own[number]["keywords"],
            category=own[number]["category_broad"],
            detail=own[number]["category_detailed"],
            fact=own[number]["tuple"],
        )
        for number in order
    )


def _numbers(dependency: str) -> list[str]:
    """Return what a question depends on, each once; ``0`` says on nothing."""
    names = (part.strip() for part in dependency.split(","))
    return [name for name in dict.fromkeys(names) if name not in {"", "0"}]


def _ordered(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the questions with parents first, and else as they came.

    Where they depend on each other in a circle, the first one counts as the parent.
    """
    order: list[str] = []
    waiting = list(parents)
    while waiting:
        ready = (n for n in waiting if not any(p in waiting for p in parents[n]))
        order.append(next(ready, waiting[0]))
        waiting.remove(order[-1])
    return order
