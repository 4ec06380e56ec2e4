"""The commands ``socratic refine`` and ``socratic batch``."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import sys
from contextlib import ExitStack, aclosing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from socratic_agents.cli.options import with_settings
from socratic_agents.core.errors import (
    ConfigurationError,
    PromptError,
    ServerDownError,
    SocraticError,
)
from socratic_agents.core.prompts import (
    read_prompts,
    sanitize_for_terminal,
    validate_prompt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from socratic_agents.cli.progress import Progress
    from socratic_agents.config.settings import Settings
    from socratic_agents.core.outcome import Failure, Refinement
    from socratic_agents.core.prompts import PromptLine
    from socratic_agents.runtime.interrupts import InterruptHandler
    from socratic_agents.runtime.refiner import Refiner
    from socratic_agents.storage.run_directory import RunDirectory

__all__ = ("Context", "register")


@dataclass(frozen=True)
class Context:
    """What a command needs from its caller."""

    open_refiner: Callable[[Settings], Refiner]
    interruption: InterruptHandler


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("refine")(_refine)
    app.command("batch")(_batch)


Out = Annotated[Path, typer.Option(metavar="DIR", help="Where images and results go.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the maximum cost, and stop.")
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Cached calls, shared with other runs."),
]
ContinueWith = Annotated[
    bool,
    typer.Option(
        "--continue-with",
        help="Accept other settings than the run was started with, for the rest.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print results as JSON on stdout.")
]


@with_settings
def _refine(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where images and results go; by default socratic-run, or "
            "socratic-run-2 and so on where that was begun with other settings.",
            show_default=False,
        ),
    ] = None,
    cache: Cache = None,
    continue_with: ContinueWith = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    overrides: dict[str, Any],
) -> int:
    """Refine one prompt and keep the best image seen."""
    from socratic_agents.core.outcome import Failure

    prompt = validate_prompt(prompt)
    settings = _settings(overrides)
    if dry_run:
        return _print_estimate(settings, prompts=1, as_json=as_json)
    opened = _opened(out, settings, cache=cache, accept_changes=continue_with)
    with opened as run, _progress(settings, total=1) as progress:
        with redirect_stdout(sys.stderr):  # libraries may print
            try:
                refiner = ctx.obj.open_refiner(settings)
                work = _refine_one(refiner.remember(run), prompt, progress)
                outcome: Refinement | Failure = ctx.obj.interruption.run(work)
            except ConfigurationError:
                raise
            except SocraticError as error:
                outcome = Failure(
                    user_prompt=prompt,
                    error=str(error),
                    kind=error.kind,
                    history=error.history,
                )
        saved = run.save(outcome)
        progress.finish(saved)
        _print_json(saved, as_json=as_json)
        if isinstance(saved, Failure):
            return 1
        progress.say(f"best image: {run.path / (saved.best.path or '')}")
        progress.say(f"its prompt: {saved.best.prompt}")
    return 0


@with_settings
def _batch(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            help="Prompts, one a line: .txt, .jsonl, .json, or - for stdin."
        ),
    ],
    *,
    out: Out = Path("socratic-run"),
    cache: Cache = None,
    continue_with: ContinueWith = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    overrides: dict[str, Any],
) -> int:
    """Refine many prompts; the same command again resumes."""
    from socratic_agents.runtime.build import open_run_directory

    lines = read_prompts(file)
    settings = _settings(overrides)
    if dry_run:
        good = sum(line.error is None for line in lines)
        return _print_estimate(settings, prompts=good, as_json=as_json)
    job = open_run_directory(
        out, settings, cache=cache, resume=True, accept_changes=continue_with
    )
    with job as run:
        return _refine_all(ctx.obj, settings, lines, run, as_json=as_json)


@dataclass
class _Batch:
    """What has become of the prompts of a file."""

    run: RunDirectory
    progress: Progress
    stdout: TextIO
    """Where results are printed; libraries may print elsewhere."""
    as_json: bool
    done: int
    halted: int = 0
    """Prompts that the language model failed on, after an image."""
    failures: list[Failure] = field(default_factory=list)

    async def keep(self, outcome: Refinement | Failure) -> None:
        """Save a result in a thread, count and print it, even if one is cancelled."""
        saving = asyncio.ensure_future(asyncio.to_thread(self.run.save, outcome))
        try:
            await asyncio.shield(saving)
        finally:
            self.tell(await saving)

    def tell(self, saved: Refinement | Failure) -> None:
        """Count and print a result."""
        from socratic_agents.core.outcome import Failure

        self.progress.finish(saved)
        if isinstance(saved, Failure):
            self.failures.append(replace(saved, history=None))  # images are on disk
        elif saved.llm_error is not None:
            self.halted += 1
        else:
            self.done += 1
        with redirect_stdout(self.stdout):
            _print_json(saved, as_json=self.as_json)

    def tell_all(self, total: int) -> None:
        """Print the summary."""
        say, out = self.progress.say, self.run.path
        say(f"{self.done} of {total} done, in {out}")
        if self.run.quarantined:
            say(f"{self.run.quarantined} corrupt files moved to {out}/quarantine")
        for failure in sorted(self.failures, key=lambda one: one.index):
            shown = sanitize_for_terminal(failure.user_prompt, longest=60)
            say(f"failed: prompt {failure.index + 1} ({shown}): {failure.error}")
        if self.halted:
            say(
                f"{self.halted} ended with the best so far, because the language model "
                "failed; run the same command again to go on with them"
            )


@contextmanager
def _opened(
    out: Path | None, settings: Settings, **options: Any
) -> Iterator[RunDirectory]:
    """Open a run directory; where none is named, one that has these settings."""
    from socratic_agents.runtime.build import open_run_directory
    from socratic_agents.storage.run_config import OtherSettingsError

    for number in itertools.count(1):
        path = out or Path("socratic-run" if number == 1 else f"socratic-run-{number}")
        with ExitStack() as stack:
            try:
                run = stack.enter_context(open_run_directory(path, settings, **options))
            except OtherSettingsError:
                if out is not None:
                    raise
                continue
            yield run
            return


def _refine_all(
    context: Context,
    settings: Settings,
    lines: Sequence[PromptLine],
    run: RunDirectory,
    *,
    as_json: bool,
) -> int:
    """Refine what is not finished, save and print everything; return the exit code."""
    pending = _pending(lines, run, as_json=as_json)
    bad = [(index, line) for index, line in enumerate(lines) if line.error]
    done = len(lines) - len(pending) - len(bad)
    progress = _progress(settings, total=len(lines), done=done)
    batch = _Batch(run, progress, sys.stdout, as_json=as_json, done=done)
    down: ServerDownError | None = None
    with progress, redirect_stdout(sys.stderr):
        if done:
            progress.say(f"{done} of {len(lines)} were already finished")
        for index, line in bad:
            batch.tell(run.save(_bad_line(index, line)))
        if pending:
            refiner = context.open_refiner(settings).remember(run)
            waiting = context.interruption.until(pending)
            work = _refine_many(refiner, waiting, progress, batch)
            try:
                context.interruption.run(work)
            except KeyboardInterrupt:
                pass  # told where the exit code is
            except ServerDownError as problem:
                down = problem
    batch.tell_all(len(lines))
    if down:
        raise down
    return 1 if batch.failures or batch.halted else 0


async def _refine_one(refiner: Refiner, prompt: str, progress: Progress) -> Refinement:
    refiner.check(prompt)  # before the models are loaded
    async with refiner:
        observe = functools.partial(progress.observe, 0)
        return await refiner.refine(prompt, on_event=observe)


async def _refine_many(
    refiner: Refiner,
    pending: Iterable[tuple[int, str]],
    progress: Progress,
    batch: _Batch,
) -> None:
    """Refine prompts; each outcome gets the index of its line in the file."""
    places: list[int] = []

    def prompts() -> Iterator[str]:
        for index, prompt in pending:
            places.append(index)
            yield prompt

    async with refiner:
        outcomes = refiner.refine_many(
            prompts(),
            on_event=lambda place, event: progress.observe(places[place], event),
        )
        async with aclosing(outcomes) as stream:
            async for outcome in stream:
                await batch.keep(replace(outcome, index=places[outcome.index]))


def _pending(
    lines: Sequence[PromptLine], run: RunDirectory, *, as_json: bool
) -> list[tuple[int, str]]:
    """Print what is finished, one by one, and return what is not."""
    run.set_inputs(line.text for line in lines)
    pending = []
    for index, line in enumerate(lines):
        if line.error:
            continue
        refinement = run.finished(index, line.text)
        if refinement is None:
            pending.append((index, line.text))
        else:
            _print_json(refinement, as_json=as_json)
    return pending


def _bad_line(index: int, line: PromptLine) -> Failure:
    """Return what comes of a line that is no prompt."""
    from socratic_agents.core.outcome import Failure

    return Failure(
        user_prompt=line.text,
        error=line.error or "",
        kind=PromptError.kind,
        index=index,
    )


def _settings(overrides: dict[str, Any]) -> Settings:
    from socratic_agents.config.settings import Settings

    return Settings(**overrides)


def _print_estimate(settings: Settings, *, prompts: int, as_json: bool) -> int:
    """Print what so many prompts may cost at most, and which models take turns."""
    from socratic_agents.agents.registry import find_roles
    from socratic_agents.pocket.mixing import check_mixing
    from socratic_agents.runtime.cost_estimate import worst_case
    from socratic_agents.runtime.readiness.memory import plan_memory

    check_mixing(settings, speaks=find_roles(settings).needs_llm)
    estimate, plan = worst_case(settings), plan_memory(settings, prompts=prompts)
    memory = [f"memory: {line}" for line in plan.lines()] if plan else []
    for line in (*estimate.lines(prompts), *memory):
        sys.stderr.write(f"{sanitize_for_terminal(line)}\n")
    if as_json:
        planned = {"memory": plan.to_json()} if plan else {}
        _write_json(estimate.to_json(prompts) | planned)
    return 0


def _progress(settings: Settings, *, total: int, done: int = 0) -> Progress:
    from socratic_agents.cli.progress import Progress
    from socratic_agents.runtime.cost_estimate import worst_case

    images = worst_case(settings.but(receipt=False)).images
    return Progress(total=total, done=done, images=images)


def _print_json(outcome: Refinement | Failure, *, as_json: bool) -> None:
    if as_json:
        _write_json(outcome.to_json())


def _write_json(value: dict[str, Any]) -> None:
    try:
        sys.stdout.write(f"{json.dumps(value, allow_nan=False)}\n")
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):  # Python would complain once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        message = (
            f"expected to write to stdout, got: {error.strerror}; finished work "
            "is kept, run the same command again to print it"
        )
        raise ConfigurationError(message) from error
