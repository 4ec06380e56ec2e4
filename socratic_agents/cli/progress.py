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
    from typing import Self

    from rich.progress import TaskID

    from socratic_agents.core.loop import Event
    from socratic_agents.core.outcome import Failure

__all__ = ("Progress",)


class Progress:
    """Shows how far the work is.

    Args:
        total: How many prompts there are in all.
        done: How many of them were finished before.
        rounds: How many rounds a prompt may take.
        console: Where to print; stderr if left out.
    """

    def __init__(
        self, *, total: int, done: int, rounds: int, console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._rounds = rounds
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
            verdict = history.verdict
            state = "not judged"
            if verdict is not None and verdict.judged:
                missing = f", missing {', '.join(verdict.missing)}"
                unmet = f"not yet{missing if verdict.missing else ''}"
                state = "satisfied" if verdict.satisfied else unmet
            number, images = len(history.rounds), len(history.candidates)
            self.say(f"[{index + 1}] round {number}, image {images}: {state}")
        if index not in self._prompts:
            self._prompts[index] = self._bars.add_task(
                sanitize_for_terminal(history.user_prompt, longest=40),
                total=self._rounds,
                note="",
            )
        self._bars.update(self._prompts[index], completed=len(history.rounds))
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
