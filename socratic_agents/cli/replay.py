"""The command ``socratic replay``: a run under other rules."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.options import with_settings
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.replay import Replayed

__all__ = ("register",)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("replay")(_replay)


@with_settings
def _replay(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results as JSON on stdout.")
    ] = False,
    overrides: dict[str, Any],
) -> int:
    """Run the search again under other rules, from recorded calls alone."""
    from socratic_agents.runtime.replay import in_words, settings_of

    settings = settings_of(directory).but(**overrides)
    with redirect_stdout(sys.stderr):  # libraries may print
        replayed = asyncio.run(_all(directory, settings))
    for one in replayed:
        _say(_line(one))
        if as_json:
            sys.stdout.write(f"{json.dumps(one.to_json(), allow_nan=False)}\n")
    done = sum(one.refinement is not None for one in replayed)
    same = sum(one.same for one in replayed)
    _say(f"{done} of {len(replayed)} replayed, {same} with the same image")
    needs = sum((Counter(one.needs) for one in replayed if one.needs), Counter[str]())
    if needs:
        _say(f"the others need at least {in_words(needs)}")
    return 0 if done == len(replayed) else 1


async def _all(directory: Path, settings: Settings) -> list[Replayed]:
    from socratic_agents.runtime.replay import replay

    return [one async for one in replay(directory, settings)]


def _line(one: Replayed) -> str:
    from socratic_agents.runtime.replay import in_words

    if one.refinement is not None:
        best, stop = one.refinement.best, one.refinement.stop
        change = "the same image" if one.same else f"{best.path} for {one.before}"
        result = f"{stop}, {change}"
    elif one.needs:
        result = f"would need at least {in_words(one.needs)}"
    else:
        result = f"failed: {one.error}"
    return f"[{one.index + 1}] {result}: {sanitize_for_terminal(one.user_prompt, longest=60)}"


def _say(line: str) -> None:
    sys.stderr.write(f"{sanitize_for_terminal(line)}\n")
