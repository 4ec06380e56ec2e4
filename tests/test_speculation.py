"""Speculation: the optimizer writes while the judge still thinks.

Invariants, over scripted agents that fail in every way and take any time:

* The same images are drawn as without it, and the same is returned.
* All that it costs is one call of the optimizer more, which is dropped
  where the judge is satisfied.
* When the refinement ends nothing of it is left running.
* What was paid for is counted, and no limit is passed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents import Refiner
from socratic_agents.agents.search.registry import speculates
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import AnswerError, CallError, NothingDrawnError
from socratic_agents.core.history import History, StopReason, Verdict
from socratic_agents.core.loop import Agents
from socratic_agents.core.outcome import Refinement
from socratic_agents.llm.usage import UsageMeter, current_meter, using_meter
from tests.fakes import ScriptedChatModel
from tests.strategies import Script, ScriptedAgents, refine_in_rounds, scripts
from tests.test_loop import limits
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN = Question(text="Is there a hat?", requirement="a hat")


@dataclass
class Slow(ScriptedAgents):
    """Agents whose judge and optimizer take some steps of the event loop."""

    judging: int = 0
    writing: int = 0
    dropped: int = field(default=0, init=False)
    """How often the optimizer was cancelled while it wrote."""

    async def judge(self, history: History) -> Verdict:
        for _ in range(self.judging):
            await asyncio.sleep(0)
        return await super().judge(history)

    async def optimize(self, history: History) -> tuple[str, ...]:
        current_meter().add_call()
        try:
            for _ in range(self.writing):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        return await super().optimize(history)


def _run(
    scripted: ScriptedAgents, limit: Mapping[str, Any], *, speculate: bool
) -> Refinement | NothingDrawnError:
    async def play() -> Refinement | NothingDrawnError:
        try:
            return await refine_in_rounds(
                "a cat",
                scripted.agents(),
                seeds=itertools.count(7),
                speculate=speculate,
                **limit,
            )
        except NothingDrawnError as problem:
            return problem
        finally:
            assert {asyncio.current_task()} == asyncio.all_tasks()

    return asyncio.run(play())


@given(scripts, limits, st.integers(0, 12), st.integers(0, 6))
def test_the_same_images_are_bought(
    script: Script, limit: Mapping[str, Any], judging: int, writing: int
) -> None:
    """Whoever is quicker, it is the same refinement, but for one optimizer's work."""
    plain = ScriptedAgents(script)
    expected = _run(plain, limit, speculate=False)
    ahead = Slow(script, judging=judging, writing=writing)
    with using_meter() as meter:
        got = _run(ahead, limit, speculate=True)
    assert expected.history == got.history
    if isinstance(expected, Refinement):
        assert expected == got
    written = [asked for asked in plain.asked if asked[0] == "optimize"]
    finished = [asked for asked in ahead.asked if asked[0] == "optimize"]
    assert written == finished[: len(written)]
    # What was begun is counted, whether it was dropped on the way or at the end.
    assert meter.llm_calls == len(finished) + ahead.dropped
    assert 0 <= meter.llm_calls - len(written) <= 1


@given(scripts, limits, st.integers(0, 12))
def test_the_same_inputs_give_the_same_run(
    script: Script, limit: Mapping[str, Any], judging: int
) -> None:
    """Nothing depends on the clock or on chance."""
    first, second = [
        _run(Slow(script, judging=judging), limit, speculate=True) for _ in range(2)
    ]
    assert first.history == second.history


