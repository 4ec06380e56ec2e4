"""Rounds: the optimizer writes from what was seen, all its prompts share their seeds."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from socratic_agents.agents.paraphrase import paraphrases
from socratic_agents.core.concurrency import drop
from socratic_agents.core.errors import AnswerError, BudgetError
from socratic_agents.core.history import Status, StopReason, Verdict
from socratic_agents.core.search import Draw, Plan, Proposal, Session, proposed
from socratic_agents.core.spread import measure_spread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from socratic_agents.core.history import History
    from socratic_agents.core.loop import Agents

__all__ = ("RoundSearch", "best_prompt")

UNLUCKY = frozenset((Status.NUMERICAL_FAILURE, Status.SAFETY_FILTERED))
"""What may be better from other noise."""


@dataclass(frozen=True, kw_only=True)
class RoundSearch(ABC):
    """Draws the user prompt, and then round by round what the optimizer writes.

    A black or withheld image gets one more in its round, from other noise. Where the
    optimizer has no answer, the best prompt so far is drawn from fresh noise; or in
    other words, where other noise hardly makes a difference.
    """

    rounds: int | None = None
    """How many at most, at least 1; the first draws the user prompt. ``None``: until
    something else ends it, such as the images that may be made."""
    seeds: Callable[[], Iterator[int]]
    """Makes the seed bank of a refinement, endless."""
    seeds_per_prompt: int = 1
    """Images of each prompt, at least 1."""
    speculate: bool = False
    """Let the optimizer write while the judge still thinks; what it wrote is dropped
    if the judge is satisfied."""
    distilled: bool = False
    """Whether the generator is known to draw nearly the same from every seed; else, that
    is seen as soon as a prompt was drawn twice."""

    @abstractmethod
    def draws(
        self, history: History, prompts: tuple[str, ...], bank: Iterator[int]
    ) -> tuple[Draw, ...]:
        """Return what a round draws.

        Args:
            history: All rounds before it.
            prompts: What the optimizer wrote; none where it has no answer.
            bank: Seeds that were not drawn before.
        """

    def settled(self, history: History) -> bool:  # noqa: ARG002 - others look at it
        """Return whether the words are found, so that the optimizer is not asked."""
        return False

    def redrawn(self, prompts: Iterable[str], bank: Iterator[int]) -> tuple[Draw, ...]:
        """Return draws of prompts, each from fresh seeds of its own."""
        return tuple(
            Draw(prompt, next(bank))
            for prompt in prompts
            for _ in range(self.seeds_per_prompt)
        )

    def again(
        self, history: History, prompt: str, count: int, bank: Iterator[int]
    ) -> tuple[Draw, ...]:
        """Return more draws of a prompt: on fresh noise, reworded where that does little.

        Args:
            history: All rounds before.
            prompt: One that was drawn.
            count: How many draws.
            bank: Seeds that were not drawn before.
        """
        prompts, spread = [prompt] * count, measure_spread(history.candidates)
        if spread.little if spread else self.distilled:
            tried = [one.prompt for one in history.candidates]
            reworded = (Proposal.like(p, prompt) for p in paraphrases(prompt, tried))
            prompts = [*reworded, *prompts][:count]
        return tuple(Draw(words, next(bank)) for words in prompts)

    @asynccontextmanager
    async def session(self, agents: Agents) -> AsyncIterator[Session]:
        """Begin a refinement; what still writes at its end is cancelled."""
        session = _RoundSession(self, agents)
        try:
            yield session
        finally:
            await session.forget()


class _RoundSession(Session):
    """The seeds of one refinement, and what is written ahead in it."""

    def __init__(self, search: RoundSearch, agents: Agents) -> None:
        self._search, self._agents = search, agents
        self._bank = search.seeds()
        self._retried = 0
        """Rounds whose unlucky images had their second chance."""
        self._ahead: asyncio.Task[tuple[str, ...]] | None = None
        """The optimizer, while the judge still thinks."""

    async def next(self, history: History, left: int | None) -> Plan | StopReason:
        """Draw the user prompt, and then what the optimizer writes."""
        search, bank = self._search, self._bank
        if not history.rounds:
            return Plan(attempts=search.redrawn([history.user_prompt], bank))
        if self._last(history) or _refused(history):
            return StopReason.ROUNDS_SPENT
        if left == 0:
            return StopReason.BUDGET_SPENT
        prompts, error = tuple[str, ...](), None
        try:
            if not search.settled(history):
                prompts = await (self._ahead or self._write(history))
        except BudgetError:
            return StopReason.BUDGET_SPENT
        except AnswerError as problem:
            error = str(problem)  # fresh noise is still worth its image
        finally:
            await self.forget()
        return Plan(attempts=search.draws(history, prompts, bank), error=error)

    async def more(self, history: History, left: int | None) -> tuple[Draw, ...]:
        """Draw the unlucky once more; what failed stays on record. Then write ahead."""
        if self._retried < len(history.rounds):
            self._retried = len(history.rounds)
            drawn = history.rounds[-1].candidates
            unlucky = [proposed(c) for c in drawn if c.status in UNLUCKY][:left]
            if unlucky:
                return tuple(Draw(prompt, next(self._bank)) for prompt in unlucky)
        search = self._search
        if search.speculate and not (self._last(history) or search.settled(history)):
            self._ahead = asyncio.create_task(self._write(_unheard(history)))
        return ()

    async def forget(self) -> None:
        """Drop what is written ahead."""
        if self._ahead is not None:
            await drop(self._ahead)
        self._ahead = None

    def _last(self, history: History) -> bool:
        rounds = self._search.rounds
        return rounds is not None and len(history.rounds) >= rounds

    async def _write(self, history: History) -> tuple[str, ...]:
        """Ask the optimizer; a round without a prompt would be a round of nothing."""
        prompts = await self._agents.optimize(history)
        if not prompts:
            message = "expected at least one prompt, got none"
            raise AnswerError(message)
        return prompts


def best_prompt(history: History) -> str:
    """Return the prompt of the best image so far, else the user prompt."""
    best = history.incumbent
    return proposed(best) if best else history.user_prompt


def _refused(history: History) -> bool:
    """Return whether a softer rewrite was withheld like the user prompt."""
    return len(history.rounds) > 1 and history.filtered


def _unheard(history: History) -> History:
    """Return the history with what is known before the judge has spoken."""
    best, before = history.incumbent, replace(history, rounds=history.rounds[:-1])
    missing: tuple[str, ...] = ()
    if best is before.incumbent and before.verdict:
        missing = before.verdict.missing  # what it lacked, it lacks
    elif best and history.checklist:
        failed = history.checklist.failed(best.answers)
        missing = tuple(question.requirement for question in failed)
    unheard = Verdict(satisfied=None, missing=missing, reason="the judge still thinks")
    return history.judged(unheard)
