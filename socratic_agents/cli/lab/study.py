"""``socratic lab run``, and ``report``: run a study, and report it."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.lab.tuning import AsJson, surroundings, tell
from socratic_agents.cli.lab.tuning import register as register_templates
from socratic_agents.cli.options import with_settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.study.plan import StudyPlan

__all__ = ("register",)


def register(lab: typer.Typer) -> None:
    """Add the commands to the laboratory's."""
    lab.command("run")(_run)
    lab.command("report")(_report)
    register_templates(lab)


@with_settings
def _run(  # noqa: PLR0913 - an option each
    ctx: typer.Context,
    study: Annotated[
        str, typer.Argument(help="A built-in study, or a .yaml file of your own.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the study; the same one again resumes."
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Total number of prompts.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(metavar="SET=FILE", help="File of a prompt set."),
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Few-shot examples for the arms that use them."
        ),
    ] = None,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the maximum cost, and stop."),
    ] = False,
    overrides: dict[str, Any],
) -> int:
    """Run a study; the same command again resumes."""
    from socratic_agents.lab.study.load import read_study
    from socratic_agents.lab.study.plan import plan_study

    read, path = read_study(study)
    plan = plan_study(
        read,
        name=path.stem,
        overrides=overrides,
        n=n,
        folder=path.parent,
        files=_files(file or []),
        bank=bank,
    )
    if dry_run:
        return _print_estimate(plan, as_json=as_json)
    folder = Path(f"socratic-{path.stem}") if out is None else out
    with redirect_stdout(sys.stderr):  # libraries may print
        _go(ctx, plan, folder)
        figures = _write(folder)
    return _finish(figures, as_json=as_json)


def _report(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of a study.", show_default=False),
    ],
    *,
    as_json: AsJson = False,
) -> int:
    """Rebuild tables, plots and pages of a study; no model is opened."""
    return _finish(_write(directory), as_json=as_json)


def _go(ctx: typer.Context, plan: StudyPlan, folder: Path) -> None:
    require("scipy", "matplotlib", purpose="to report a study")
    from socratic_agents.lab.study.run import run_study

    run_study(plan, folder, by=surroundings(ctx))


def _write(folder: Path) -> dict[str, Any]:
    from socratic_agents.lab.study.report import write_report

    figures, page = write_report(folder)
    for line in (*figures["findings"], *figures["warnings"]):
        tell(line)
    tell(f"page: {page.resolve()}")
    return figures


def _finish(figures: Mapping[str, Any], *, as_json: bool) -> int:
    """Print the figures; the exit code says whether something failed."""
    if as_json:
        sys.stdout.write(f"{json.dumps(figures, allow_nan=False)}\n")
    return 1 if figures["failed"] else 0


def _print_estimate(plan: StudyPlan, *, as_json: bool) -> int:
    from socratic_agents.lab.study.cost_estimate import forecast_study

    forecast = forecast_study(plan)
    for line in forecast["lines"]:
        tell(line)
    if as_json:
        sys.stdout.write(f"{json.dumps(forecast, allow_nan=False)}\n")
    return 0


def _files(given: Sequence[str]) -> dict[str, Path]:
    files = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals or not name or not path:
            message = f"expected --file SET=FILE such as parti=prompts.tsv, got {one!r}"
            raise ConfigurationError(message)
        files[name] = Path(path)
    return files
