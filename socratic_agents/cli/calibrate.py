"""The command ``socratic bench calibrate``."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.options import with_settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from socratic_agents.lab.bench.calibrate import MeasuredCall

__all__ = ("register",)


def register(benches: typer.Typer) -> None:
    """Add the command to those of the bench."""
    benches.command("calibrate")(_calibrate)


@with_settings
def _calibrate(
    *,
    most: Annotated[
        int, typer.Option(metavar="N", help="Items of the largest call.")
    ] = 64,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on stdout.")
    ] = False,
    overrides: dict[str, Any],
) -> int:
    """Measure the cost of calls of your models, which decides the batch sizes."""
    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.bench.calibrate import calibrate, sizes_worth_forming
    from socratic_agents.scheduler.cost_model import cache_file

    if not 1 <= most <= 4096:
        message = f"expected --most from 1 to 4096, got {most}"
        raise ConfigurationError(message)
    settings = Settings(**overrides)
    if settings.generator == "pocket":
        from socratic_agents.pocket.threads import prefer_one_thread

        prefer_one_thread()
    with redirect_stdout(sys.stderr):  # libraries may print
        costs = asyncio.run(calibrate(settings, most=most, on_cost=_print_cost))
    worth = sizes_worth_forming(costs)
    for stage, items in worth.items():
        _say(f"{stage}: batches of {items}")
    _say(f"saved in {cache_file()}")
    if as_json:
        measured = [
            {"stage": c.stage, "items": c.items, "seconds": c.seconds} for c in costs
        ]
        figures = {"schema": 1, "costs": measured, "batches": worth}
        sys.stdout.write(f"{json.dumps(figures, allow_nan=False)}\n")
    return 0


def _print_cost(cost: MeasuredCall) -> None:
    _say(
        f"{cost.stage}, {cost.items} items: {cost.seconds:.4f} s, "
        f"{cost.each:.4f} s each"
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{sanitize_for_terminal(text)}\n")