class Stage:
    """Agents on a stage where it can be seen who speaks when."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.seen: list[History] = []
        self.said: list[tuple[str, ...] | Exception] = []
        self.wait: asyncio.Event | None = None
        """What the optimizer waits for before it answers."""

    def agents(self, **others: Any) -> Agents:
        async def draw(prompt: str, seed: int) -> Image.Image:
            return Image.new("RGB", (1, 1), "red")

        async def caption(image: Image.Image) -> str:
            return "a cat"

        async def select(history: History) -> int:
            return 0

        return replace(
            Agents(
                generate=draw,
                caption=caption,
                judge=self.judge,
                optimize=self.optimize,
                select=select,
            ),
            **others,
        )

    async def judge(self, history: History) -> Verdict:
        await self.begun.wait()
        self.begun.clear()
        return self.verdicts.pop(0)

    async def optimize(self, history: History) -> tuple[str, ...]:
        self.seen.append(history)
        self.begun.set()
        current_meter().add_call()
        try:
            if self.wait:
                await self.wait.wait()
        finally:
            self.ended.set()
        said = self.said.pop(0) if self.said else (f"cat {len(self.seen)}",)
        if isinstance(said, Exception):
            raise said
        return said

    async def play(self, *, rounds: int, **others: Any) -> Refinement:
        limits = {
            key: others.pop(key) for key in ("spent", "max_images") if key in others
        }
        return await asyncio.wait_for(
            refine_in_rounds(
                "a cat with a hat",
                self.agents(**others),
                rounds=rounds,
                seeds=itertools.count(7),
                speculate=True,
                **limits,
            ),
            10,
        )


NOT_YET = Verdict(satisfied=False, missing=("a hat",))
SATISFIED = Verdict(satisfied=True)


async def _judged_at_once(history: History) -> Verdict:
    return NOT_YET


async def test_both_think_at_the_same_time() -> None:
    """A judge that waits for the optimizer to begin is answered."""
    stage = Stage(NOT_YET, SATISFIED)
    refinement = await stage.play(rounds=3)
    assert StopReason.SATISFIED is refinement.stop
    assert ["a cat with a hat", "cat 1"] == [
        candidate.prompt for candidate in refinement.history.candidates
    ]


async def test_the_optimizer_is_dropped_when_the_judge_is_satisfied() -> None:
    """It is cancelled before the selector is asked, and its call is counted."""
    stage, selected = Stage(SATISFIED), list[bool]()
    stage.wait = asyncio.Event()

    async def select(history: History) -> int:
        selected.append(stage.ended.is_set())
        return 0

    with using_meter() as meter:
        refinement = await stage.play(rounds=3, select=select)
    assert [True] == selected
    assert (1, 1) == (refinement.usage.images, meter.llm_calls)
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_nothing_is_known_of_a_new_incumbent() -> None:
    """The optimizer sees that nobody has judged yet, and the images as they are."""
    stage = Stage(NOT_YET, SATISFIED)
    await stage.play(rounds=3)
    first, second = stage.seen
    assert (None, ()) == (first.verdict and first.verdict.satisfied, _missing(first))
    assert 2 == len(second.rounds)
    # Without scores the latest is the incumbent: what the first lacked says nothing.
    assert (None, ()) == (second.verdict and second.verdict.satisfied, _missing(second))
    assert NOT_YET == second.rounds[0].verdict


async def test_an_incumbent_that_stays_lacks_what_it_lacked() -> None:
    """Its earlier verdict is known, and the optimizer is told what is missing."""

    async def assess(user_prompt: str, candidate: Any) -> dict[str, float]:
        return {"clip": -float(candidate.prompt.startswith("cat"))}

    stage = Stage(NOT_YET, SATISFIED)
    await stage.play(rounds=3, assess=assess)
    assert [(), ("a hat",)] == [_missing(history) for history in stage.seen]


async def test_what_the_checklist_says_is_known_before_the_judge() -> None:
    """The answers are in with the images: the optimizer is told what failed."""

    async def inquire(user_prompt: str) -> Checklist:
        return Checklist(questions=(KNOWN,))

    async def answer(checklist: Checklist, candidate: Any) -> tuple[Answer, ...]:
        return checklist.resolved([Answer(said=YesNo.NO)])

    stage = Stage(SATISFIED)
    await stage.play(rounds=3, inquire=inquire, answer=answer)
    assert ("a hat",) == _missing(stage.seen[0])


def _missing(history: History) -> tuple[str, ...]:
    assert history.verdict is not None
    return history.verdict.missing


@pytest.mark.parametrize(
    "limit",
    [
        {"rounds": 1},
        {"rounds": 3, "max_images": 1},
        {"rounds": 3, "spent": lambda: True},
    ],
    ids=["rounds", "images", "budget"],
)
async def test_nobody_writes_for_a_round_that_will_not_be(limit: Any) -> None:
    """Where the refinement ends in any case, the optimizer is not asked."""
    stage = Stage()
    refinement = await stage.play(judge=_judged_at_once, **limit)
    assert [] == stage.seen
    assert 1 == refinement.usage.images


@pytest.mark.parametrize("late", [False, True], ids=["before", "when cancelled"])
async def test_a_mistake_that_nobody_needs_is_no_mistake(
    caplog: pytest.LogCaptureFixture, *, late: bool
) -> None:
    """An optimizer that fails is not missed where the judge is satisfied."""
    stage = Stage(SATISFIED)

    async def optimize(history: History) -> tuple[str, ...]:
        stage.begun.set()
        try:
            await asyncio.sleep(3600 * late)
        finally:
            raise CallError("the line is dead")

    refinement = await stage.play(rounds=3, optimize=optimize)
    assert StopReason.SATISFIED is refinement.stop
    gc.collect()  # the complaint would be that of a task that nobody looked at
    assert [] == caplog.records


async def test_a_mistake_counts_as_without_speculation() -> None:
    """A wrong answer is replaced by fresh noise, and a dead line ends the refinement."""
    stage = Stage(NOT_YET, NOT_YET)
    stage.said = [AnswerError("it mumbled"), CallError("the line is dead")]
    with pytest.raises(CallError, match="the line is dead") as caught:
        await stage.play(rounds=3)
    assert caught.value.history is not None
    first, second = caught.value.history.rounds
    assert (None, "it mumbled") == (first.error, second.error)
    assert [8] == [candidate.seed for candidate in second.candidates]


async def test_cancelling_the_refinement_cancels_both() -> None:
    """No task is left behind."""
    stage = Stage()
    stage.wait, stage.begun = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(stage.play(rounds=3, judge=_never_ends))
    await stage.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.ended.is_set()
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def _never_ends(history: History) -> Verdict:
    await asyncio.Event().wait()
    return NOT_YET


async def test_a_budget_of_calls_holds() -> None:
    """What was begun in vain is paid like the rest, and the limit is never passed."""
    stage = Stage(NOT_YET, NOT_YET, SATISFIED)
    meter = UsageMeter(budget=Settings(budget="llm-calls=2").budget)
    with using_meter(meter):
        refinement = await stage.play(rounds=5, spent=lambda: meter.spent() is not None)
    assert 2 == meter.llm_calls
    assert StopReason.BUDGET_SPENT is refinement.stop


class TestSettings:
    @pytest.mark.parametrize("judge", ["caption", "vision", _judged_at_once])
    def test_judges_that_think_give_time(self, judge: Any) -> None:
        """A language model takes its time, and a callable may."""
        assert speculates(Settings(judge=judge, speculate=True))
        assert not speculates(Settings(judge=judge))

    @pytest.mark.parametrize("judge", ["checklist", "score:0.8", "never"])
    def test_quick_judges_are_heard_first(self, judge: str) -> None:
        """Where the verdict is there at once, nothing would be won."""
        assert not speculates(Settings(judge=judge, speculate=True))

    @pytest.mark.parametrize("limit", ["llm-calls=9", "tokens=9", "money=9"])
    @pytest.mark.parametrize("whose", ["budget", "run_budget"])
    def test_counted_requests_are_made_in_order(self, whose: str, limit: str) -> None:
        """Otherwise chance would decide who gets the last one."""
        given: dict[str, Any] = {whose: limit, "prices": "image=1"}
        assert not speculates(Settings(judge="caption", speculate=True, **given))
        other = {whose: "images=9,seconds=9"}
        assert speculates(Settings(judge="caption", speculate=True, **other))

    async def test_a_refiner_does_it_when_it_is_set(self) -> None:
        """Judge and optimizer wait for each other, and all calls are counted."""
        stage = Stage(NOT_YET, SATISFIED)
        own = {"judge": stage.judge, "optimizer": stage.optimize, "rounds": 3}
        async with Refiner(**(FAKES | own), speculate=True) as refiner:
            refinement = await asyncio.wait_for(refiner.refine("a cat"), 10)
        assert StopReason.SATISFIED is refinement.stop
        assert 2 == refinement.usage.images
        assert len(stage.seen) == refinement.usage.llm_calls
        assert refinement.settings["speculate"]

    async def test_two_roles_of_one_model(self) -> None:
        """With a language model in both roles the answers reach who asked."""
        judged = {"reason": "", "missing": ["a hat"], "satisfied": False}
        happy = {"reason": "", "missing": [], "satisfied": True}
        written = {"reason": "", "prompts": ["a cat in a hat"]}

        class Roles(ScriptedChatModel):
            """Answers what it is asked for, in order of the role."""

            def _generate(self, *args: Any, tool: str = "", **kwargs: Any) -> Any:
                answers: dict[str, list[Any]] = {
                    "Judgement": [judged, happy],
                    "Rewrites": [written],
                }
                told = sum(role == tool for role in asked)
                asked.append(tool)
                self.script = [answers[tool][told]]
                return super()._generate(*args, tool=tool, **kwargs)

        asked = list[str]()
        own = {"judge": "caption", "optimizer": "llm", "llm": Roles(), "guard": None}
        async with Refiner(**(FAKES | own), speculate=True, max_images=2) as refiner:
            refinement = await refiner.refine("a cat")
        assert ["a cat", "a cat in a hat"] == [
            candidate.prompt for candidate in refinement.history.candidates
        ]
        assert StopReason.SATISFIED is refinement.stop
        assert 3 == refinement.usage.llm_calls
