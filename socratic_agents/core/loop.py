"""The loop: draw what the search asks for, look, judge, ask again; return the best.

This file is the project in one page. It knows nothing of batches, devices,
LangChain, files or threads: the parts are given to it as plain async callables, and
what is tried next as a value.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from socratic_agents.core.checklist import Checklist
from socratic_agents.core.concurrency import meanwhile, run_together
from socratic_agents.core.errors import (
    AgentError,
    AnswerError,
    CallError,
    CandidateError,
    NothingDrawnError,
    RefusedError,
    SocraticError,
)
from socratic_agents.core.history import Candidate, History, Round, StopReason, Verdict
from socratic_agents.core.outage import Outage
from socratic_agents.core.outcome import Refinement, Usage
from socratic_agents.core.search import Plan
from socratic_agents.core.spread import measure_spread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from PIL.Image import Image

    from socratic_agents.core.checklist import Answer
    from socratic_agents.core.search import Attempt, Search, Session

    Answerer = Callable[[Checklist, Candidate], Awaitable[tuple[Answer, ...]]]

__all__ = (
    "NO_LIMITS",
    "Agents",
    "Event",
    "EventKind",
    "Limits",
    "assessed",
    "chosen",
    "draw_candidate",
    "interruptible",
    "refine_prompt",
    "verdict_on",
)


@dataclass(frozen=True, kw_only=True)
class Agents:
    """Who plays the roles of the loop; any async callable of the right type will do."""

    generate: Callable[[str, int], Awaitable[Image]]
    """prompt, seed -> image (RGB)"""
    caption: Callable[[Image], Awaitable[str]]
    """image -> caption"""
    judge: Callable[[History], Awaitable[Verdict]]
    """history -> is the incumbent what was asked for, and what is missing?"""
    optimize: Callable[[History], Awaitable[tuple[str, ...]]]
    """history -> the next prompts to try, for those searches that ask"""
    select: Callable[[History], Awaitable[int]]
    """history -> index of the best of its candidates"""
    assess: Callable[[str, Candidate], Awaitable[Mapping[str, float]]] | None = None
    """user prompt, candidate -> scores; the first one ranks"""
    inquire: Callable[[str], Awaitable[Checklist]] | None = None
    """user prompt -> the questions that its images must pass, written once"""
    answer: Answerer | None = None
    """checklist, candidate -> what its image answers to each question"""
    generate_guided: Callable[[str, int, float], Awaitable[Image]] | None = None
    """prompt, seed, guidance -> image (RGB)"""


class EventKind(StrEnum):
    """What an event reports."""

    DRAWN = "drawn"
    """A candidate is finished: drawn, captioned, assessed, or failed."""
    JUDGED = "judged"
    """A round is finished: its verdict is in."""


@dataclass(frozen=True)
class Event:
    """What the observer of a refinement is given."""

    kind: EventKind
    history: History
    """Everything up to now; at ``DRAWN`` without the round in the making."""
    candidate: Candidate | None = None
    """The candidate that was drawn."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends a refinement beside its judge and its search."""

    max_images: int | None = None
    """Images in all, at least 1; ``None``: any number."""
    spent: Callable[[], bool] = lambda: False
    """Asked before more work is begun; when true, nothing more is."""
    cancel: asyncio.Event | None = None
    """When it is set, what is in flight is abandoned."""
    deadline: float | None = None
    """Time of the event loop at which what is in flight is abandoned."""
    survives: Callable[[CallError], bool] = lambda _: False
    """Whether a language model that failed for good ends a refinement that has a usable
    image with the best so far; else, it raises."""

    def left(self, history: History) -> int | None:
        """Return how many images may be made, one in any case; ``None``: any number."""
        if history.rounds and self.spent():
            return 0
        return self.max_images and self.max_images - len(history.candidates)

    def ended(self, step: object) -> StopReason:
        """Return why a refinement is over: the last step says so, or what cut it off."""
        if isinstance(step, StopReason):
            return step
        return StopReason.CANCELLED if self.cancelled else StopReason.DEADLINE

    @property
    def cancelled(self) -> bool:
        """Whether the caller asked to stop."""
        return self.cancel is not None and self.cancel.is_set()


NO_LIMITS = Limits()
"""Only the judge and the search end a refinement."""

_INTERRUPTED = {
    StopReason.CANCELLED: "it was cancelled",
    StopReason.DEADLINE: "the deadline was reached",
}


