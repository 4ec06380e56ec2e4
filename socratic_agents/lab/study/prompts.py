"""The prompts of a study: a sample of each of its sets, one after the other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.datasets.filters import Filters
from socratic_agents.lab.datasets.loader import load_set
from socratic_agents.lab.datasets.sampling import Method, allocate, draw_sample
from socratic_agents.lab.datasets.types import PromptRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.study.spec import PromptSource

__all__ = ("StudyPrompt", "study_prompts")

POCKET = "pocket"
USUAL = 60
"""Prompts of the pocket world, where the study does not say."""

MOST_POCKET = 100_000
"""Prompts that are made of the pocket world; it has hardly more that differ."""


@dataclass(frozen=True, kw_only=True)
class StudyPrompt:
    """One prompt of a study."""

    source: str
    """The name of its set in the report."""
    row: PromptRow


def study_prompts(
    sources: Sequence[PromptSource],
    *,
    n: int | None = None,
    folder: Path = Path(),
    files: Mapping[str, Path] | None = None,
) -> tuple[tuple[StudyPrompt, ...], list[dict[str, Any]]]:
    """Return the prompts of a study, and how they were drawn.

    Args:
        sources: Where they come from, at least one.
        n: How many in all, shared among the sources as they share them; ``None``: as
            they say.
        folder: Their files are relative to it.
        files: Set to its file, which wins.

    Raises:
        ConfigurationError: If a set is unknown, its file is not there, or it has too
            few prompts.
    """
    titles = [source.title for source in sources]
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        message = (
            f"expected prompts with names of their own, got {twice!r} twice; give one "
            "another name"
        )
        raise ConfigurationError(message)
    counts = [source.n for source in sources]
    if n is not None:
        if n < len(sources):
            message = (
                f"expected at least {len(sources)} prompts, one of each set, got {n}; "
                "ask for more"
            )
            raise ConfigurationError(message)
        sizes = {str(i): source.n or USUAL for i, source in enumerate(sources)}
        # One of each at least; the others in proportion.
        shared = allocate(sizes, n - len(sources)) if n > len(sources) else {}
        counts = [1 + shared.get(str(i), 0) for i in range(len(sources))]
    prompts, drawn = list[StudyPrompt](), list[dict[str, Any]]()
    for source, count in zip(sources, counts, strict=True):
        rows, facts = _rows(source, count, folder, files or {})
        prompts += [StudyPrompt(source=source.title, row=row) for row in rows]
        drawn.append({"name": source.title, **facts})
    return tuple(prompts), drawn


def _rows(
    source: PromptSource, n: int | None, folder: Path, files: Mapping[str, Path]
) -> tuple[Sequence[PromptRow], dict[str, Any]]:
    if source.set_name == POCKET:
        return _of_pocket(source, USUAL if n is None else n)
    file = source.file and folder / source.file
    loaded = load_set(
        source.set_name,
        file=files.get(source.title, files.get(source.set_name, file)),
        column=source.column,
    )
    by = Method.STRATIFIED if source.stratify else Method(source.method)
    filters = Filters(min_words=source.min_words, max_words=source.max_words)
    sample = draw_sample(
        loaded.rows,
        n,
        seed=source.seed,
        method=by,
        stratify=source.stratify,
        filters=filters,
    )
    facts = {k: v for k, v in sample.to_json().items() if k not in ("ids", "prompts")}
    return sample.rows, {
        **facts,
        "set": source.set_name,
        "title": loaded.prompt_set.title,
        "source": loaded.source,
        "file_sha256": loaded.file_sha256,
        "published": loaded.published,
        "licence": loaded.prompt_set.licence,
        "citation": loaded.prompt_set.citation,
    }


def _of_pocket(
    source: PromptSource, n: int
) -> tuple[Sequence[PromptRow], dict[str, Any]]:
    """Make prompts of the pocket world, no two alike."""
    from socratic_agents.pocket import sample_prompts

    if n > MOST_POCKET:
        message = f"expected at most {MOST_POCKET:,} pocket prompts, got {n:,}"
        raise ConfigurationError(message)
    many = dict.fromkeys(sample_prompts(4 * n, source.seed, source.kind))
    if len(many) < n:
        message = (
            f"expected at most {len(many)} different prompts of the kind "
            f"{source.kind!r}, got {n}; ask for fewer"
        )
        raise ConfigurationError(message)
    texts = list(many)[:n]
    lines = "".join(f"{json.dumps(text)}\n" for text in texts)
    facts = {
        "set": POCKET,
        "title": f"made prompts of the pocket world, {source.kind}",
        "n": n,
        "seed": source.seed,
        "method": source.kind,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
    name = f"{source.kind}-{source.seed}"
    return [
        PromptRow(id=f"{name}-{i}", text=text) for i, text in enumerate(texts)
    ], facts
