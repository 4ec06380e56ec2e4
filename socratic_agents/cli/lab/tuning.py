"""``socratic lab harvest`` and ``evolve``: better words for the optimizer."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.options import with_settings
from socratic_agents.config.catalog import LANGUAGE_MODEL
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.lab.study.plan import StudyPlan
    from socratic_agents.lab.study.run import StudyContext

__all__ = ("AsJson", "register", "surroundings", "tell")

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the results as JSON on stdout.")
]


def register(lab: typer.Typer) -> None:
    """Add the commands to the laboratory's."""
    lab.command("harvest")(_harvest)
    lab.command("evolve")(_evolve)


def surroundings(ctx: typer.Context) -> StudyContext:
    """Return what a study needs of the command line."""
    from socratic_agents.lab.study.run import StudyContext

    return StudyContext(
        open_refiner=ctx.obj.open_refiner,
        interruption=ctx.obj.interruption,
        report=tell,
        command=shlex.join(["socratic", *sys.argv[1:]]),
    )


def tell(line: str) -> None:
    """Print a line for people, at once."""
    sys.stderr.write(f"{sanitize_for_terminal(line)}\n")
    sys.stderr.flush()


def _harvest(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a run or a study.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Output file: .jsonl, or .yaml.")
    ],
    min_gain: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=0.0,
            help="Minimum gain, by the score that ranked the images.",
        ),
    ] = 0.05,
    arm: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this arm of a study.")
    ] = None,
) -> int:
    """Mine good rewrites from a run, as examples for a template."""
    from socratic_agents.lab.tuning.mine_examples import as_bank, harvest_folder
    from socratic_agents.storage.files import write_files

    as_bank((), ending=out.suffix)  # before time is spent
    found = harvest_folder(directory, min_gain=min_gain, arm=arm)
    if not found:
        message = (
            f"expected rewrites with a gain of at least {min_gain:g} in {directory}, got "
            "none; lower --min-gain, or take a run whose images were scored"
        )
        raise ConfigurationError(message)
    write_files(out.parent, {out.name: as_bank(found, ending=out.suffix)})
    tell(
        f"{len(found)} examples, gains from {found[-1].gain:.3f} to {found[0].gain:.3f}"
    )
    return 0


@with_settings
def _evolve(  # noqa: PLR0913 - an option each
    ctx: typer.Context,
    study: Annotated[
        str, typer.Argument(help="A built-in study, or a .yaml file of your own.")
    ],
    *,
    reflect: Annotated[
        str, typer.Option(metavar="NAME", help="Language model that writes blocks.")
    ],
    rollouts: Annotated[
        int,
        typer.Option(
            metavar="N", help="Refinements for the search; testing takes more."
        ),
    ] = 200,
    arm: Annotated[
        str | None, typer.Option(metavar="NAME", help="Arm whose template is evolved.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the template and the test results go."),
    ] = Path("socratic-evolution"),
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Total number of prompts.")
    ] = None,
    as_json: AsJson = False,
    overrides: dict[str, Any],
) -> int:
    """Evolve a template by the loop's gain; accept it only with a held-out gain."""
    from socratic_agents.lab.study.load import read_study
    from socratic_agents.lab.study.plan import plan_study
    from socratic_agents.lab.tuning.study_evolve import evolve_study

    read, path = read_study(study)
    plan = plan_study(
        read, name=path.stem, overrides=overrides, n=n, folder=path.parent
    )
    writer = _writer(plan, reflect)
    with redirect_stdout(sys.stderr):  # libraries may print
        found = evolve_study(
            plan, out, by=surroundings(ctx), reflect=writer, rollouts=rollouts, arm=arm
        )
    tell(found.reason)
    if as_json:
        sys.stdout.write(f"{json.dumps(found.to_json(), allow_nan=False)}\n")
    return 0


def _writer(plan: StudyPlan, name: str) -> Callable[[str], str]:
    """Return the language model that reflects: text in, text out."""
    from socratic_agents.runtime.build import check_keys
    from socratic_agents.runtime.language_model import (
        language_model_address,
        open_language_model,
    )

    unfit = {
        "pocket": "which is rule-based",
        "captioner": "which is opened with a refiner alone",
    }
    if name in unfit:
        message = (
            f"expected --reflect with a language model that writes freely, got {name!r}, "
            f"{unfit[name]}; name one, such as {LANGUAGE_MODEL}"
        )
        raise ConfigurationError(message)
    settings = plan.base.but(llm=name)
    if language_model_address(settings) != language_model_address(plan.base):
        settings = settings.but(api_key=None)  # it is meant for somebody else
    check_keys(settings, speaks=True)
    model = open_language_model(settings)
    return lambda text: str(model.invoke(text).text)
