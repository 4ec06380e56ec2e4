"""A prompt set that was read: its rows, and where they are from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets.archives import digest, read_files
from socratic_agents.lab.datasets.catalog import FILE, PROMPT_SETS
from socratic_agents.lab.datasets.download import cache_folder, fetch
from socratic_agents.lab.datasets.parsers import parse_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from socratic_agents.lab.datasets.catalog import PromptSet
    from socratic_agents.lab.datasets.download import Source
    from socratic_agents.lab.datasets.types import PromptRow

__all__ = ("LoadedSet", "load_set")


@dataclass(frozen=True, kw_only=True)
class LoadedSet:
    """A prompt set that was read."""

    prompt_set: PromptSet
    rows: tuple[PromptRow, ...]
    """At least one, in the order of the files; no id is there twice."""
    source: str
    """Where it is from: an address, or the name of a file."""
    file_sha256: str
    """What was read; of several files, that of their names and their own sha256."""
    published: bool | None
    """Whether that is the published file; ``None``: nobody could compute its sha256."""

    @property
    def questions(self) -> int:
        """How many questions its rows have."""
        return sum(len(row.questions) for row in self.rows)


def load_set(
    name: str,
    *,
    file: Path | None = None,
    column: str | None = None,
    sha256: str | None = None,
    fetch: Callable[[Source, Path], Path] = fetch,
) -> LoadedSet:
    """Read a prompt set from a file, or download it on first use.

    Args:
        name: One of ``PROMPT_SETS``.
        file: A file, a folder or a ``.zip`` that holds it; ``None`` downloads it.
        column: Where the prompts of the set ``file`` are.
        sha256: What the file must have, in hexadecimal.
        fetch: Gets a source into a folder.

    Raises:
        ConfigurationError: If the set is unknown, or its file is not there, not what
            was published, or not to be read.
    """
    chosen = PROMPT_SETS.find(name)
    parse = chosen.parse
    if column is not None:
        if name != FILE:
            message = (
                f"expected --column with the set {FILE!r} only, got it with {name!r}, "
                "whose prompts have their place; leave it out"
            )
            raise ConfigurationError(message)
        parse = partial(parse_file, column=column)
    if file is not None:
        pieces, found = read_files(file, chosen.members)
        source = file.name or str(file)
    elif chosen.sources:
        folder = cache_folder() / name
        files = [fetch(one, folder) for one in chosen.sources]
        read = [read_files(path, chosen.members) for path in files]
        pieces = tuple(piece for some, _ in read for piece in some)
        found = digest(pieces)
        source = chosen.sources[0].url
    else:
        message = f"expected --file FILE for the set {name!r}, got none; name yours"
        raise ConfigurationError(message)
    if sha256 is not None and sha256.lower() != found:
        message = (
            f"expected prompts with the sha256 {sha256.lower()}, got {found} from "
            f"{source!r}; get the right file, or leave --sha256 out"
        )
        raise ConfigurationError(message)
    rows = tuple(_distinct(parse(pieces)))
    if not rows:
        message = f"expected at least one prompt in {source!r}, got none; check it"
        raise ConfigurationError(message)
    known = {one.sha256 for one in chosen.sources}
    return LoadedSet(
        prompt_set=chosen,
        rows=rows,
        source=source,
        file_sha256=found,
        published=found in known if known and None not in known else None,
    )


def _distinct(rows: Sequence[PromptRow]) -> Iterator[PromptRow]:
    """Give each row whose id is blank or was there already one of its own."""
    taken = {row.id for row in rows}
    taken.add("")  # no id at all counts as one that was there already
    seen: Counter[str] = Counter([""])
    for row in rows:
        seen[row.id] += 1
        copy = seen[row.id]
        if copy == 1:
            yield row
            continue
        while (new := f"{row.id}#{copy}") in taken:
            copy += 1
        taken.add(new)
        yield replace(row, id=new)
