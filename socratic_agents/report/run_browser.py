"""The run browser: one page of a thousand prompts, whose images lie beside it.

Only what is seen is loaded: rows as the page scrolls, details when they are opened.
"""

from __future__ import annotations

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
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from socratic_agents.core.outcome import Refinement

__all__ = ("Row", "browser_html", "is_large", "run_html")

MOST_BYTES = 12_000_000
"""Of images; with more of them inside, a page takes long to open."""

MOST_PROMPTS = 200
"""Shown in full, one beneath the other; nobody scrolls through more."""

STYLES = ("report.css", "browser.css")
SCRIPTS = ("browser.js", "browser_list.js", "browser_details.js", "browser_moves.js")


def browser_html(
    rows: Sequence[Row],
    *,
    title: str,
    metric: str = "",
    intro: str = "",
    totals: Mapping[str, Any] | None = None,
) -> str:
    """Return a whole page: a list to sort, filter and search, and details on demand.

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
    tables: dict[tuple[tuple[str, str], ...], int] = {}
    row_data = [row_json(row, tables) for row in rows]
    data = {"metric": metric, "rows": row_data, "settings": list(tables)}
    style = "".join(map(page_asset, STYLES))
    script = "".join(map(page_asset, SCRIPTS))
    return page_template("browser.html.j2").render(
        title=title,
        metric=metric,
        intro=intro,
        totals=totals,
        data=embedded_json(data),
        style=style,
        style_hash=policy_hash(style),
        script=script,
        script_hash=policy_hash(script),
    )


def run_html(outcomes: Sequence[Refinement | Failure]) -> str:
    """Return the page of a run, to be written into its directory.

    Args:
        outcomes: What came of each prompt, in the order in which to show them.
    """
    metrics = Counter(
        next(iter(one.best.scores), "")
        for one in outcomes
        if not isinstance(one, Failure)
    )
    return browser_html(
        list(map(Row.of, outcomes)),
        title="Refinement report",
        intro="The images lie beside this page, in objects/: keep the two together. "
        "Gains are by the score that ranked the images, so they flatter.",
        metric=next((name for name, _ in metrics.most_common(1)), ""),
        totals=run_totals(outcomes),
    )


def is_large(folder: Path, outcomes: Sequence[Refinement | Failure]) -> bool:
    """Return whether a run is too large for a page with all images inside.

    Args:
        folder: The run directory; images are measured, and not read.
        outcomes: What it holds.
    """
    if len(outcomes) > MOST_PROMPTS:
        return True
    histories = [one.history for one in outcomes if one.history]
    drawn = [candidate for history in histories for candidate in history.candidates]
    kept = {path for one in drawn if (path := object_path(one)) is not None}
    return sum(_size(folder / path) for path in kept) > MOST_BYTES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
