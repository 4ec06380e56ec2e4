"""``socratic lab stress``: the loop against models that err as they are told to."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads it while the program runs
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.lab.stress.run import CellResult

__all__ = ("register",)

Number = TypeVar("Number", int, float)


def register(lab: typer.Typer) -> None:
    """Add the command to the laboratory's."""
    lab.command("stress")(_stress)


def _stress(  # noqa: PLR0913 - an option each
    *,
    dials: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="What is turned, with commas.", show_default="all"
        ),
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(
            metavar="X,X", help="Settings, 0 to 1.", show_default="each dial's own"
        ),
    ] = None,
    images: Annotated[
        str, typer.Option(metavar="N,N", help="Images per arm and prompt.")
    ] = "3,6,12,24",
    sample: Annotated[
        int, typer.Option(metavar="N", help="Number of prompts in each cell.")
    ] = 100,
    arms: Annotated[
        str, typer.Option(metavar="NAMES", help="Policies to compare, with commas.")
    ] = "best_of_n,expand,default",
    ours: Annotated[
        str, typer.Option(metavar="NAME", help="The arm that is set beside the others.")
    ] = "default",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of prompts and images.")
    ] = 0,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cells run at the same time.")
    ] = 2,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where table and curves go.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on stdout.")
    ] = False,
) -> int:
    """Compare policies in a simulated world where each kind of error is a dial.

    The prompts, the loop and its templates are real; generator, captioner and scorer
    are simulated, and their errors are set. p is corrected over the whole table.
    """
    from socratic_agents.lab.stress.plots import stress_plot
    from socratic_agents.lab.stress.run import run_stress, stress_cells, stress_table
    from socratic_agents.storage.files import write_files

    named = _split(arms)
    if ours not in named or len(named) < 2:
        message = f"expected {ours!r} and another of --arms, got {arms}; add them"
        raise ConfigurationError(message)
    cells = stress_cells(
        dials=_split(dials or ""),
        values=_numbers("--values", values or "", float),
        images=_numbers("--images", images, int),
        prompts=sample,
        arms=named,
        seed=seed,
    )
    if out is not None:
        write_files(out, {})  # before minutes are spent
    results = run_stress(cells, processes=processes, on_cell=_progress(len(cells)))
    table = stress_table(results, ours=ours)
    if out is not None:
        files = {
            "stress.csv": table.as_csv(),
            "stress.md": table.as_markdown().encode(),
            "stress.png": stress_plot(results, ours=ours),
        }
        write_files(out, files)
    sys.stdout.write(
        f"{json.dumps(table.to_json(), allow_nan=False)}\n"
        if as_json
        else table.as_markdown()
    )
    return 0


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(one) for one in _split(text)]
    except ValueError:
        message = f"expected numbers with commas for {option}, got {text!r}"
        raise ConfigurationError(message) from None


def _progress(total: int) -> Callable[[CellResult], None]:
    """Return what prints each cell as it is done."""
    done = 0

    def tell(result: CellResult) -> None:
        nonlocal done
        done += 1
        cell = result.cell
        where = f"{cell.dial} {cell.value:g}, {cell.images} images"
        sys.stderr.write(f"{done} of {total}: {where}\n")

    return tell
