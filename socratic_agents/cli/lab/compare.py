"""The laboratory's command line: ``socratic lab compare``."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads it while the program runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.lab.datasets import register as register_samples
from socratic_agents.cli.lab.stress import register as register_stress
from socratic_agents.cli.lab.study import register as register_studies
from socratic_agents.cli.lab.survey import register as register_survey
from socratic_agents.cli.options import with_settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import require
from socratic_agents.core.prompts import read_prompts, sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.compare.result import Comparison, Trial

__all__ = ("lab",)

ARMS = "first,best_of_n,expand,classic_last,classic_caption,default"

lab = typer.Typer(help="Experiments: whether and why it works.", no_args_is_help=True)
register_survey(lab)
register_samples(lab)
register_studies(lab)
register_stress(lab)


@lab.callback()
def _lab() -> None:
    """Hold the commands of experiments."""


@lab.command("compare")
@with_settings
def _compare(  # noqa: PLR0913 - an option each
    *,
    arms: Annotated[
        str, typer.Option(metavar="NAMES", help="Policies to compare, with commas.")
    ] = ARMS,
    images: Annotated[
        int, typer.Option(metavar="N", help="Images per arm and prompt.")
    ] = 6,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts, .txt, .jsonl or .json.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of pocket prompts, instead of a file."),
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="foreign, canonical, or terse.")
    ] = "foreign",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Metric to report: oracle (pocket world), or a scorer that no arm selects with.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where page, plots and results go."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on stdout.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the maximum cost, and stop."),
    ] = False,
    overrides: dict[str, Any],
) -> int:
    """Compare policies at an equal number of images, with confidence intervals."""
    from socratic_agents.config.settings import Settings

    names = arms.split(",")
    settings = Settings(**overrides)
    chosen = _prompts(prompts, sample, kind, settings)
    if dry_run:
        return _print_estimate(names, settings, images, overrides, len(chosen))
    with _room(out), redirect_stdout(sys.stderr):  # libraries may print
        comparison = _run(chosen, settings, names, images, overrides, metric, out)
        if out is not None:
            page = _keep(out, comparison)
            sys.stderr.write(f"page: {sanitize_for_terminal(str(page.resolve()))}\n")
    if as_json:
        from socratic_agents.lab.compare.findings import comparison_json

        sys.stdout.write(
            f"{json.dumps(comparison_json(comparison), allow_nan=False)}\n"
        )
    return 0


@contextmanager
def _room(folder: Path | None) -> Iterator[None]:
    """Make the folder before hours are spent; remove it if nothing came of them.

    An interrupted run leaves images that nothing refers to, so they go with it.

    Raises:
        ConfigurationError: If it cannot be written.
    """
    if folder is None:
        yield
        return
    from socratic_agents.storage.files import write_files

    existed = True
    with suppress(OSError):
        existed = folder.exists()
    write_files(folder, {})
    try:
        yield
    except BaseException:
        if not existed:
            shutil.rmtree(folder / "objects", ignore_errors=True)
            with suppress(OSError):  # what else is in it is not ours to remove
                folder.rmdir()
        raise


def _run(
    prompts: Sequence[str],
    settings: Settings,
    names: Sequence[str],
    images: int,
    given: Mapping[str, Any],
    metric: str | None,
    out: Path | None,
) -> Comparison:
    """Run all arms, and print what came out; keep what they return."""
    if settings.generator == "pocket":
        from socratic_agents.pocket.threads import prefer_one_thread

        prefer_one_thread()
    if out is not None:
        require("matplotlib", purpose="to draw the plots")
    from socratic_agents.lab.compare.run import compare
    from socratic_agents.lab.compare.tables import print_table
    from socratic_agents.storage.objects import write_image

    work = compare(
        prompts,
        settings,
        arms=names,
        images=images,
        given=given,
        metric=metric,
        command=_command(),
        keep=None if out is None else partial(write_image, out),
        on_trial=_progress(len(prompts) * len(names)),
    )
    comparison = asyncio.run(work)
    print_table(comparison, sys.stderr)
    return comparison


def _progress(total: int) -> Callable[[Trial, str], None]:
    """Return what prints progress, at every tenth of the way."""
    done = 0

    def tell(_trial: Trial, _arm: str) -> None:
        nonlocal done
        done += 1
        if done * 10 // total > (done - 1) * 10 // total:
            sys.stderr.write(f"{done} of {total} trials\n")

    return tell


def _keep(folder: Path, comparison: Comparison) -> Path:
    """Write figures, trials, plots and a page into a folder; return the page."""
    from socratic_agents.lab.compare.findings import comparison_json
    from socratic_agents.lab.compare.page import comparison_html
    from socratic_agents.lab.compare.plots import anytime_plot, round_plot
    from socratic_agents.lab.compare.result import trials_jsonl
    from socratic_agents.storage.files import write_files

    plots = {
        f"{comparison.metric} of what would be returned, against images spent": (
            "anytime.png",
            anytime_plot(comparison),
        ),
        f"{comparison.metric} of the images of each round": (
            "rounds.png",
            round_plot(comparison),
        ),
    }
    shown = {caption: png for caption, (_, png) in plots.items()}
    page = comparison_html(comparison, plots=shown)
    figures = json.dumps(comparison_json(comparison), indent=2, allow_nan=False)
    files = {
        "comparison.json": f"{figures}\n".encode(),
        "trials.jsonl": "".join(f"{t}\n" for t in trials_jsonl(comparison)).encode(),
        **dict(plots.values()),
        "comparison.html": page.encode("utf-8", "replace"),
    }
    write_files(folder, files)
    return folder / "comparison.html"


def _prompts(
    file: str | None, sample: int | None, kind: str, settings: Settings
) -> list[str]:
    """Return the prompts of a file, or of the pocket world.

    Raises:
        ConfigurationError: If there are none, or one cannot be refined.
    """
    pocket = settings.generator == "pocket"
    if file is not None:
        if sample is not None:
            message = "expected --prompts or --sample, got both; leave one out"
            raise ConfigurationError(message)
        lines = read_prompts(file)
        bad = [line for line in lines if line.error]
        if bad:
            message = f"{bad[0].error} (in {file!r}); fix the file"
            raise ConfigurationError(message)
        chosen = [line.text for line in lines]
    elif not pocket:
        message = (
            "expected --prompts FILE for a generator other than pocket, got none; "
            "write the prompts one a line"
        )
        raise ConfigurationError(message)
    else:
        from socratic_agents.pocket import sample_prompts

        count = 100 if sample is None else sample
        if count < 1:
            message = f"expected --sample of at least 1, got {count}"
            raise ConfigurationError(message)
        try:
            chosen = sample_prompts(count, settings.seed, kind)  # type: ignore[arg-type]
        except ValueError as problem:
            raise ConfigurationError(str(problem)) from problem
    if pocket:
        from socratic_agents.pocket import check

        for prompt in chosen:
            check(prompt)
    return chosen


def _print_estimate(
    names: Sequence[str],
    settings: Settings,
    images: int,
    given: Mapping[str, Any],
    prompts: int,
) -> int:
    from socratic_agents.lab.compare.arms import find_arms
    from socratic_agents.runtime.cost_estimate import worst_case

    for name, policy in find_arms(names, images=images).items():
        estimate = worst_case(policy.settings(settings, images, given))
        sys.stderr.write(f"{name}: {estimate.lines(prompts)[0]}\n")
    sys.stderr.write("images that several arms share are generated once\n")
    return 0


def _command() -> str:
    """Return what was typed, without the folder of the program."""
    import shlex

    return shlex.join(["socratic", *sys.argv[1:]])
