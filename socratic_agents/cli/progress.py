"""Progress on stderr: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from socratic_agents.core.outcome import Refinement
from socratic_agents.core.prompts import sanitize_for_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from rich.progress import TaskID

    from socratic_agents.core.history import Round
    from socratic_agents.core.loop import Event
    from socratic_agents.core.outcome import Failure

__all__ = ("Progress",)


class Progress:
    """Shows how far the work is.

    Args:
        total: How many prompts there are in all.
        done: How many of them were finished before.
        images: How many of a prompt may be drawn.
        console: Where to print; stderr if left out.
    """

    def __init__(
        self, *, total: int, done: int, images: int, console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._most_images = images
        self._images = self._calls = self._failed = 0
        self._start = time.monotonic()
        self._prompts: dict[int, TaskID] = {}
        self._stack = ExitStack()
        self._bars = Bars(
            # Prompts are data: what looks like markup in them is none.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._all = self._bars.add_task("prompts", total=total, completed=done, note="")

    def __enter__(self) -> Self:
        """Start the live display, if there is a terminal."""
        if self._console.is_terminal:
            self._stack.enter_context(self._bars)
        return self

    def __exit__(self, *_: object) -> None:
        """End the live display."""
        self._stack.close()

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(Text(sanitize_for_terminal(text)))

    def observe(self, index: int, event: Event) -> None:
        """Show what happened to a prompt."""
        history = event.history
        if event.kind == "drawn":
            self._images += 1
        elif not self._console.is_terminal:
            number, images = len(history.rounds), len(history.candidates)
            state = _state(history.rounds[-1])
            self.say(f"[{index + 1}] round {number}, image {images}: {state}")
        if index not in self._prompts:
            self._prompts[index] = self._bars.add_task(
                sanitize_for_terminal(history.user_prompt, longest=40),
                total=self._most_images,
                note="",
            )
        note = ""
        if history.rounds and (why := "; ".join(_troubles(history.rounds[-1]))):
            note = sanitize_for_terminal(why, longest=60)
        drawn = int(event.kind == "drawn")
        self._bars.update(self._prompts[index], advance=drawn, note=note)
        self._note()

    def finish(self, outcome: Refinement | Failure) -> None:
        """Show how a prompt ended."""
        if isinstance(outcome, Refinement):
            usage = outcome.usage
            self._calls += usage.llm_calls
            ended = outcome.stop.replace("_", " ")
            self.say(
                f"[{outcome.index + 1}] {ended}, {usage.images} images, "
                f"{usage.llm_calls} LLM calls, {usage.seconds:.1f} s: "
                f"{outcome.user_prompt}"
            )
            for line in _summary(outcome):
                self.say(f"[{outcome.index + 1}] {line}")
        else:
            self._failed += 1
            self.say(f"[{outcome.index + 1}] failed: {outcome.error}")
        if outcome.index in self._prompts:
            self._bars.remove_task(self._prompts.pop(outcome.index))
        self._bars.advance(self._all)
        self._note()

    def _note(self) -> None:
        rate = self._images / max(time.monotonic() - self._start, 1e-6)
        note = f"{rate:.2f} images/s, {self._calls} LLM calls"
        if self._failed:
            note += f", {self._failed} failed"
        self._bars.update(self._all, note=note)


def _state(round_: Round) -> str:
    """Return what the judge says of a round, and what stood in the way."""
    verdict, troubles = round_.verdict, "; ".join(_troubles(round_))
    if verdict is None or not verdict.judged:
        return troubles
    missing = f", missing {', '.join(verdict.missing)}" if verdict.missing else ""
    state = "satisfied" if verdict.satisfied else f"not yet{missing}"
    return f"{state}; {troubles}" if troubles else state


def _troubles(round_: Round) -> Iterator[str]:
    """Yield why a round is not judged, and why nobody wrote prompts for it."""
    verdict = round_.verdict
    if verdict is None or not verdict.judged:
        yield f"not judged ({verdict.reason})" if verdict else "not judged"
    if round_.final and verdict:
        yield verdict.reason
    if round_.error:
        yield f"no rewrite, the best prompt again ({round_.error})"


def _summary(refinement: Refinement) -> Iterator[str]:
    """Yield what went wrong in a refinement, each cause once."""
    rounds = dict[str, list[int]]()
    for number, round_ in enumerate(refinement.rounds, start=1):
        for trouble in _troubles(round_):
            rounds.setdefault(trouble, []).append(number)
    for trouble, numbers in rounds.items():
        many = "rounds" if len(numbers) > 1 else "round"
        yield f"{many} {', '.join(map(str, numbers))}: {trouble}"
    cut = [c.truncated_tokens for r in refinement.rounds for c in r.candidates]
    if longest := max(cut, default=0):
        images = sum(tokens > 0 for tokens in cut)
        yield (
            f"{images} of {len(cut)} images of prompts that are not read to the end "
            f"(up to {longest} tokens are not)"
        )
    if refinement.llm_error:
        yield f"ended with the best so far: {refinement.llm_error}"
    spread = refinement.seed_spread
    if spread and spread.little:
        yield (
            "the seed hardly changes the image (two of one prompt differ by "
            f"{spread.pixels:.3f} of 1), so a few seeds of a prompt bring little"
        )
    if refinement.selection_error:
        scored = "the best by score" if refinement.best.scores else "the latest image"
        yield f"{scored}, not by the selector: {refinement.selection_error}"
