"""Interrupted refinements: a deadline or the caller ends them, and the best is kept.

Invariants, over scripted agents that fail in every way, interrupted at any moment:

* What was finished is on record, in the order in which it was asked for.
* Every candidate and every verdict on record is observed once, in order.
* The last round is unjudged where the judge had no time, never "not satisfied".
* Nothing is left running.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents import Failure, Refiner, refine, refine_many, refine_sync
from socratic_agents.core.errors import ConfigurationError, NothingDrawnError
from socratic_agents.core.history import History, StopReason, Verdict
from socratic_agents.core.loop import Event, EventKind
from tests.strategies import Script, ScriptedAgents, refine_in_rounds, scripts
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL import Image

    from socratic_agents.core.checklist import Answer, Checklist
    from socratic_agents.core.history import Candidate
    from socratic_agents.core.outcome import Refinement

HOUR = 3600.0


def pass_time() -> None:
    """Let the event loop believe that an hour has passed."""
    loop = asyncio.get_running_loop()
    now = loop.time() + HOUR
    loop.time = lambda: now  # type: ignore[method-assign]


@dataclass
class Interruption:
    """A way to interrupt a refinement, and how it ends then."""

    stop: StopReason

    def __post_init__(self) -> None:
        self.cancel = asyncio.Event()

    @property
    def limits(self) -> dict[str, Any]:
        if self.stop is StopReason.CANCELLED:
            return {"cancel": self.cancel}
        return {"deadline": asyncio.get_running_loop().time() + HOUR / 2}

    async def come(self) -> Any:
        """Interrupt, and wait for ever."""
        if self.stop is StopReason.CANCELLED:
            self.cancel.set()
        else:
            pass_time()
        await asyncio.Event().wait()


@pytest.fixture(params=[StopReason.CANCELLED, StopReason.DEADLINE])
async def interruption(request: pytest.FixtureRequest) -> Interruption:
    return Interruption(request.param)


async def test_what_is_drawn_is_kept_and_what_is_not_is_abandoned(
    interruption: Interruption,
) -> None:
    """The finished candidates of a round are a round, which nobody judged."""
    events, ended, scripted = list[Event](), list[int](), ScriptedAgents()
    twice = asyncio.Event()

    def watch(event: Event) -> None:
        events.append(event)
        if len(events) == 2:
            twice.set()

    async def generate(prompt: str, seed: int) -> Image.Image:
        if seed == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(seed)
        if seed == 2:
            await twice.wait()
            await interruption.come()
        return await scripted.generate(prompt, seed)

    outcome = await refine_in_rounds(
        "a cat",
        replace(scripted.agents(), generate=generate),
        rounds=3,
        seeds=itertools.count(),
        seeds_per_prompt=4,
        on_event=watch,
        **interruption.limits,
    )
    assert interruption.stop is outcome.stop
    assert [0, 3] == [candidate.seed for candidate in outcome.history.candidates]
    assert [1] == ended
    (round_,) = outcome.rounds
    assert round_.verdict is not None
    assert (None, True) == (round_.verdict.satisfied, bool(round_.verdict.reason))
    assert [EventKind.DRAWN, EventKind.DRAWN, EventKind.JUDGED] == [
        event.kind for event in events
    ]
    assert outcome.history == events[-1].history
    assert (2, None) == (outcome.usage.images, outcome.selection_error)
    assert {asyncio.current_task()} == asyncio.all_tasks()


@pytest.mark.parametrize("speculate", [False, True])
async def test_a_judge_that_has_no_time_leaves_the_round_unjudged(
    interruption: Interruption, *, speculate: bool
) -> None:
    """That is not "not satisfied"; and who writes ahead is dropped."""

    async def judge(history: History) -> Verdict:
        return await interruption.come()

    async def optimize(history: History) -> tuple[str, ...]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    outcome = await refine_in_rounds(
        "a cat",
        replace(ScriptedAgents().agents(), judge=judge, optimize=optimize),
        rounds=3,
        seeds=itertools.count(),
        speculate=speculate,
        **interruption.limits,
    )
    assert (interruption.stop, 1) == (outcome.stop, len(outcome.rounds))
    assert outcome.history.verdict is not None
    assert not outcome.history.verdict.judged
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_an_optimizer_that_has_no_time_leaves_the_history_as_it_is(
    interruption: Interruption,
) -> None:
    """The verdict stands, and no round is begun."""

    async def optimize(history: History) -> tuple[str, ...]:
        return await interruption.come()

    outcome = await refine_in_rounds(
        "a cat",
        replace(ScriptedAgents().agents(), optimize=optimize),
        rounds=3,
        seeds=itertools.count(),
        **interruption.limits,
    )
    assert (interruption.stop, 1) == (outcome.stop, len(outcome.rounds))
    assert outcome.rounds[0].verdict == Verdict(satisfied=False, missing=("a hat",))


async def test_a_selector_that_has_no_time_leaves_the_best_by_score(
    interruption: Interruption,
) -> None:
    """The refinement ended by itself; only the choice is another's."""

    async def select(history: History) -> int:
        return await interruption.come()

    outcome = await refine_in_rounds(
        "a cat",
        replace(ScriptedAgents(Script(scores=(0.1, 0.7))).agents(), select=select),
        rounds=2,
        seeds=itertools.count(),
        **interruption.limits,
    )
    assert StopReason.ROUNDS_SPENT is outcome.stop
    assert outcome.best is outcome.history.incumbent
    assert "no time" in (outcome.selection_error or "")


