"""The bench's command line: ``socratic bench``."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads it while the program runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.calibrate import register as register_calibrate
from socratic_agents.cli.options import with_settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("BENCHES", "Bench", "Options", "benches")

SCHEMA = 1
LONGEST = 3600
"""Seconds of a call of a language model, or of a trial, that anybody waits for."""
MOST = 4096
"""Loops in flight, as for the command that refines many prompts."""
RANDOM = ("sd15", "sdxl", "turbo")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every workload can be given; ``None``: what suits it."""

    seed: int = 0
    """At least 0; what is left to chance comes from it."""
    llm_seconds: tuple[float, ...] | None = None
    """Medians of a call of the language model, each above 0."""
    loops: tuple[int, ...] | None = None
    """Numbers of loops in flight, each at least 1."""
    repeats: int | None = None
    """Trials of each scheduler, at least 1."""
    seconds: float | None = None
    """Minimum length of a trial."""
    contenders: tuple[str, ...] | None = None
    tiny: bool = False
    """Whether models of known sizes are small instead."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The user's own, for the workload that consists of them."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What came out, ready to be shown."""

    results: tuple[Mapping[str, Any], ...]
    """JSON values."""
    table: str
    """For people."""
    files: Mapping[str, Callable[[], bytes]]
    """What else is kept, such as plots, by the names of the files."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the results have in common, JSON values by name."""


benches = typer.Typer()


@benches.callback(invoke_without_command=True)
@with_settings
def _bench(  # noqa: PLR0913 - an option each
    ctx: typer.Context,
    *,
    workload: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="virtual (no models, no device), pocket, sd15, sdxl, turbo, mixed, or "
            "profile (what the settings name).",
        ),
    ] = "virtual",
    llm_seconds: Annotated[
        str | None,
        typer.Option(metavar="S,...", help="Median seconds of an LLM call."),
    ] = None,
    loops: Annotated[
        str | None, typer.Option(metavar="N,...", help="Numbers of concurrent loops.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Trials of each scheduler on a device."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Minimum length of a trial on a device."),
    ] = None,
    contenders: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Schedulers to measure, with commas."),
    ] = None,
    tiny: Annotated[
        bool,
        typer.Option("--tiny", help="Small models for sd15, sdxl and turbo."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results and plots go.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on stdout.")
    ] = False,
    overrides: dict[str, Any],
) -> int:
    """Measure how well loops share a device, beside baseline schedulers."""
    if ctx.invoked_subcommand is not None:
        return 0
    run = BENCHES.get(workload)
    if run is None:
        message = (
            f"expected a workload ({', '.join(BENCHES)}), got {workload!r}, which is "
            "none; choose one of them"
        )
        raise ConfigurationError(message)
    options = Options(
        seed=_seed(overrides.pop("seed", "0")),
        llm_seconds=_numbers("--llm-seconds", llm_seconds, float, LONGEST),
        loops=_numbers("--loops", loops, int, MOST),
        repeats=repeats,
        seconds=next(iter(_numbers("--seconds", seconds, float, LONGEST) or ()), None),
        contenders=(contenders and tuple(dict.fromkeys(contenders.split(",")))) or None,
        tiny=tiny,
        settings=overrides,
    )
    _check(workload, options)
    if out is not None:
        from socratic_agents.storage.files import write_files

        write_files(out, {})  # before time is spent on what cannot be kept
    with redirect_stdout(sys.stderr):  # libraries may print
        measured = run(options)
    figures = {
        "schema": SCHEMA,
        "workload": workload,
        "seed": options.seed,
        **measured.facts,
        "results": list(measured.results),
    }
    sys.stderr.write(measured.table)
    if as_json:
        sys.stdout.write(f"{json.dumps(figures, allow_nan=False)}\n")
    if out is not None:
        data = f"{json.dumps(figures, indent=2, allow_nan=False)}\n".encode()
        write_files(out, {"bench.json": data})  # before plots, which may be impossible
        write_files(out, {name: draw() for name, draw in measured.files.items()})
        sys.stderr.write(f"results: {sanitize_for_terminal(str(out.resolve()))}\n")
    return 0


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        message = f"expected --seed with a whole number from 0 on, got {text!r}"
        raise ConfigurationError(message)
    return int(text)


