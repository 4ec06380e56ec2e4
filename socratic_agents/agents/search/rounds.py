"""Rounds: the optimizer writes from what was seen, all its prompts share their seeds."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from socratic_agents.agents.paraphrase import paraphrases
from socratic_agents.core.concurrency import drop
from socratic_agents.core.errors import AnswerError, BudgetError
from socratic_agents.core.history import Status, StopReason, Verdict
from socratic_agents.core.search import Draw, Plan, Session
from socratic_agents.core.spread import measure_spread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from socratic_agents.core.history import History
    from socratic_agents.core.loop import Agents

__all__ = ("RoundSearch",)

UNLUCKY = frozenset((Status.NUMERICAL_FAILURE, Status.SAFETY_FILTERED))
"""What may be better from other noise."""


@dataclass(frozen=True, kw_only=True)
class RoundSearch(ABC):
    """Draws the user prompt, and then round by round what the optimizer writes.

    A black or withheld image gets one more in its round, from other noise. Where the
    optimizer has no answer, the best prompt so far is drawn from fresh noise; or in
    other words, where other noise hardly makes a difference.
    """

    rounds: int
    """How many at most, at least 1; the first draws the user prompt."""
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
    def first_seed(self, history: History, bank: Iterator[int]) -> int:
        """Return the seed of each rewrite's first image; the others are fresh."""

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
        count = self._search.seeds_per_prompt
        if not history.rounds:
            return self._fresh(history.user_prompt, count)
        if self._last(history) or _refused(history):
            return StopReason.ROUNDS_SPENT
        if left == 0:
            return StopReason.BUDGET_SPENT
        first = self._search.first_seed(history, self._bank)
        noise = [first, *(next(self._bank) for _ in range(count - 1))]
        try:
            prompts = await (self._ahead or self._write(history))
        except BudgetError:
            return StopReason.BUDGET_SPENT
        except AnswerError as problem:
            return self._without_rewrite(history, count, error=str(problem))
        finally:
            await self.forget()
        return Plan(attempts=tuple(Draw(*pair) for pair in product(prompts, noise)))

    async def more(self, history: History, left: int | None) -> tuple[Draw, ...]:
        """Draw the unlucky once more; what failed stays on record. Then write ahead."""
        if self._retried < len(history.rounds):
            self._retried = len(history.rounds)
            drawn = history.rounds[-1].candidates
            unlucky = [c.prompt for c in drawn if c.status in UNLUCKY][:left]
            if unlucky:
                return tuple(Draw(prompt, next(self._bank)) for prompt in unlucky)
        if self._search.speculate and not self._last(history):
            self._ahead = asyncio.create_task(self._write(_unheard(history)))
        return ()

    async def forget(self) -> None:
        """Drop what is written ahead."""
        if self._ahead is not None:
            await drop(self._ahead)
        self._ahead = None

    def _last(self, history: History) -> bool:
        return len(history.rounds) >= self._search.rounds

    def _without_rewrite(self, history: History, count: int, *, error: str) -> Plan:
        """Draw the best prompt from fresh noise; where that changes little, reworded."""
        best, prompts = history.incumbent, [c.prompt for c in history.candidates]
        prompt = best.prompt if best else history.user_prompt
        spread = measure_spread(history.candidates)
        if spread.little if spread else self._search.distilled:
            said = paraphrases(prompt, prompts)[:count]
            if draws := tuple(Draw(words, next(self._bank)) for words in said):
                return Plan(attempts=draws, error=error)
        return self._fresh(prompt, count, error=error)

    def _fresh(self, prompt: str, count: int, *, error: str | None = None) -> Plan:
        draws = tuple(Draw(prompt, next(self._bank)) for _ in range(count))
        return Plan(attempts=draws, error=error)

    async def _write(self, history: History) -> tuple[str, ...]:
        """Ask the optimizer; a round without a prompt would be a round of nothing."""
        prompts = await self._agents.optimize(history)
        if not prompts:
            message = "expected at least one prompt, got none"
            raise AnswerError(message)
        return prompts


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
