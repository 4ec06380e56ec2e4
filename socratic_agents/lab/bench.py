"""The bench's command line: ``socratic bench``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads it while the program runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.errors import ConfigurationError
from socratic_agents.prompt import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("BENCHES", "Bench", "Options", "bench")

SCHEMA = 1
LONGEST = 3600
"""Seconds of a call of a language model that anybody waits for."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every workload is told."""

    seed: int = 0
    """At least 0; what is left to chance comes from it."""
    llm_seconds: tuple[float, ...] = (1.0,)
    """Medians of a call of the language model, each above 0."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What came out, ready to be shown."""

    results: tuple[Mapping[str, Any], ...]
    """JSON values."""
    table: str
    """For people."""
    files: Mapping[str, Callable[[], bytes]]
    """What else is kept, such as plots, by the names of the files."""


def bench(
    *,
    workload: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="virtual: no models, no device.",
        ),
    ] = "virtual",
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="What is left to chance.")
    ] = 0,
    llm_seconds: Annotated[
        str,
        typer.Option(
            metavar="S,...", help="Medians of a call of the language model, in seconds."
        ),
    ] = "1.0",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where figures and plots go.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON on stdout.")
    ] = False,
) -> int:
    """Measure how well loops share a device, beside other ways to do that."""
    run = BENCHES.get(workload)
    if run is None:
        planned = workload in PLANNED
        message = (
            f"expected a workload of this version ({', '.join(BENCHES)}), got "
            f"{workload!r}, which {'is not there yet' if planned else 'is none'}; "
            "choose one that is"
        )
        raise ConfigurationError(message)
    options = Options(seed=seed, llm_seconds=_seconds(llm_seconds))
    if out is not None:
        from socratic_agents.store import write_files  # noqa: PLC0415 - keeps help quick

        write_files(out, {})  # before time is spent on what cannot be kept
    measured = run(options)
    figures = {
        "schema": SCHEMA,
        "workload": workload,
        "seed": seed,
        "results": list(measured.results),
    }
    sys.stderr.write(measured.table)
    if as_json:
        sys.stdout.write(f"{json.dumps(figures, allow_nan=False)}\n")
    if out is not None:
        data = f"{json.dumps(figures, indent=2, allow_nan=False)}\n".encode()
        write_files(out, {"bench.json": data})  # before plots, which may be impossible
        write_files(out, {name: draw() for name, draw in measured.files.items()})
        sys.stderr.write(f"figures: {printable(str(out.resolve()))}\n")
    return 0


def _seconds(text: str) -> tuple[float, ...]:
    try:
        seconds = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        seconds = ()
    if not seconds or not all(0 < one <= LONGEST for one in seconds):
        message = (
            f"expected --llm-seconds with numbers above 0 and up to {LONGEST}, such as "
            f"0.3,1,3, got {text!r}"
        )
        raise ConfigurationError(message)
    return seconds


def _virtual(options: Options) -> Bench:
    from socratic_agents.lab.standings import efficiency_plot, standings  # noqa: PLC0415 - keeps help quick
    from socratic_agents.lab.virtual import virtual_bench  # noqa: PLC0415 - keeps help quick

    results = tuple(virtual_bench(seed=options.seed, llm_seconds=options.llm_seconds))
    return Bench(
        results=results,
        table=standings(results),
        files={"bench.png": lambda: efficiency_plot(results)},
    )


BENCHES: dict[str, Callable[[Options], Bench]] = {"virtual": _virtual}
"""How to run each workload."""
PLANNED = ("pocket", "sd15", "sdxl", "turbo", "mixed", "profile")
"""Workloads that a later version runs on a device."""