def _numbers(
    name: str, given: str | float | None, kind: type[Any], most: int
) -> tuple[Any, ...] | None:
    """Return the numbers that an option names, each once; ``None``: it is left out."""
    if given is None:
        return None
    try:
        numbers = tuple(dict.fromkeys(map(kind, str(given).split(","))))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < one <= most for one in numbers):
        example = "1,32" if kind is int else "0.3,1,3"
        message = (
            f"expected {name} with numbers above 0 and up to {most}, such as {example}, "
            f"got {str(given)!r}"
        )
        raise ConfigurationError(message)
    return numbers


def _check(workload: str, options: Options) -> None:
    """Refuse what a workload would ignore."""
    virtual, speaks = workload == "virtual", workload == "profile"
    useless = {
        **{f"--{name.replace('_', '-')}": not speaks for name in options.settings},
        "--repeats": virtual and options.repeats,
        "--seconds": virtual and options.seconds,
        "--tiny": options.tiny and workload not in RANDOM,
        "--llm-seconds": speaks and options.llm_seconds,
    }
    for name, refused in useless.items():
        if refused:
            message = (
                f"expected no {name} for workload {workload!r}, which does not use "
                "it; leave it out"
            )
            raise ConfigurationError(message)


def _known(options: Options, names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the schedulers to measure."""
    chosen = options.contenders or tuple(names)
    for name in chosen:
        if name not in names:
            message = (
                f"expected contenders out of {', '.join(names)}, got {name!r}; "
                "choose some of them"
            )
            raise ConfigurationError(message)
    return chosen


def _virtual(options: Options) -> Bench:
    from socratic_agents.lab.bench.results import efficiency_plot, efficiency_table
    from socratic_agents.lab.bench.simulated import run as virtual
    from socratic_agents.lab.bench.simulated.schedulers import SIMULATED_SCHEDULERS

    chosen: dict[str, Any] = {"contenders": _known(options, SIMULATED_SCHEDULERS)}
    if options.loops:
        chosen["loops"] = options.loops
    seconds = options.llm_seconds or (1.0,)
    found = virtual.simulate(seed=options.seed, llm_seconds=seconds, **chosen)
    results = tuple(found)
    return Bench(
        results=results,
        table=efficiency_table(results),
        files={"bench.png": lambda: efficiency_plot(results)},
    )


def _on_device(workload: str, options: Options) -> Bench:
    from socratic_agents.lab.bench.device.run import BenchPlan, run_benchmark
    from socratic_agents.lab.bench.device.schedulers import DEVICE_SCHEDULERS
    from socratic_agents.lab.bench.device.workloads import find_workload
    from socratic_agents.lab.bench.results import (
        device_table,
        efficiency_plot,
        efficiency_table,
    )

    contenders = _known(options, DEVICE_SCHEDULERS)
    if not sys.warnoptions:
        # Libraries warn programmers, not those who type a command.
        warnings.simplefilter("ignore")
    usual = find_workload(workload, tiny=options.tiny, settings=options.settings)
    plan = BenchPlan(
        loops=options.loops or usual.loops,
        llm_seconds=options.llm_seconds or (usual.llm_seconds,),
        seed=options.seed,
        repeats=options.repeats or 3,
        seconds=options.seconds or usual.seconds,
        contenders=contenders,
    )
    found, facts = run_benchmark(usual.open(options.seed), plan, report=_say)
    results = tuple(found)
    return Bench(
        results=results,
        table=efficiency_table(results) + "\n" + device_table(results),
        files={"bench.png": lambda: efficiency_plot(results)},
        facts=facts,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{sanitize_for_terminal(text)}\n")


register_calibrate(benches)

BENCHES: dict[str, Callable[[Options], Bench]] = {
    "virtual": _virtual,
    **{
        name: partial(_on_device, name)
        for name in ("pocket", *RANDOM, "mixed", "profile")
    },
}
"""How to run each workload."""
