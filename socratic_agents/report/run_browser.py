"""The run browser: one page of a thousand prompts, whose images lie beside it.

Only what is seen is loaded: rows as the page scrolls, details when they are opened.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from socratic_agents.core.outcome import Failure
from socratic_agents.report.html import (
    embedded_json,
    page_asset,
    page_template,
    policy_hash,
    run_totals,
)
from socratic_agents.report.run_browser_rows import Row, object_path, row_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from socratic_agents.core.outcome import Refinement

__all__ = ("Row", "browser_html", "browser_parts", "is_large", "run_parts")

MOST_BYTES = 12_000_000
"""Of images; with more of them inside, a page takes long to open."""

MOST_PROMPTS = 200
"""Shown in full, one beneath the other; nobody scrolls through more."""

ROWS = "<rows>"
"""Where the rows come; text is escaped, so that it cannot hold this mark."""

STYLES = ("report.css", "browser.css")
SCRIPTS = ("browser.js", "browser_list.js", "browser_details.js", "browser_moves.js")


def browser_html(rows: Iterable[Row], **page: Any) -> str:
    """Return a whole page at once; arguments as for ``browser_parts``."""
    return "".join(browser_parts(rows, **page))


def browser_parts(
    rows: Iterable[Row],
    *,
    title: str,
    metric: str = "",
    intro: str = "",
    totals: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Return a whole page: a list to sort, filter and search, and details on demand.

    It comes in parts, each row when it is needed.

    Images are not inside: write the page where the rows' folders say it lies. The
    n-th row, from 1, is opened by the address ``#row-n``.

    Args:
        rows: In the order in which to show them first.
        title: Of the page.
        metric: Name of the score of ``first`` and ``returned``; empty if there is none.
        intro: Stands above the list. Text is escaped; HTML must be a ``Markup`` of
            markupsafe, and carry no style or script of its own.
        totals: What ``run_totals`` returned, to be shown above the list.
    """
    style = "".join(map(page_asset, STYLES))
    script = "".join(map(page_asset, SCRIPTS))
    html = page_template("browser.html.j2").render(
        title=title,
        metric=metric,
        intro=intro,
        totals=totals,
        data=ROWS,
        style=style,
        style_hash=policy_hash(style),
        script=script,
        script_hash=policy_hash(script),
    )
    head, tail = html.split(ROWS)
    yield f'{head}{{"metric":{embedded_json(metric)},"rows":['
    tables: dict[tuple[tuple[str, str], ...], int] = {}
    for number, row in enumerate(rows):
        yield f"{',' if number else ''}{embedded_json(row_json(row, tables))}"
    yield f'],"settings":{embedded_json(list(tables))}}}{tail}'


def run_parts(outcomes: Iterable[Refinement | Failure]) -> Iterator[str]:
    """Return the page of a run in parts, to be written into its directory.

    Args:
        outcomes: What came of each prompt, in the order in which to show them; they
            are gone through twice.
    """
    metrics: Counter[str] = Counter()

    def counted() -> Iterator[Refinement | Failure]:
        for one in outcomes:
            if not isinstance(one, Failure):
                metrics[next(iter(one.best.scores), "")] += 1
            yield one

    totals = run_totals(counted())
    return browser_parts(
        map(Row.of, outcomes),
        title="Refinement report",
        intro="The images lie beside this page, in objects/: keep the two together. "
        "Gains are by the score that ranked the images, so they flatter.",
        metric=next((name for name, _ in metrics.most_common(1)), ""),
        totals=totals,
    )


def is_large(folder: Path, outcomes: Iterable[Refinement | Failure]) -> bool:
    """Return whether a run is too large for a page with all images inside.

    Args:
        folder: The run directory; images are measured, and not read.
        outcomes: What it holds.
    """
    first = list(itertools.islice(outcomes, MOST_PROMPTS + 1))
    if len(first) > MOST_PROMPTS:
        return True
    histories = [one.history for one in first if one.history]
    drawn = [candidate for history in histories for candidate in history.candidates]
    kept = {path for one in drawn if (path := object_path(one)) is not None}
    return sum(_size(folder / path) for path in kept) > MOST_BYTES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
