"""The command line: ``socratic refine | batch | report | bench | doctor | plugins | lab``.

Machine output goes to stdout and nothing else does. Exit codes: 0 done, 1 some
prompts failed, 2 wrong usage or configuration, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from socratic_agents.cli.bench import benches
from socratic_agents.cli.doctor import register as register_doctor
from socratic_agents.cli.lab.compare import lab
from socratic_agents.cli.plugins import register as register_plugins
from socratic_agents.cli.refine import Context
from socratic_agents.cli.refine import register as register_refine
from socratic_agents.cli.replay import register as register_replay
from socratic_agents.cli.show import register as register_show
from socratic_agents.core.errors import ConfigurationError, SocraticError
from socratic_agents.core.extras import needs_extra
from socratic_agents.core.prompts import sanitize_for_terminal
from socratic_agents.runtime.interrupts import InterruptHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.refiner import Refiner

    OpenRefiner = Callable[[Settings], Refiner]

__all__ = ("main",)

INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Refine text-to-image prompts by looking at what was drawn.",
    pretty_exceptions_enable=False,
)

app.add_typer(lab, name="lab")
app.add_typer(benches, name="bench")
register_refine(app)
register_show(app)
register_replay(app)
register_plugins(app)
register_doctor(app)


def main(
    arguments: Sequence[str] | None = None, *, open_refiner: OpenRefiner | None = None
) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: What follows the program's name; ``None`` takes the process's own.
        open_refiner: Makes the refiner of a command, for programs that bring theirs.
    """
    if arguments is None:
        _print_all()
    given = sys.argv[1:] if arguments is None else list(arguments)
    interruption = InterruptHandler(_say)
    context = Context(open_refiner or _open_refiner, interruption)
    try:
        with interruption.handling(), _heard(), needs_extra("for this command"):
            code: int | None = app(
                given, prog_name="socratic", standalone_mode=False, obj=context
            )
    except TyperException as error:
        return _failed(f"{error.format_message()} See 'socratic --help'.", 2)
    except ConfigurationError as error:
        return _failed(str(error), 2)
    except SocraticError as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if interruption.code or code == INTERRUPTED:
        again = shlex.join(["socratic", *given])
        message = f"interrupted; run the same command again to resume: {again}"
        return _failed(message, interruption.code or INTERRUPTED)
    return code or 0


class _Lines(logging.Handler):
    """Prints what the library warns of, each on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning."""
        _say(record.getMessage())


@contextmanager
def _heard() -> Iterator[None]:
    """Print our own warnings, while those of other libraries are silenced."""
    log, handler = logging.getLogger("socratic_agents"), _Lines(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _print_all() -> None:
    """Print what the terminal's encoding lacks by its number, as Python code has it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(line: str) -> None:
    sys.stderr.write(f"{sanitize_for_terminal(line)}\n")


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"error: {sanitize_for_terminal(message)}\n")
    return code


def _open_refiner(settings: Settings) -> Refiner:
    from socratic_agents.runtime.refiner import Refiner

    if not sys.warnoptions:
        # Libraries warn programmers, not those who type a command.
        warnings.simplefilter("ignore")
    if settings.generator == "pocket":
        from socratic_agents.pocket.threads import prefer_one_thread

        prefer_one_thread()
    return Refiner(settings)


@app.callback(invoke_without_command=True)
def _socratic(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.")
    ] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("socratic-agents"))
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        with redirect_stdout(sys.stderr):
            typer.echo(ctx.get_help())
        raise typer.Exit(2)


@app.command("report")
def _report(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)
    ],
    *,
    linked: Annotated[
        bool | None,
        typer.Option(
            "--linked/--no-linked",
            help="Leave the images in DIR/objects, or embed them; by default the size decides.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Write a report of a run, one page that opens offline: DIR/report.html."""
    from socratic_agents.report.html import report_parts
    from socratic_agents.report.run_browser import is_large, run_parts
    from socratic_agents.storage.files import write_files
    from socratic_agents.storage.objects import ObjectStore
    from socratic_agents.storage.results import read_outcomes

    outcomes = read_outcomes(directory)
    if is_large(directory, outcomes) if linked is None else linked:
        parts = run_parts(outcomes)
    else:
        parts = report_parts(outcomes, read=ObjectStore(directory).get)
    # Half a surrogate pair is no character; it is shown as a question mark.
    page_bytes = (part.encode("utf-8", "replace") for part in parts)
    write_files(directory, {"report.html": page_bytes})
    page = directory.resolve() / "report.html"
    sys.stderr.write(f"report: {sanitize_for_terminal(str(page))}\n")
    return 0
