"""The command line of surveys: ``socratic lab survey`` and ``survey-results``."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads it while the program runs
from typing import TYPE_CHECKING, Annotated

import typer

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.survey.design import SurveyKey

__all__ = ("register",)

ARMS = "default,best_of_n"


def register(lab: typer.Typer) -> None:
    """Add the commands to the laboratory's."""
    lab.command("survey")(_survey)
    lab.command("survey-results")(_results)


def _survey(  # noqa: PLR0913 - an option each
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A comparison, by lab compare --out.")
    ],
    *,
    arms: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help=f"With commas; name=DIR is a batch's folder.  [default: {ARMS}]",
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(metavar="N", help="Number of image pairs.")
    ] = 100,
    repeats: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of pairs that are repeated.")
    ] = 0.1,
    catch: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of catch pairs, with a wrong image."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(metavar="S", help="Random seed.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page.  [default: DIR/survey.html]"),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve the page, and save the answers in DIR."),
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="NAME", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Port to listen on; 0 is any free one.")
    ] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name under which people open it, such as a proxy's; repeatable.",
        ),
    ] = None,
) -> int:
    """Make a page that asks people which of two images is better."""
    page = folder / "survey.html" if out is None else out
    if page.suffix != ".html":
        message = f"expected --out to end in .html, got {page.name!r}; rename it"
        raise ConfigurationError(message)
    if not (serve and arms is None and page.exists()):
        _make(folder, arms or ARMS, page, pairs, repeats, catch, seed)
    if serve:
        _serve(folder, page, host, port, name or ())
    return 0


def _results(
    files: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS.json...", help="Or their folder.")
    ],
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Key of the survey; by default the one beside the answers.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Random seed of the intervals.")
    ] = 0,
    keep_careless: Annotated[
        bool,
        typer.Option(
            "--keep-careless", help="Keep people who failed the attention checks."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on stdout.")
    ] = False,
) -> int:
    """Report what people answered, and which automatic judge agrees."""
    from socratic_agents.lab.survey.design import read_key
    from socratic_agents.lab.survey.responses import read_responses
    from socratic_agents.lab.survey.results import survey_results
    from socratic_agents.lab.survey.tables import print_results

    opened = read_key(_key_beside(files) if key is None else key)
    people = read_responses(files, key=opened, on_left_out=_say)
    results = survey_results(opened, people, keep_careless=keep_careless, seed=seed)
    print_results(results, sys.stderr)
    if as_json:
        sys.stdout.write(f"{json.dumps(results.to_json(), allow_nan=False)}\n")
    return 0


def _make(
    folder: Path,
    arms: str,
    page: Path,
    pairs: int,
    repeats: float,
    catch: float,
    seed: int,
) -> None:
    """Write the page and its key."""
    from socratic_agents.lab.survey.design import plan_survey, read_key
    from socratic_agents.lab.survey.page import survey_html
    from socratic_agents.lab.survey.sources import read_arms
    from socratic_agents.storage.files import write_files

    survey = plan_survey(
        read_arms(folder, arms), pairs=pairs, seed=seed, repeats=repeats, catch=catch
    )
    beside = page.with_suffix(".key.json")
    if beside.exists() and read_key(beside).study != survey.key.study:
        message = (
            f"expected no other survey at {page}, got one, whose answers would lose "
            "their key; choose another --out"
        )
        raise ConfigurationError(message)
    shown = survey_html(survey).encode("utf-8", "replace")
    key = survey.key.model_dump_json(indent=1, by_alias=True)
    # The key first: a page without one would gather answers that nobody can read.
    write_files(page.parent, {beside.name: f"{key}\n".encode(), page.name: shown})
    _tell_about(survey.key, pairs, page, beside, len(shown))


def _tell_about(
    key: SurveyKey, wanted: int, page: Path, beside: Path, size: int
) -> None:
    asked = sum(item.kind == "pair" for item in key.items)
    extra = f"{key.total - asked - key.repeats} catch pairs, {key.repeats} repeats"
    lines = [f"study {key.study}: {asked} pairs, {extra}, {size / 1e6:.1f} MB"]
    lines += [f"{count} not asked: {why}" for why, count in key.left_out.items()]
    if asked < wanted:
        lines.append(f"{wanted} pairs were requested; there are no more")
    lines.append(f"page: {page.resolve()}")
    lines.append(f"key: {beside.resolve()} (keep it to yourself)")
    sys.stderr.write("".join(f"{sanitize_for_terminal(line)}\n" for line in lines))


def _say(line: str) -> None:
    sys.stderr.write(f"{sanitize_for_terminal(line)}\n")
    sys.stderr.flush()


def _serve(
    folder: Path, page: Path, host: str, port: int, names: Sequence[str]
) -> None:
    """Show the page until somebody interrupts.

    Raises:
        ConfigurationError: If there is no page, or nothing can listen there.
    """
    from socratic_agents.lab.survey.design import read_key
    from socratic_agents.lab.survey.server import SurveyServer
    from socratic_agents.storage.files import read_file

    key = read_key(page.with_suffix(".key.json"))
    try:
        shown = read_file(page).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        message = f"expected a survey's page at {page}, got: {reason}; make it again"
        raise ConfigurationError(message) from error
    with SurveyServer(
        shown,
        key=key,
        folder=folder,
        host=host,
        port=port,
        names=names,
        on_answers=_say,
    ) as server:
        sys.stderr.write(f"open {server.url} and stop with Ctrl+C\n")
        sys.stderr.write(
            f"answers: {sanitize_for_terminal(str(server.folder.resolve()))}\n"
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stderr.write("stopped; the answers are kept\n")


def _key_beside(files: Sequence[Path]) -> Path:
    """Return the one key that lies beside the answers, or above their folder.

    Raises:
        ConfigurationError: If there is none, or more than one.
    """
    first = files[0]
    for folder in (first, first.parent, first.parent.parent):
        keys = sorted(folder.glob("*.key.json")) if folder.is_dir() else []
        if len(keys) == 1:
            return keys[0]
        if keys:
            break
    message = f"expected one .key.json beside {first}, got another number; use --key"
    raise ConfigurationError(message)