async def test_without_a_usable_image_there_is_nothing_to_return(
    interruption: Interruption,
) -> None:
    """The error says what was missing: time."""

    async def generate(prompt: str, seed: int) -> Image.Image:
        return await interruption.come()

    with pytest.raises(NothingDrawnError, match="none of 0 finished; allow more time"):
        await refine_in_rounds(
            "a cat",
            replace(ScriptedAgents().agents(), generate=generate),
            rounds=2,
            seeds=itertools.count(),
            **interruption.limits,
        )


async def test_who_is_interrupted_before_the_beginning_asks_for_nothing() -> None:
    """A set event is heard at once."""
    cancel, scripted = asyncio.Event(), ScriptedAgents(Script(questions=2))
    cancel.set()
    with pytest.raises(NothingDrawnError, match="before it was cancelled"):
        await refine_in_rounds(
            "a cat", scripted.agents(), rounds=2, seeds=itertools.count(), cancel=cancel
        )
    assert [] == [asked for asked in scripted.asked if asked[0] != "inquire"]


async def test_cancelling_the_task_is_no_interruption() -> None:
    """It raises what it always raises, with a deadline too."""
    waiting = asyncio.Event()

    async def judge(history: History) -> Verdict:
        waiting.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    task = asyncio.create_task(
        refine_in_rounds(
            "a cat",
            replace(ScriptedAgents().agents(), judge=judge),
            rounds=2,
            seeds=itertools.count(),
            cancel=asyncio.Event(),
            deadline=asyncio.get_running_loop().time() + HOUR,
        )
    )
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_of_an_agent_is_its_own() -> None:
    """It is not taken for the refinement's deadline."""

    async def judge(history: History) -> Verdict:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await refine_in_rounds(
            "a cat",
            replace(ScriptedAgents().agents(), judge=judge),
            rounds=2,
            seeds=itertools.count(),
            deadline=asyncio.get_running_loop().time() + HOUR,
        )


@dataclass
class Slow(ScriptedAgents):
    """Agents who take some steps of the event loop for everything."""

    steps: int = 0

    async def pause(self) -> None:
        for _ in range(self.steps):
            await asyncio.sleep(0)

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        for _ in range(seed % 3):
            await self.pause()
        return await super().generate(prompt, seed)

    async def assess(
        self, user_prompt: str, candidate: Candidate
    ) -> Mapping[str, float]:
        await self.pause()
        return await super().assess(user_prompt, candidate)

    async def answer(
        self, checklist: Checklist, candidate: Candidate
    ) -> tuple[Answer, ...]:
        await self.pause()
        return await super().answer(checklist, candidate)

    async def judge(self, history: History) -> Verdict:
        await self.pause()
        return await super().judge(history)

    async def optimize(self, history: History) -> tuple[str, ...]:
        await self.pause()
        return await super().optimize(history)

    async def select(self, history: History) -> int:
        await self.pause()
        return await super().select(history)


