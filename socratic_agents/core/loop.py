"""The loop: generate, caption, assess, judge, optimize, and select the best of all.

This file is the project in one page. It knows nothing of batches, devices,
LangChain, files or threads: the parts are given to it as plain async callables.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from socratic_agents.core.checklist import Checklist
from socratic_agents.core.concurrency import run_together
from socratic_agents.core.errors import (
    AgentError,
    AnswerError,
    BudgetError,
    CandidateError,
    NothingDrawnError,
    RefusedError,
    SocraticError,
)
from socratic_agents.core.history import (
    Candidate,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.outcome import Refinement, Usage

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterator,
        Mapping,
    )
    from typing import Any

    from PIL.Image import Image

    from socratic_agents.core.checklist import Answer

__all__ = (
    "UNLUCKY",
    "Agents",
    "Event",
    "EventKind",
    "assessed",
    "chosen",
    "refine_prompt",
    "verdict_on",
)

Result = TypeVar("Result")

UNLUCKY = frozenset((Status.NUMERICAL_FAILURE, Status.SAFETY_FILTERED))
"""What may be better from other noise."""


@dataclass(frozen=True, kw_only=True)
class Agents:
    """The voices of the dialogue; any async callable of the right type will do."""

    generate: Callable[[str, int], Awaitable[Image]]
    """prompt, seed -> image (RGB)"""
    caption: Callable[[Image], Awaitable[str]]
    """image -> caption"""
    judge: Callable[[History], Awaitable[Verdict]]
    """history -> is the incumbent what was asked for, and what is missing?"""
    optimize: Callable[[History], Awaitable[tuple[str, ...]]]
    """history -> the next prompts to try"""
    select: Callable[[History], Awaitable[int]]
    """history -> index of the best of its candidates"""
    assess: Callable[[str, Candidate], Awaitable[Mapping[str, float]]] | None = None
    """user prompt, candidate -> scores; the first one ranks"""
    inquire: Callable[[str], Awaitable[Checklist]] | None = None
    """user prompt -> the questions that its images must pass, written once"""
    answer: Callable[[Checklist, Candidate], Awaitable[tuple[Answer, ...]]] | None = (
        None
    )
    """checklist, candidate -> what its image answers to each question"""


class EventKind(StrEnum):
    """What an event tells of."""

    DRAWN = "drawn"
    """A candidate is finished: drawn, captioned, assessed, or failed."""
    JUDGED = "judged"
    """A round is finished: its verdict is in."""


@dataclass(frozen=True)
class Event:
    """What the observer of a refinement is told."""

    kind: EventKind
    history: History
    """Everything up to now; at ``DRAWN`` without the round in the making."""
    candidate: Candidate | None = None
    """The candidate that was drawn."""


async def refine_prompt(  # noqa: C901, PLR0913, PLR0915 - it is read in one piece
    user_prompt: str,
    agents: Agents,
    *,
    rounds: int,
    seeds: Iterator[int],
    seeds_per_prompt: int = 1,
    fresh_noise: bool = False,
    max_images: int | None = None,
    speculate: bool = False,
    spent: Callable[[], bool] = lambda: False,
    cancelled: Callable[[], bool] = lambda: False,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Refinement:
    """Refine one user prompt until the judge is satisfied, and return the best.

    The user prompt is drawn first and stays in the pool for ever, so the result
    is never worse, by the selector's measure, than not refining at all.

    Args:
        user_prompt: What the person asked for.
        agents: The voices of the dialogue.
        rounds: How many rounds at most, at least 1; the first draws the user prompt.
        seeds: The prompt's seed bank, endless.
        seeds_per_prompt: Images of each prompt, at least 1. Rewrites are drawn from
            the incumbent's seed, to be compared under the same noise, and the further
            images of each from fresh ones.
        fresh_noise: Draw rewrites from fresh seeds alone.
        max_images: Images in all, at least 1; ``None`` means no limit.
        speculate: Let the optimizer write while the judge still thinks; what it wrote
            is dropped if the judge is satisfied.
        spent: Asked before more work is begun; when true, the best so far is returned.
        cancelled: Asked between rounds; when true, the best so far is returned.
        on_event: Called, in order, for every candidate and every verdict.

    Raises:
        NothingDrawnError: If not one candidate is usable; a ``RefusedError`` if a
            safety filter withheld all of the user prompt and of one rewrite.
        CallError: If the optimizer cannot be reached; ``error.history`` keeps
            what was done until then.
    """
    history, error = History(user_prompt=user_prompt), None
    noise = [next(seeds) for _ in range(seeds_per_prompt)]
    plan = [(user_prompt, seed) for seed in noise][:max_images]
    try:
        async with _meanwhile(_checklist(user_prompt, agents)) as asked:

            async def draw(prompt: str, seed: int) -> Candidate:
                candidate = await _drawn(prompt, seed, agents)
                candidate = await assessed(user_prompt, candidate, await asked, agents)
                on_event(Event(EventKind.DRAWN, history, candidate))
                return candidate

            while True:
                drawn = await run_together(
                    [draw(prompt, seed) for prompt, seed in plan]
                )
                left = max_images and max_images - len(history.candidates) - len(drawn)
                unlucky = [c.prompt for c in drawn if c.status in UNLUCKY][:left]
                if unlucky and not spent():
                    # Once, from other noise; what failed stays on record.
                    drawn += await run_together([draw(p, next(seeds)) for p in unlucky])
                history += Round(candidates=drawn, error=error)
                history = replace(history, checklist=await asked)
                full = len(history.candidates) == max_images
                last = full or len(history.rounds) >= rounds
                early = speculate and not (last or cancelled() or spent())
                async with _meanwhile(_ahead(history, agents, early=early)) as ahead:
                    verdict = await verdict_on(history, agents)
                    history = history.judged(verdict)
                    on_event(Event(EventKind.JUDGED, history))

                    if verdict.satisfied:
                        stop = StopReason.SATISFIED
                    elif cancelled():
                        stop = StopReason.CANCELLED
                    elif len(history.rounds) >= rounds or _refused(history):
                        stop = StopReason.ROUNDS_SPENT
                    elif full or spent():
                        stop = StopReason.BUDGET_SPENT
                    else:
                        first = next(seeds) if fresh_noise else _incumbent_seed(history)
                        noise = [first, *(next(seeds) for _ in noise[1:])]
                        try:
                            prompts = await ahead or await _prompts(history, agents)
                            plan, error = list(product(prompts, noise)), None
                        except BudgetError:
                            plan = []
                        except AnswerError as problem:
                            # Without a rewrite, fresh noise is still worth its image.
                            error, prompt = str(problem), _incumbent_prompt(history)
                            plan = [(prompt, next(seeds)) for _ in noise]
                        left = max_images and max_images - len(history.candidates)
                        plan = [] if spent() else plan[:left]
                        if plan:
                            continue
                        stop = StopReason.BUDGET_SPENT
                return await chosen(history, agents, stop)
    except SocraticError as problem:
        problem.history = history
        raise


@asynccontextmanager
async def _meanwhile(
    coroutine: Coroutine[Any, Any, Result],
) -> AsyncIterator[asyncio.Task[Result]]:
    """Run something beside what is done inside, and not longer."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # that nobody asked for it is no cause to complain


