"""What the files of each prompt set look like: bytes to rows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets.question_formats import question_rows
from socratic_agents.lab.datasets.tabular import (
    check_columns,
    column_hint,
    read_json,
    read_lines,
    read_records,
)
from socratic_agents.lab.datasets.types import PromptRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from socratic_agents.lab.datasets.archives import SetFile

    Parse = Callable[[Sequence[SetFile]], list[PromptRow]]

__all__ = (
    "COMPBENCH",
    "parse_coco",
    "parse_compbench",
    "parse_diffusiondb",
    "parse_dpg",
    "parse_dsg",
    "parse_file",
    "parse_geneval",
    "parse_parti",
)

COMPBENCH = (
    "3d_spatial",
    "color",
    "complex",
    "non_spatial",
    "numeracy",
    "shape",
    "spatial",
    "texture",
)
"""The categories of T2I-CompBench, which its files are named for."""

COCO_IMAGES = "http://images.cocodataset.org/val2014/COCO_val2014_{:012}.jpg"
"""Where the images of the captions lie that come without an address."""

DIFFUSIONDB = ("prompt", "image_name", "part_id", "image_nsfw", "prompt_nsfw")
"""What is read of its metadata: who wrote a prompt, and when, is nobody's business."""

PROMPT_COLUMNS = ("prompt", "text", "caption")
"""Where a file's prompts are looked for, first come first served."""


def parse_parti(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return PartiPrompts: ``Prompt``, ``Category``, ``Challenge``, ``Note``."""
    rows = []
    for piece in pieces:
        # Its fields are not quoted: one prompt begins with a quotation mark.
        records = read_records(piece, quoted=False)
        check_columns(piece, records[0], ("Prompt", "Category", "Challenge"))
        rows += [
            PromptRow(id=f"parti_{place}", text=record.pop("Prompt"), columns=record)
            for place, record in enumerate(records, start=1)
        ]
    return rows


def parse_coco(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return captions of COCO, of the official JSON or a table, with their images."""
    rows: list[PromptRow] = []
    for piece in pieces:
        if piece.ending == ".json":
            rows += _annotations(piece, read_json(piece))
            continue
        records = read_records(piece)
        check_columns(piece, records[0], ("image_id", "prompt"))
        rows += [
            PromptRow(
                id=record["image_id"],
                text=record.pop("prompt"),
                columns=record,
                reference=_photograph(record["image_id"]),
            )
            for record in records
        ]
    return rows


def parse_diffusiondb(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return the prompts of DiffusionDB's metadata, without the names of users."""
    rows = []
    for piece in pieces:
        records = read_records(piece, columns=DIFFUSIONDB)
        check_columns(piece, records[0], ("prompt", "image_name"))
        for record in records:
            kept = {name: record[name] for name in DIFFUSIONDB[2:] if name in record}
            name = record["image_name"].rpartition(".")[0] or record["image_name"]
            rows.append(PromptRow(id=name, text=record["prompt"], columns=kept))
    return rows


def parse_dsg(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return DSG-1k with its questions; ``source`` is the set a prompt is from."""
    return [row for piece in pieces for row in question_rows(piece)]


def parse_dpg(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return DPG-Bench: its table with questions, or a text for each prompt."""
    rows: list[PromptRow] = []
    for piece in pieces:
        if piece.ending == ".txt":
            text = " ".join(read_lines(piece))
            rows.append(PromptRow(id=piece.stem, text=text))
        else:
            rows += question_rows(piece)
    return rows


def parse_geneval(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return GenEval: ``tag`` is the task; ``include`` says what must be seen."""
    rows = []
    for piece in pieces:
        records = read_records(piece)
        check_columns(piece, records[0], ("tag", "prompt"))
        rows += [
            PromptRow(
                id=f"geneval_{place}", text=record.pop("prompt", ""), columns=record
            )
            for place, record in enumerate(records, start=1)
        ]
    return rows


def parse_compbench(pieces: Sequence[SetFile]) -> list[PromptRow]:
    """Return T2I-CompBench: ``category`` and ``split`` are in the names of files."""
    names = "|".join(COMPBENCH)
    rows = []
    for piece in pieces:
        parts = re.fullmatch(rf"({names})(?:_(\w+))?", piece.stem)
        category, split = parts.groups() if parts else (piece.stem, None)
        columns = {"category": category, "split": split or "all"}
        rows += [
            PromptRow(id=f"{piece.stem}_{place}", text=line, columns=columns)
            for place, line in enumerate(read_lines(piece), start=1)
        ]
    return rows


def parse_file(pieces: Sequence[SetFile], column: str | None = None) -> list[PromptRow]:
    """Return the prompts of anybody's file.

    Args:
        pieces: The file.
        column: Where the prompts are; ``None`` takes ``prompt``, ``text`` or
            ``caption`` in any case, or the only column that there is.

    Raises:
        ConfigurationError: If there is no such column.
    """
    rows = []
    for piece in pieces:
        records = read_records(piece)
        names = tuple(dict.fromkeys(name for record in records for name in record))
        chosen = _prompt_column(piece, names) if column is None else column
        if chosen not in names:
            message = (
                f"expected --column with a column of {piece.name!r}, got {chosen!r}; "
                f"there are {column_hint(chosen, names)}"
            )
            raise ConfigurationError(message)
        ids = [record.get("id", "") for record in records]
        named = all(ids) and len(set(ids)) == len(ids)
        for place, record in enumerate(records, start=1):
            own = record.pop("id") if named and chosen != "id" else str(place)
            rows.append(PromptRow(id=own, text=record.pop(chosen, ""), columns=record))
    return rows


def _prompt_column(piece: SetFile, names: Sequence[str]) -> str:
    lower = {name.lower(): name for name in reversed(names)}
    for name in PROMPT_COLUMNS:
        if name in lower:
            return lower[name]
    if len(names) == 1:
        return names[0]
    message = (
        f"expected a column {', '.join(PROMPT_COLUMNS)} in {piece.name!r}, got "
        f"{column_hint('', names)}; name the right one with --column"
    )
    raise ConfigurationError(message)


def _annotations(piece: SetFile, value: Any) -> Iterator[PromptRow]:
    try:
        images = {image["id"]: image for image in value["images"]}
        for annotation in value["annotations"]:
            image = images[annotation["image_id"]]
            yield PromptRow(
                id=str(annotation["id"]),
                text=annotation["caption"].strip(),
                columns={
                    "image_id": str(annotation["image_id"]),
                    "file_name": str(image["file_name"]),
                },
                reference=image.get("coco_url") or None,
            )
    except (KeyError, TypeError, AttributeError) as error:
        message = (
            f"expected COCO's captions in {piece.name!r}, with images and annotations, "
            f"got something else ({type(error).__name__}: {json.dumps(str(error))}); "
            "give a file such as captions_val2017.json"
        )
        raise ConfigurationError(message) from error


def _photograph(image: str) -> str | None:
    return COCO_IMAGES.format(int(image)) if re.fullmatch(r"[0-9]+", image) else None