@given(scripts, st.integers(0, 60), st.integers(0, 4), st.booleans())
def test_whenever_it_is_interrupted_the_record_is_whole(
    script: Script, moment: int, steps: int, speculate: bool
) -> None:
    """What is returned is what was seen until then, and nothing runs on."""
    events, whole = list[Event](), Slow(script, steps=steps)

    def play(
        scripted: ScriptedAgents, on_event: Callable[[Event], None], **more: Any
    ) -> Any:
        return refine_in_rounds(
            "a cat",
            scripted.agents(),
            rounds=3,
            seeds=itertools.count(7),
            seeds_per_prompt=2,
            speculate=speculate,
            on_event=on_event,
            **more,
        )

    async def cut() -> Refinement | NothingDrawnError:
        cancel, loop = asyncio.Event(), asyncio.get_running_loop()

        def tick(left: int) -> None:
            if left:
                loop.call_soon(tick, left - 1)
            else:
                cancel.set()

        tick(moment)
        try:
            return await play(whole, events.append, cancel=cancel)
        except NothingDrawnError as problem:
            return problem
        finally:
            assert {asyncio.current_task()} == asyncio.all_tasks()

    outcome = asyncio.run(cut())
    history = outcome.history
    assert history is not None
    expected: list[tuple[EventKind, int]] = []
    for number, round_ in enumerate(history.rounds):
        expected += [(EventKind.DRAWN, number)] * len(round_.candidates)
        expected += [(EventKind.JUDGED, number + 1)]
        assert round_.verdict is not None
        assert round_.candidates
    assert expected == [(e.kind, len(e.history.rounds)) for e in events]
    observed = [e.candidate for e in events if e.kind is EventKind.DRAWN]
    assert all(candidate in observed for candidate in history.candidates)
    if isinstance(outcome, NothingDrawnError):
        assert history.incumbent is None
        return
    assert outcome.best.usable
    if outcome.stop is not StopReason.CANCELLED:
        uncut: list[Event] = []
        same = asyncio.run(play(Slow(script, steps=steps), uncut.append))
        assert (same.history, same.stop) == (history, outcome.stop)


class TestRefiner:
    @pytest.mark.parametrize("stop", [StopReason.CANCELLED, StopReason.DEADLINE])
    async def test_the_best_so_far_is_returned(self, stop: StopReason) -> None:
        """With what it cost until then, and without a receipt."""
        cancel = asyncio.Event()

        async def judge(history: History) -> Verdict:
            if stop is StopReason.CANCELLED:
                cancel.set()
            else:
                pass_time()
            return await asyncio.Event().wait()  # type: ignore[return-value]

        own = FAKES | {"judge": judge, "receipt": True}
        limits = {StopReason.CANCELLED: {"cancel": cancel}}
        limit: dict[str, Any] = limits.get(stop, {"deadline": HOUR / 2})
        outcome = await refine("a cat", **own, **limit)
        assert (stop, 1, None) == (outcome.stop, outcome.usage.images, outcome.receipt)

    async def test_each_of_many_has_its_own_deadline(self) -> None:
        """One that takes too long is returned as it is, or fails; the others go on."""

        async def judge(history: History) -> Verdict:
            if history.user_prompt == "a cat":
                pass_time()
                return await asyncio.Event().wait()  # type: ignore[return-value]
            return Verdict(satisfied=True)

        own = FAKES | {"judge": judge, "in_flight": 1}
        prompts = ["a cat", "a dog"]
        found = [o async for o in refine_many(prompts, deadline=HOUR / 2, **own)]
        assert not any(isinstance(outcome, Failure) for outcome in found)
        assert [StopReason.DEADLINE, StopReason.SATISFIED] == [
            outcome.stop for outcome in found if not isinstance(outcome, Failure)
        ]

    def test_a_script_may_have_a_deadline(self) -> None:
        """Where it is not reached, nothing is different."""
        plain, limited = [
            refine_sync("a cat", **FAKES, deadline=deadline)
            for deadline in (None, HOUR)
        ]
        assert plain.history == limited.history
        assert plain.stop is limited.stop

    @pytest.mark.parametrize("deadline", [0, -1.0, float("nan")])
    async def test_a_deadline_must_leave_some_time(self, deadline: float) -> None:
        """Nothing can be drawn in none; nothing is opened to say so."""
        refiner = Refiner(**FAKES)
        with pytest.raises(ConfigurationError, match="more than 0 seconds, got"):
            await refiner.refine("a cat", deadline=deadline)
        with pytest.raises(ConfigurationError, match="more than 0 seconds, got"):
            await anext(refiner.refine_many(["a cat"], deadline=deadline))
        assert refiner.statistics() is None
