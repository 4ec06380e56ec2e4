"""The command line of prompt sets: ``socratic lab sets`` and ``socratic lab sample``."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads it while the program runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from socratic_agents.lab.datasets.loader import LoadedSet
    from socratic_agents.lab.datasets.sampling import Sample

__all__ = ("register",)

SCHEMA = 1
SHOWN = 5
"""Prompts that people are shown."""

AsJson = Annotated[
    bool, typer.Option("--json", help="Print it as JSON on stdout, prompts included.")
]


def register(lab: typer.Typer) -> None:
    """Give the laboratory's command line the commands of this file."""
    lab.command("sets")(_sets)
    lab.command("sample")(_sample)


def _sets(*, as_json: AsJson = False) -> int:
    """List the prompt sets, with their licences."""
    from socratic_agents.lab.datasets.catalog import PROMPT_SETS

    found = [one.entry for one in PROMPT_SETS.listed() if one.entry is not None]
    if as_json:
        sets = [one.to_json() for one in found]
        sys.stdout.write(f"{json.dumps({'schema': SCHEMA, 'sets': sets})}\n")
        return 0
    for one in found:
        sys.stderr.write(f"{one.name}: {one.title}. Licence: {one.licence}.\n")
    return 0


def _sample(  # noqa: PLR0913 - an option each
    name: Annotated[
        str, typer.Argument(metavar="SET", help="Prompt set; 'lab sets' lists them.")
    ],
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The set's file, folder or .zip; by default it is downloaded once.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the prompts in your own file."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Sample size; by default all.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="random, systematic (every k-th), or stratified."
        ),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Stratify by this column's values."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="The same seed gives the same sample."),
    ] = 0,
    min_words: Annotated[
        int | None, typer.Option(metavar="N", help="Leave out shorter prompts.")
    ] = None,
    max_words: Annotated[
        int | None, typer.Option(metavar="N", help="Leave out longer prompts.")
    ] = None,
    min_chars: Annotated[
        int | None, typer.Option(metavar="N", help="The same in characters.")
    ] = None,
    max_chars: Annotated[
        int | None, typer.Option(metavar="N", help="The same in characters.")
    ] = None,
    unique: Annotated[bool, typer.Option(help="Leave out repeated texts.")] = True,
    safe: Annotated[
        bool, typer.Option("--safe", help="Leave out prompts with unsafe words.")
    ] = False,
    unsafe_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Leave out prompts that this column rates unsafe."
        ),
    ] = None,
    unsafe_from: Annotated[
        float, typer.Option(metavar="X", help="Threshold in that column.")
    ] = 0.5,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Required SHA-256 of the file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Write the prompts, one per line."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Sample prompts of a set, deterministically by seed."""
    from socratic_agents.lab.datasets.filters import Filters
    from socratic_agents.lab.datasets.loader import load_set
    from socratic_agents.lab.datasets.sampling import Method, draw_sample

    by_strata = Method.RANDOM if stratify is None else Method.STRATIFIED
    chosen = by_strata if method is None else _method(method)
    filters = Filters(
        unique=unique,
        min_words=min_words,
        max_words=max_words,
        min_characters=min_chars,
        max_characters=max_chars,
        safe=safe,
        unsafe_column=unsafe_column,
        unsafe_from=unsafe_from,
    )
    _check_out(out, file)
    loaded = load_set(name, file=file, column=column, sha256=sha256)
    sample = draw_sample(
        loaded.rows, n, seed=seed, method=chosen, stratify=stratify, filters=filters
    )
    if out is not None:
        from socratic_agents.storage.files import write_files

        write_files(out.parent, {out.name: _lines(sample)})
    _tell(loaded, sample)
    if as_json:
        sys.stdout.write(f"{json.dumps(_figures(loaded, sample))}\n")
    return 0


def _method(name: str) -> Any:
    from socratic_agents.lab.datasets.sampling import Method

    try:
        return Method(name)
    except ValueError as error:
        names = ", ".join(Method)
        message = f"expected --method {names}, got {name!r}; choose one of these"
        raise ConfigurationError(message) from error


def _check_out(out: Path | None, file: Path | None) -> None:
    """Check where prompts go, before time is spent.

    Raises:
        ConfigurationError: If it is no ``.jsonl``, or the file that is read.
    """
    if out is None:
        return
    if out.suffix != ".jsonl":
        message = f"expected --out with a name such as prompts.jsonl, got {str(out)!r}"
        raise ConfigurationError(message)
    if file is not None and out.absolute() == file.absolute():
        message = (
            f"expected --out with another file than --file, got {str(out)!r} twice; "
            "the prompts that were not drawn would be lost"
        )
        raise ConfigurationError(message)


def _lines(sample: Sample) -> bytes:
    """Return a line of JSON for each prompt, which ``socratic batch`` reads as well."""
    lines = []
    for row in sample.rows:
        record = row.to_json()
        record["prompt"] = record.pop("text")
        lines.append(f"{json.dumps(record)}\n")
    return "".join(lines).encode()


def _figures(loaded: LoadedSet, sample: Sample) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "set": loaded.prompt_set.name,
        **sample.to_json(),
        "questions": {"set": loaded.questions, "sample": sample.questions},
        "source": loaded.source,
        "revision": loaded.prompt_set.revision,
        "licence": loaded.prompt_set.licence,
        "citation": loaded.prompt_set.citation,
        "file_sha256": loaded.file_sha256,
        "published": loaded.published,
    }


def _tell(loaded: LoadedSet, sample: Sample) -> None:
    """Say what was drawn, and what was left out, for people."""
    many = f"{len(sample.rows):,} of {sample.total:,} prompts of"
    how = f"{sample.method.value}, seed {sample.seed}"
    lines = [f"{many} {loaded.prompt_set.name} ({how}); sha256 {sample.sha256}"]
    if loaded.published is False:
        lines.append(
            f"warning: {loaded.source} is not the published file; its sha256 is "
            f"{loaded.file_sha256}"
        )
    for reason, number in sample.excluded.items():
        lines.append(f"left out: {number:,} {reason}")
    for stratum, share in (sample.allocation or {}).items():
        lines.append(f"{sample.stratify} {stratum}: {share}")
    if loaded.questions:
        lines.append(f"questions: {sample.questions:,} of {loaded.questions:,}")
    lines += [f"{row.id}: {row.text}" for row in sample.rows[:SHOWN]]
    if len(sample.rows) > SHOWN:
        lines.append(f"and {len(sample.rows) - SHOWN:,} more")
    for line in lines:
        sys.stderr.write(f"{sanitize_for_terminal(line)}\n")