async def _checklist(user_prompt: str, agents: Agents) -> Checklist | None:
    """Ask what must be seen; where nobody can say, the loop goes on by scores."""
    if agents.inquire is None:
        return None
    try:
        return await agents.inquire(user_prompt)
    except AgentError as problem:
        return Checklist(error=str(problem))


async def _drawn(prompt: str, seed: int, agents: Agents) -> Candidate:
    """Draw and caption one candidate; a failure becomes its status."""
    candidate = Candidate(prompt=prompt, seed=seed)
    try:
        image = await agents.generate(prompt, seed)
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


async def _ahead(
    history: History, agents: Agents, *, early: bool
) -> tuple[str, ...] | None:
    """Ask the optimizer before the judge has spoken, with what is known until then."""
    if not early:
        return None
    best, before = history.incumbent, replace(history, rounds=history.rounds[:-1])
    missing: tuple[str, ...] = ()
    if best is before.incumbent and before.verdict:
        missing = before.verdict.missing  # what it lacked, it lacks
    elif best and history.checklist:
        failed = history.checklist.failed(best.answers)
        missing = tuple(question.requirement for question in failed)
    unheard = Verdict(satisfied=None, missing=missing, reason="the judge still thinks")
    return await _prompts(history.judged(unheard), agents)


async def _prompts(history: History, agents: Agents) -> tuple[str, ...]:
    """Ask the optimizer; a round without a prompt would be a round of nothing."""
    prompts = await agents.optimize(history)
    if not prompts:
        message = "expected at least one prompt, got none"
        raise AnswerError(message)
    return prompts


async def chosen(history: History, agents: Agents, stop: StopReason) -> Refinement:
    """Return the selector's choice, or the incumbent where it cannot choose."""
    candidates, incumbent = history.candidates, history.incumbent
    if incumbent is None:
        causes = sorted({f"{c.status}: {c.error}" for c in candidates})
        message = (
            f"expected at least one usable image, got none of {len(candidates)} "
            f"({'; '.join(causes)}); see the causes, or try another seed"
        )
        raise RefusedError(message) if history.filtered else NothingDrawnError(message)
    error = None
    try:
        index = await agents.select(history)
        if not (0 <= index < len(candidates) and candidates[index].usable):
            message = (
                f"expected the index of a usable candidate below {len(candidates)}, "
                f"got {index}"
            )
            raise AnswerError(message)
    except AgentError as problem:
        index, error = candidates.index(incumbent), str(problem)
    return Refinement(
        history=history,
        best_place=history.place(index),
        stop=stop,
        selection_error=error,
        usage=Usage(images=len(candidates)),
    )


def _refused(history: History) -> bool:
    """Return whether a softer rewrite was withheld like the user prompt."""
    return len(history.rounds) > 1 and history.filtered


def _incumbent_prompt(history: History) -> str:
    return history.incumbent.prompt if history.incumbent else history.user_prompt


def _incumbent_seed(history: History) -> int:
    return (history.incumbent or history.candidates[0]).seed
