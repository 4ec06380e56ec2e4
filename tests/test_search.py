"""Searches: what is tried next is a value, and the loop makes what it is asked for.

The searches of this file need nothing but the protocol: best of N, a population that
evolves several prompts a round, and one that changes images in place of drawing them.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from socratic_agents import Refiner
from socratic_agents.agents.search.classic import ClassicSearch
from socratic_agents.agents.search.default import DefaultSearch, best_wording
from socratic_agents.agents.search.paired import PairedSearch
from socratic_agents.agents.search.registry import SEARCHES, find_search
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import YesNo
from socratic_agents.core.errors import CallError, ConfigurationError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
)
from socratic_agents.core.loop import Agents, Event, EventKind, Limits, refine_prompt
from socratic_agents.core.search import Draw, Plan, Session, seed_bank
from tests.strategies import Script, ScriptedAgents, noisy
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from socratic_agents.core.search import Attempt


@dataclass(frozen=True)
class BestOfN(Session):
    """So many images of the user prompt, and no more; it keeps nothing in mind."""

    images: int

    def session(self, agents: Agents) -> AbstractAsyncContextManager[Session]:
        return nullcontext(self)

    async def next(self, history: History, left: int | None) -> Plan | StopReason:
        if history.rounds:
            return StopReason.ROUNDS_SPENT
        seeds = itertools.islice(seed_bank(7), self.images)
        return Plan(attempts=tuple(Draw(history.user_prompt, seed) for seed in seeds))


class Evolution(Session):
    """Every round crosses the best prompts so far, as many as were there before."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.open = False
        self.left: list[int | None] = []

    @asynccontextmanager
    async def session(self, agents: Agents) -> AsyncIterator[Session]:
        self.open = True
        yield self
        self.open = False

    async def next(self, history: History, left: int | None) -> Plan | StopReason:
        self.left.append(left)
        if not history.rounds:
            return Plan(attempts=(Draw(history.user_prompt, 0),))
        best = [history.candidates[index].prompt for index in history.ranked()]
        parents = [*best, history.user_prompt][:2]
        return Plan(
            attempts=tuple(
                Draw(f"{' and '.join(parents)} ({number})"[-40:], number)
                for number in range(self.size)
            )
        )


@dataclass(frozen=True)
class Invert:
    """An attempt that changes an earlier image."""

    parent: CandidateRef

    def candidate(self) -> Candidate:
        return Candidate(prompt="the same, inverted", seed=0)

    async def make(self, agents: Agents, history: History) -> Image.Image:
        parent = history.rounds[self.parent.round].candidates[self.parent.candidate]
        assert parent.image is not None
        return ImageChops.invert(parent.image)


class Editing(Session):
    """Draws once, and then changes what came last."""

    def session(self, agents: Agents) -> AbstractAsyncContextManager[Session]:
        return nullcontext(self)

    async def next(self, history: History, left: int | None) -> Plan | StopReason:
        if not history.rounds:
            return Plan(attempts=(Draw(history.user_prompt, 7),))
        last = CandidateRef(round=len(history.rounds) - 1, candidate=0)
        return Plan(attempts=(Invert(last),), error="the optimizer is on holiday")


@given(st.integers(1, 9), st.none() | st.integers(1, 9))
def test_best_of_n_is_a_search(images: int, most: int | None) -> None:
    """It draws the user prompt from the bank's seeds, and the best is returned."""
    scripted = ScriptedAgents(Script(scores=(0.1, 0.9, 0.5)))
    limits = Limits(max_images=most)
    outcome = asyncio.run(
        refine_prompt("a cat", scripted.agents(), BestOfN(images), limits=limits)
    )
    drawn = [call[1:] for call in scripted.asked if call[0] == "generate"]
    count = min(images, most or images)
    assert [("a cat", seed) for seed in itertools.islice(seed_bank(7), count)] == drawn
    assert (1, StopReason.ROUNDS_SPENT) == (len(outcome.rounds), outcome.stop)
    assert outcome.best.score == max(c.score or 0 for c in outcome.history.candidates)
    assert "optimize" not in {call[0] for call in scripted.asked}