async def refine_prompt(
    user_prompt: str,
    agents: Agents,
    search: Search,
    *,
    limits: Limits = NO_LIMITS,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Refinement:
    """Refine one user prompt until the judge is satisfied, and return the best.

    Args:
        user_prompt: What the person asked for.
        agents: Who plays the roles of the loop.
        search: Says what is tried next, and when there is nothing to try any more.
        limits: What ends it before; the best so far is returned then, too.
        on_event: Called, in order, for every candidate and every verdict.

    Raises:
        NothingDrawnError: If not one candidate is usable; a ``RefusedError`` if a
            safety filter withheld all of them.
        CallError: If the search cannot reach the optimizer, or anybody a server that is
            down, unless ``limits.survives`` it; ``error.history`` keeps what was done.
    """
    history = History(user_prompt=user_prompt)
    outage = Outage()
    agents = _watched(agents, outage)
    step: Plan | StopReason | None = None
    llm_error: str | None = None
    error, drawn = None, dict[int, Candidate]()
    try:
        async with (
            interruptible(limits),
            meanwhile(_checklist(user_prompt, agents)) as asked,
            search.session(agents) as session,
        ):

            async def draw(place: int, attempt: Attempt) -> None:
                candidate = await draw_candidate(attempt, history, agents)
                candidate = await assessed(user_prompt, candidate, await asked, agents)
                drawn[place] = candidate
                on_event(Event(EventKind.DRAWN, history, candidate))

            def seen() -> History:
                candidates = tuple(drawn[place] for place in sorted(drawn))
                round_ = Round(candidates=candidates, error=error)
                return replace(history + round_, checklist=asked.result())

            try:
                while isinstance(
                    step := await _next(session, history, limits, outage), Plan
                ):
                    attempts, error = step.attempts, step.error
                    while attempts:
                        places = enumerate(attempts, start=len(drawn))
                        await run_together([draw(place, one) for place, one in places])
                        attempts = await _more(session, seen(), limits)
                    history, drawn = seen(), {}
                    verdict = await verdict_on(history, agents)
                    outage.check(limits.survives)
                    history = history.judged(verdict)
                    on_event(Event(EventKind.JUDGED, history))
            except asyncio.CancelledError:
                history = seen() if drawn else history
                raise
            except CallError as problem:
                history = seen() if drawn else history
                if history.incumbent is None or not limits.survives(problem):
                    raise
                llm_error, step = str(problem), StopReason.LLM_FAILED
        stop = limits.ended(step)
        if history.rounds and history.rounds[-1].verdict is None:
            cause = llm_error or _INTERRUPTED[stop]
            history = history.judged(Verdict.unjudged(cause))
            on_event(Event(EventKind.JUDGED, history))
        refinement = await chosen(history, agents, stop, limits)
        outage.check(limits.survives)
        return replace(refinement, llm_error=llm_error)
    except SocraticError as problem:
        problem.history = history
        raise


@asynccontextmanager
async def interruptible(limits: Limits) -> AsyncIterator[None]:
    """Run what stands inside until it is done, cancelled or late; then go on behind.

    Args:
        limits: Say until when.
    """

    async def watch() -> None:
        if limits.cancel is not None:
            await limits.cancel.wait()
            timer.reschedule(0)  # at once

    timer = asyncio.timeout_at(limits.deadline)
    async with meanwhile(watch()):
        try:
            async with timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise


def _watched(agents: Agents, outage: Outage) -> Agents:
    """Return agents of whom it is noted when nobody can be reached any more."""
    return replace(
        agents,
        judge=outage.watch(agents.judge),
        select=outage.watch(agents.select),
        inquire=agents.inquire and outage.watch(agents.inquire),
        answer=agents.answer and outage.watch(agents.answer),
    )


async def _next(
    session: Session, history: History, limits: Limits, outage: Outage
) -> Plan | StopReason:
    """Ask the search, and leave out what there is no room for."""
    if history.verdict and history.verdict.satisfied:
        return StopReason.SATISFIED
    if limits.cancelled:
        return StopReason.CANCELLED
    outage.check()
    plan = await session.next(history, limits.left(history))
    if isinstance(plan, StopReason):
        return plan
    attempts = plan.attempts[: limits.left(history)]
    return replace(plan, attempts=attempts) if attempts else StopReason.BUDGET_SPENT


async def _more(
    session: Session, history: History, limits: Limits
) -> tuple[Attempt, ...]:
    """Ask what joins a round, if there is room for anything."""
    left = limits.left(history)
    return () if left == 0 else (await session.more(history, left))[:left]


async def _checklist(user_prompt: str, agents: Agents) -> Checklist | None:
    """Ask what must be seen; where nobody can say, the loop goes on by scores."""
    if agents.inquire is None:
        return None
    try:
        return await agents.inquire(user_prompt)
    except AgentError as problem:
        return Checklist(error=str(problem))


async def draw_candidate(
    attempt: Attempt, history: History, agents: Agents
) -> Candidate:
    """Make and caption one candidate; a failure becomes its status."""
    candidate = attempt.candidate()
    try:
        image = await attempt.make(agents, history)
        truncated = image.info.get("truncated_tokens", 0)
        candidate = replace(candidate, image=image, truncated_tokens=truncated)
        candidate = replace(candidate, caption=await agents.caption(image))
    except CandidateError as problem:
        candidate = replace(candidate, status=problem.status, error=str(problem))
    return candidate


async def assessed(
    user_prompt: str, candidate: Candidate, checklist: Checklist | None, agents: Agents
) -> Candidate:
    """Answer the checklist and assess; what fails leaves no score, never a bad one."""
    if not candidate.usable:
        return candidate
    errors = [candidate.error]
    if agents.answer and checklist and checklist.questions:
        try:
            answers = await agents.answer(checklist, candidate)
            candidate = replace(candidate, answers=answers)
        except (CandidateError, AgentError) as problem:
            errors.append(str(problem))
    if agents.assess:
        try:
            scores = await agents.assess(user_prompt, candidate)
            if not all(map(math.isfinite, scores.values())):
                # NaN would win every comparison, and JSON has no word for it.
                message = f"expected finite scores, got {dict(scores)}; try float32"
                raise CandidateError(candidate.status, message)  # noqa: TRY301 - one remedy
            candidate = replace(candidate, scores=scores)
        except CandidateError as problem:
            errors.append(str(problem))
    said = dict.fromkeys(filter(None, errors))
    return replace(candidate, error="; ".join(said) or None)


async def verdict_on(history: History, agents: Agents) -> Verdict:
    """Ask the judge; one that cannot answer leaves the round unjudged."""
    if history.incumbent is None:
        return Verdict.unjudged(
            "no candidate of this round or an earlier one is usable"
        )
    try:
        return await agents.judge(history)
    except AgentError as problem:
        return Verdict.unjudged(str(problem))


async def chosen(
    history: History, agents: Agents, stop: StopReason, limits: Limits = NO_LIMITS
) -> Refinement:
    """Return the selector's choice, or the incumbent where it cannot choose in time."""
    candidates, incumbent = history.candidates, history.incumbent
    if incumbent is None:
        raise _nothing_drawn(history, stop)
    index = candidates.index(incumbent)
    error: str | None = "expected a choice, but there was no time left for it"
    try:
        async with interruptible(limits):
            index, error = await _selected(history, agents), None
    except AgentError as problem:
        error = str(problem)
    return Refinement(
        history=history,
        best_place=history.place(index),
        stop=stop,
        selection_error=error,
        usage=Usage(images=len(candidates)),
        seed_spread=measure_spread(candidates),
    )


async def _selected(history: History, agents: Agents) -> int:
    """Ask the selector; only a usable candidate is a choice."""
    candidates = history.candidates
    index = await agents.select(history)
    if not (0 <= index < len(candidates) and candidates[index].usable):
        message = (
            f"expected the index of a usable candidate below {len(candidates)}, "
            f"got {index}"
        )
        raise AnswerError(message)
    return index


def _nothing_drawn(history: History, stop: StopReason) -> NothingDrawnError:
    """Return why there is nothing to return."""
    if stop.interrupted:
        return NothingDrawnError(
            f"expected at least one usable image before {_INTERRUPTED[stop]}, got none "
            f"of {len(history.candidates)} finished; allow more time"
        )
    causes = sorted({f"{c.status}: {c.error}" for c in history.candidates})
    message = (
        f"expected at least one usable image, got none of {len(history.candidates)} "
        f"({'; '.join(causes)}); see the causes, or try another seed"
    )
    return RefusedError(message) if history.filtered else NothingDrawnError(message)
