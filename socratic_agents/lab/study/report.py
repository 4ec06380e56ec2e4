"""The report of a study: tables, plots and two pages, made of what is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from socratic_agents.core.outcome import Refinement
from socratic_agents.lab.study.aggregate import study_values
from socratic_agents.lab.study.findings import (
    study_findings,
    study_methods,
    study_warnings,
)
from socratic_agents.lab.study.folder import StudyFolder
from socratic_agents.lab.study.plots import study_plots
from socratic_agents.lab.study.tables import study_tables
from socratic_agents.lab.study.trajectory import Trajectory
from socratic_agents.report.html import data_uri, page_template
from socratic_agents.report.run_browser import Row, browser_html
from socratic_agents.storage.files import write_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from socratic_agents.lab.study.aggregate import StudyValues
    from socratic_agents.lab.study.folder import ArmRun

__all__ = ("write_report",)

SCHEMA = 1
PAGE, PROMPTS, FIGURES, TABLES = (
    "study.html",
    "prompts.html",
    "figures.json",
    "tables.md",
)


def write_report(path: Path) -> tuple[dict[str, Any], Path]:
    """Write the report of a study into its folder; no model is opened.

    Args:
        path: The folder of a study, finished or not.

    Raises:
        ConfigurationError: If it is none, or the folder cannot be written.
    """
    folder = StudyFolder(path)
    manifest = folder.manifest()
    runs = folder.runs(manifest)
    values = study_values(manifest, runs)
    tables = study_tables(values)
    figures = {
        "schema": SCHEMA,
        "study": manifest["name"],
        "title": manifest["title"],
        "n": len(manifest["prompts"]),
        "failed": _failed(values),
        "metrics": list(values.metrics),
        "against": values.against,
        "sets": manifest["sets"],
        "seeds": manifest["seeds"],
        "tables": {table.name: table.to_json() for table in tables},
        "findings": list(study_findings(values)),
        "warnings": list(study_warnings(values)),
        "notes": manifest["notes"],
        "methods": study_methods(values),
        "command": manifest["command"],
    }
    plots = study_plots(values)
    shown = [(table, *table.shown()) for table in tables if table.rows]
    page = page_template("study.html.j2").render(
        manifest=manifest,
        figures=figures,
        metric=values.metrics[0],
        tables=shown,
        plots={text: data_uri(png, kind="png") for text, png in plots.values()},
        prompts=PROMPTS,
    )
    markdown = "\n".join(table.as_markdown() for table in tables if table.rows)
    text = json.dumps(figures, indent=1, allow_nan=False)
    browser = browser_html(
        list(_rows(values, runs)),
        title=f"{manifest['title']}: all prompts",
        metric=values.metrics[0],
        intro=f"Gains are by {values.metrics[0]}. The images lie beside this page, in "
        "arms/: keep the two together.",
    )
    write_files(
        path,
        {
            FIGURES: f"{text}\n".encode(),
            TABLES: markdown.encode("utf-8", "replace"),
            **{name: png for name, (_, png) in plots.items()},
            PROMPTS: browser.encode("utf-8", "replace"),
            PAGE: page.encode("utf-8", "replace"),
        },
    )
    write_files(path / "tables", {f"{t.name}.csv": t.as_csv() for t in tables})
    return figures, path / PAGE


def _failed(values: StudyValues) -> int:
    """Return how many refinements are not there, because they failed or never ran."""
    return sum(
        not isinstance(one, Refinement)
        for arm in values.arms.values()
        for outcomes in arm.outcomes
        for one in outcomes
    )


def _rows(values: StudyValues, runs: list[ArmRun]) -> Iterator[Row]:
    """Yield the rows of the browser: every prompt of every arm, prompt by prompt."""
    several = len(values.manifest["seeds"]) > 1
    of_seed = {seed: i for i, seed in enumerate(values.manifest["seeds"])}
    for place in range(len(values.manifest["prompts"])):
        for run in runs:
            outcome = run.outcomes.get(place)
            if outcome is None:
                continue
            facts: dict[str, Any] = {"arm": run.arm, "folder": run.folder}
            if several:
                facts["arm"] = f"{run.arm}, seed {run.seed}"
            arm = values.arms[run.arm]
            trajectory = arm.trajectories[values.metrics[0]][of_seed[run.seed]][place]
            if isinstance(outcome, Refinement):
                facts |= _scored(trajectory)
            yield Row.of(outcome, **facts)


def _scored(trajectory: Any) -> Mapping[str, float | None]:
    if not isinstance(trajectory, Trajectory):
        return {"first": None, "returned": None}
    return {"first": trajectory.first.value, "returned": trajectory.selected.value}