@given(st.integers(1, 4), st.integers(1, 20))
def test_a_population_evolves_until_the_images_are_spent(size: int, most: int) -> None:
    """The loop knows no rounds: the limit alone ends it, in the midst of one."""
    search = Evolution(size)
    outcome = asyncio.run(
        refine_prompt(
            "a cat",
            ScriptedAgents(Script(scores=(0.1, 0.9, 0.5))).agents(),
            search,
            limits=Limits(max_images=most),
        )
    )
    assert (most, StopReason.BUDGET_SPENT) == (outcome.usage.images, outcome.stop)
    sizes = [len(round_.candidates) for round_ in outcome.rounds]
    assert [1, *[size] * len(sizes[1:-1])] == sizes[: max(1, len(sizes) - 1)]
    assert [most - sum(sizes[:n]) for n in range(len(sizes) + 1)] == search.left
    assert not search.open


def test_a_satisfied_judge_ends_any_search() -> None:
    """Nobody is asked what comes next once the image is what was asked for."""
    search, scripted = Evolution(2), ScriptedAgents(Script(verdicts=(False, True)))
    outcome = asyncio.run(refine_prompt("a cat", scripted.agents(), search))
    assert (StopReason.SATISFIED, 2) == (outcome.stop, len(search.left))


def test_a_search_may_change_images_in_place_of_drawing_them() -> None:
    """How an attempt becomes an image is its own matter; the loop looks at it."""
    limits, events = Limits(max_images=3), list[Event]()

    async def caption(image: Image.Image) -> str:
        return str(image.getpixel((0, 0)))

    agents = replace(ScriptedAgents().agents(), caption=caption)
    outcome = asyncio.run(
        refine_prompt("a cat", agents, Editing(), limits=limits, on_event=events.append)
    )
    black, white = "(0, 0, 0)", "(255, 255, 255)"
    drawn = outcome.history.candidates
    assert [black, white, black] == [candidate.caption for candidate in drawn]
    assert [None, *["the optimizer is on holiday"] * 2] == [
        round_.error for round_ in outcome.rounds
    ]
    assert 3 == [event.kind for event in events].count(EventKind.DRAWN)


async def test_a_search_may_add_to_a_round_until_it_has_enough() -> None:
    """What joins a round is judged with it, and cut where there is no room."""

    class Greedy(BestOfN):
        async def more(self, history: History, left: int | None) -> tuple[Attempt, ...]:
            assert history.rounds[-1].verdict is None
            if len(history.candidates) > 5:
                return ()
            return (Draw("more", 1), Draw("more", 2))

    for most, count in ((None, 7), (4, 4), (1, 1)):
        scripted = ScriptedAgents()
        limits = Limits(max_images=most)
        outcome = await refine_prompt(
            "a cat", scripted.agents(), Greedy(1), limits=limits
        )
        assert [count] == [len(round_.candidates) for round_ in outcome.rounds]
        assert 1 == [call[0] for call in scripted.asked].count("judge")


async def test_an_error_of_the_search_keeps_the_history() -> None:
    """What was drawn before is on record, and the session is left."""

    class Failing(BestOfN):
        async def next(self, history: History, left: int | None) -> Plan | StopReason:
            if history.rounds:
                raise CallError("gone")
            return await super().next(history, left)

    with pytest.raises(CallError, match="gone") as caught:
        await refine_prompt("a cat", ScriptedAgents().agents(), Failing(2))
    assert caught.value.history is not None
    assert 2 == len(caught.value.history.candidates)


class TestNames:
    def test_a_preset_has_its_search(self) -> None:
        """The predecessor draws from fresh noise, unless another search is named."""
        assert isinstance(find_search(Settings()), DefaultSearch)
        assert isinstance(find_search(Settings(preset="classic")), ClassicSearch)
        assert isinstance(find_search(Settings(fresh_noise=True)), ClassicSearch)
        named = Settings(preset="classic", search="paired")
        assert isinstance(find_search(named), PairedSearch)

    @pytest.mark.parametrize("name", SEARCHES)
    def test_a_search_does_what_the_settings_say(self, name: str) -> None:
        """Rounds, seeds and speculation are its own."""
        settings = Settings(search=name, rounds=3, seeds_per_prompt=2, seed=5)
        search: Any = find_search(settings)
        assert (3, 2, False) == (
            search.rounds,
            search.seeds_per_prompt,
            search.speculate,
        )
        assert 5 == next(search.seeds())
        assert name == settings.public()["search"]

    def test_an_unknown_search_is_told_before_anything_is_opened(self) -> None:
        """The message names the searches that there are."""
        with pytest.raises(ConfigurationError, match="default, paired, classic"):
            Refiner(search="clasic")
        with pytest.raises(ConfigurationError, match="a search or its name, got int"):
            Settings(search=7)

    async def test_a_search_of_ones_own_is_used(self) -> None:
        """An object with the protocol's method is as good as a name."""
        async with Refiner(**FAKES, search=BestOfN(3)) as refiner:
            outcome = await refiner.refine("a cat")
        assert ["a cat"] * 3 == [c.prompt for c in outcome.history.candidates]
        assert "BestOfN" == outcome.settings["search"]


def test_the_bank_serves_every_refinement_from_its_beginning() -> None:
    """One search plays many sessions, which share nothing."""
    search = DefaultSearch(rounds=2, seeds=lambda: seed_bank(3))
    agents = ScriptedAgents(
        Script(statuses=(Status.SAFETY_FILTERED, Status.OK))
    ).agents()

    async def play() -> list[Any]:
        together = [refine_prompt("a cat", agents, search) for _ in range(3)]
        return await asyncio.gather(*together)

    first, *others = [outcome.history for outcome in asyncio.run(play())]
    assert [first, first] == others


class TestDefault:
    """Words that failed are left, each wording has noise of its own, none is unspent."""

    @staticmethod
    def play(script: Script, *, images: int, prompts: int) -> Any:
        search = DefaultSearch(
            seeds=lambda: itertools.count(100), prompts_per_round=prompts
        )
        limits = Limits(max_images=images)
        agents = noisy(ScriptedAgents(script).agents())
        return asyncio.run(refine_prompt("a cat", agents, search, limits=limits))

    @given(
        st.integers(1, 20),
        st.integers(1, 5),
        st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=5),
    )
    def test_all_images_are_spent_on_noise_of_their_own(
        self, images: int, prompts: int, written: list[int | None]
    ) -> None:
        """However many rewrites come, if any, a judge that is never satisfied gets all."""
        script = Script(rewrites=tuple(written), scores=(0.2, 0.7, 0.4))
        outcome = self.play(script, images=images, prompts=prompts)
        assert (images, StopReason.BUDGET_SPENT) == (outcome.usage.images, outcome.stop)
        seeds = [one.seed for one in outcome.history.candidates]
        assert list(range(100, 100 + images)) == seeds
        sizes = [len(round_.candidates) for round_ in outcome.rounds]
        assert all(size >= prompts for size in sizes[1:-1])

    def test_what_fails_to_come_is_filled_with_the_best_wording(self) -> None:
        """The optimizer has no answer, or fewer prompts than there is room for."""
        script = Script(rewrites=(1, None), scores=(0.1, 0.9))
        outcome = self.play(script, images=7, prompts=3)
        first, second, third = (
            [one.prompt for one in round_.candidates] for round_ in outcome.rounds
        )
        assert ["a cat"] == first
        assert 1 == len({*second} - {"a cat"})
        assert ["a cat"] * 2 == second[1:]
        assert 1 == len({*third})
        assert outcome.rounds[2].error is not None

    def test_words_that_pass_are_not_changed(self) -> None:
        """Where the whole checklist passes and nobody is satisfied, noise is changed."""
        script = Script(questions=1, answers=(YesNo.YES,), verdicts=(False,))
        scripted = ScriptedAgents(script)
        search = DefaultSearch(seeds=itertools.count, prompts_per_round=2)
        outcome = asyncio.run(
            refine_prompt(
                "a cat", noisy(scripted.agents()), search, limits=Limits(max_images=5)
            )
        )
        assert ["a cat"] * 5 == [one.prompt for one in outcome.history.candidates]
        assert "optimize" not in {call[0] for call in scripted.asked}


def scored(*pairs: tuple[str, float | None]) -> History:
    """Return a history of one round with these prompts and scores."""
    candidates = tuple(
        Candidate(
            prompt=prompt, seed=0, scores={} if score is None else {"score": score}
        )
        for prompt, score in pairs
    )
    return History(user_prompt="a cat", rounds=(Round(candidates=candidates),))


@pytest.mark.parametrize(
    ("pairs", "best"),
    [
        ((("one", 0.5), ("two", 0.6)), "two"),
        ((("lucky", 0.7), *[("good", 0.65)] * 4, *[("bad", 0.1)] * 4), "good"),
        ((("one", None), ("two", None)), "two"),
        ((("one", 0.5), ("two", None)), "one"),
        ((("one", 0.5), ("two", 0.5)), "one"),
        ((), "a cat"),
    ],
)
def test_the_best_wording_is_good_on_average(
    pairs: tuple[tuple[str, float | None], ...], best: str
) -> None:
    """One lucky image does not outweigh several good ones; what is unscored has no say."""
    assert best == best_wording(scored(*pairs))
