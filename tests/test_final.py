"""Draft, then final: the winner is drawn again, and returned only if it loses nothing.

Invariants:
* No question that the draft passes is failed by what is returned.
* Drafts and finals together stay within the limits.
* Both are in the history, the finals marked, in a round of their own.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents import Refinement, Refiner, Settings
from socratic_agents.agents.search.default import DefaultSearch
from socratic_agents.cli.app import main
from socratic_agents.config.final import final_settings
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.final import Final, refine_with_final, with_finals
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.loop import NO_LIMITS, Event, EventKind, Limits
from socratic_agents.core.search import seed_bank
from socratic_agents.lab.compare.run import compare
from socratic_agents.report.html import report_html
from socratic_agents.report.run_browser_rows import Row, row_json
from socratic_agents.runtime.build import open_run_directory
from socratic_agents.runtime.cached_models import tell_unidentified
from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.runtime.replay import replay, settings_of
from socratic_agents.storage.provenance import read_provenance
from tests.strategies import Script, ScriptedAgents
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUESTIONS = tuple(
    Question(text=f"Is there a {thing}?", requirement=f"a {thing}")
    for thing in ("dog", "cat", "hat")
)
TOLD = st.lists(st.sampled_from(YesNo), min_size=3, max_size=3)


def answered(told: list[YesNo]) -> tuple[Answer, ...]:
    return Checklist(questions=QUESTIONS).resolved([Answer(said=one) for one in told])


def draft(verdict: Verdict | None = None, **facts: Any) -> Refinement:
    """Return a refinement of one draft."""
    candidate = Candidate(prompt="a dog", seed=7, image=picture(), **facts)
    return Refinement(
        history=History(
            user_prompt="a dog",
            rounds=(Round(candidates=(candidate,), verdict=verdict),),
            checklist=Checklist(questions=QUESTIONS),
        ),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.ROUNDS_SPENT,
    )


def picture() -> Image.Image:
    return Image.new("RGB", (2, 2), "white")


def final(**facts: Any) -> Candidate:
    return Candidate(prompt="a dog", seed=7, image=picture(), final=True, **facts)


@given(TOLD, st.lists(TOLD, min_size=1, max_size=3))
def test_what_is_returned_passes_all_that_the_draft_passes(
    before: list[YesNo], after: list[list[YesNo]]
) -> None:
    """A question that nobody can answer any more is not passed either."""
    finals = [final(answers=answered(told)) for told in after]
    ended = with_finals(draft(answers=answered(before)), finals)
    passed = [place for place, one in enumerate(answered(before)) if one.passed]
    assert all(ended.best.answers[place].passed for place in passed)
    keeps = [all(one.answers[p].passed for p in passed) for one in finals]
    assert ended.best.final is any(keeps)
    assert tuple(finals) == ended.rounds[-1].candidates
    assert ended.rounds[-1].final
    assert len(finals) == ended.usage.images


def test_of_several_finals_the_best_score_is_returned() -> None:
    """Of equals the first one, as ever."""
    told = answered([YesNo.YES] * 3)
    finals = [final(answers=told, scores={"clip": s}) for s in (0.2, 0.4, 0.4)]
    ended = with_finals(draft(answers=told, scores={"clip": 0.9}), finals)
    assert CandidateRef(round=1, candidate=1) == ended.best_place


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (
            {"answers": answered([YesNo.YES, YesNo.YES, YesNo.NO])},
            {"answers": answered([YesNo.NO, YesNo.YES, YesNo.YES])},
            "the final image fails what the draft passes (a dog)",
        ),
        (
            {"answers": answered([YesNo.YES] * 3)},
            {"error": "the eye is shut"},
            "nobody could answer what the final image shows (the eye is shut)",
        ),
        (
            {"scores": {"clip": 0.5, "other": 1}},
            {"scores": {"clip": 0.4, "other": 2}},
            "the final image scores less (0.400, the draft 0.500)",
        ),
        (
            {"scores": {"clip": 0.5}},
            {"error": "no number"},
            "the final image has no score (no number)",
        ),
        (
            {},
            {"status": Status.NUMERICAL_FAILURE, "error": "it is black"},
            "the final image is unusable (it is black)",
        ),
    ],
)
def test_where_something_is_lost_the_draft_is_returned(
    before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    """The round says what."""
    ended = with_finals(draft(**before), [final(**after)])
    assert not ended.best.final
    verdict = ended.rounds[-1].verdict
    assert verdict is not None
    assert f"the draft is returned: {reason}" == verdict.reason


def test_what_nobody_looked_at_is_not_said_to_keep_anything() -> None:
    """Without answers and scores the final image is returned, and that is told."""
    ended = with_finals(draft(), [final()])
    assert ended.best.final
    assert ended.history.verdict is not None
    assert "nobody could compare it" in ended.history.verdict.reason


def test_the_judge_s_word_stands() -> None:
    """Nobody judges the final images; where nothing is measured, they are returned."""
    said = Verdict(satisfied=False, missing=("a hat",), reason="no hat")
    ended = with_finals(draft(said), [final()])
    assert ended.best.final
    assert replace(said, reason=ended.rounds[-1].verdict.reason) == (  # type: ignore[union-attr]
        ended.rounds[-1].verdict
    )
    assert draft() == with_finals(draft(), [])


class Studio(ScriptedAgents):
    """Draws drafts and finals, and counts."""

    def __init__(self, **script: Any) -> None:
        super().__init__(Script(**script))
        self.finals: list[tuple[str, int]] = []
        self.events: list[Event] = []

    async def finish(self, prompt: str, seed: int) -> Image.Image:
        self.finals.append((prompt, seed))
        image = Image.new("RGB", (1, 1), "white")
        image.info["made_from"] = (prompt, seed)
        return image

    async def refined(
        self,
        *,
        images: int | None = 1,
        limits: Limits = NO_LIMITS,
        finish: Callable[..., Any] | None = None,
    ) -> Refinement:
        return await refine_with_final(
            "a cat",
            self.agents(),
            DefaultSearch(rounds=2, seeds=lambda: seed_bank(7)),
            final=Final(generate=finish or self.finish, images=images)
            if images
            else None,
            limits=limits,
            on_event=self.events.append,
        )


async def test_the_winner_is_drawn_again_and_everything_is_observed() -> None:
    """From its own seed first, then from others that depend on it alone."""
    studio = Studio()
    ended = await studio.refined(images=3)
    best = ended.rounds[1].candidates[0]
    seeds = seed_bank(best.seed)
    assert [(best.prompt, next(seeds)) for _ in range(3)] == studio.finals
    assert ended.best.final
    assert 5 == ended.usage.images
    *_, last = studio.events
    assert (EventKind.JUDGED, ended.history) == (last.kind, last.history)
    drawn = [e.candidate for e in studio.events if e.kind is EventKind.DRAWN]
    assert list(ended.history.candidates) == drawn


@given(st.integers(1, 6), st.integers(1, 4))
def test_drafts_and_finals_share_the_limit(most: int, images: int) -> None:
    """The search leaves room for the finals, but the user prompt is always drawn."""
    studio = Studio()
    limits = Limits(max_images=most)
    ended = asyncio.run(studio.refined(images=images, limits=limits))
    assert ended.usage.images <= most
    assert min(images, most - 1) == len(studio.finals) or most - images > 2


async def test_nothing_is_begun_when_all_is_spent_or_nobody_draws_finals() -> None:
    """The draft is returned as if there were no final generator."""
    spent = Studio()
    ended = await spent.refined(limits=Limits(spent=lambda: True))
    assert [] == spent.finals
    assert not ended.best.final
    plain = Studio()
    ended = await plain.refined(images=None)
    assert [] == plain.finals
    assert StopReason.ROUNDS_SPENT is ended.stop


async def test_who_interrupts_the_search_gets_the_draft() -> None:
    """No final is begun."""
    studio, cancel = Studio(), asyncio.Event()
    studio.events = Cancelling(cancel)
    ended = await studio.refined(limits=Limits(cancel=cancel))
    assert StopReason.CANCELLED is ended.stop
    assert [] == studio.finals


class Cancelling(list[Event]):
    """Stops after the first round."""

    def __init__(self, cancel: asyncio.Event) -> None:
        super().__init__()
        self.cancel = cancel

    def append(self, event: Event) -> None:
        if event.kind is EventKind.JUDGED:
            self.cancel.set()


async def test_who_interrupts_the_final_gets_the_draft() -> None:
    """What was finished until then stays in the history, and what was not does not."""
    studio, cancel = Studio(), asyncio.Event()

    async def never(prompt: str, seed: int) -> Image.Image:
        cancel.set()
        await asyncio.Event().wait()
        raise AssertionError

    ended = await studio.refined(limits=Limits(cancel=cancel), finish=never)
    assert not any(one.final for one in ended.history.candidates)
    assert 2 == len(ended.rounds)


async def test_a_final_that_fails_is_a_candidate_with_its_cause() -> None:
    """The draft is returned."""
    studio = Studio()

    async def fails(prompt: str, seed: int) -> Image.Image:
        raise CandidateError(Status.GENERATION_FAILED, "the card is full")

    ended = await studio.refined(finish=fails)
    assert not ended.best.final
    assert "the card is full" == ended.history.candidates[-1].error


def drawn_white(prompt: str, seed: int) -> Image.Image:
    image = Image.new("RGB", (2, 2), (250, len(prompt), seed % 256))
    image.info["prompt"] = prompt
    return image


async def test_a_refiner_draws_the_end_with_another_generator(tmp_path: Path) -> None:
    """Its own stage, marked in JSON and report, and nothing is drawn for a receipt."""
    own = FAKES | {"scorer": None, "selector": "last", "captioner": lambda _: "a thing"}
    refiner = Refiner(**own, final_generator=drawn_white, receipt=True)
    async with refiner:
        ended = await refiner.refine("a cat")
        statistics = refiner.statistics()
    assert statistics is not None
    assert 1 == statistics.stages["final_generator"].items
    assert ended.best.final
    data = json.loads(json.dumps(ended.to_json()))
    assert data["best"]["final"] is True
    assert "final" not in data["rounds"][0]["candidates"][0]
    assert Refinement.from_json(data).best.final
    assert "final generator" in report_html([ended])
    row = row_json(Row.of(ended), {})
    assert row["rounds"][-1]["candidates"][0]["final"] is True


FINAL = {"generator": "pocket", "steps": 4, "final_generator": "pocket"}
OPTIONS = ["--steps", "4", "--final-generator", "pocket", "--final-steps", "6"]


def test_the_final_generator_has_settings_of_its_own() -> None:
    """What belongs to the model of the drafts does not go over, the size does."""
    settings = Settings(
        **FINAL, guidance_scale=2.0, width=64, variant="fp16", final_guidance_scale=3.0
    )
    own = final_settings(settings)
    assert own is not None
    assert (None, 3.0, 64, None) == (
        *(own.steps, own.guidance_scale, own.width, own.variant),
    )
    assert own.final_generator is None
    assert final_settings(Settings()) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"final_steps": 9}, "expected a final_generator for final_steps, got none"),
        (FINAL | {"workers": "process"}, "expected workers or a final_generator"),
        (
            FINAL | {"max_images": 2, "final_images": 2},
            "seeds_per_prompt and final_images together",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    given: dict[str, Any], message: str
) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigurationError, match=message):
        Settings(**given)


async def test_a_comparison_has_one_generator() -> None:
    """Images of another one would not be equal ones."""
    with pytest.raises(ConfigurationError, match="expected one generator"):
        await compare(["a"], Settings(**FINAL), arms=["first"], images=1)


def test_the_forecast_counts_the_finals() -> None:
    """Beside the rounds, but within what images there may be."""
    plain = worst_case(Settings(rounds=4))
    more = worst_case(Settings(**FINAL, final_images=3, rounds=4))
    assert 3 == more.images - plain.images == more.finals
    assert plain.llm_calls == more.llm_calls
    assert "the final generator draws 3" in " ".join(more.lines(1))
    few = worst_case(Settings(**FINAL, budget="images=1"))
    assert (1, 0) == (few.images, few.finals)


def _refined(folder: Path, *more: str) -> dict[str, Any]:
    prompt = "a crimson ball above an azure box"
    given = ["refine", prompt, "--seed", "7", "--rounds", "2", *OPTIONS]
    assert 0 == main([*given, "--out", str(folder), *more])
    line = (folder / "results.jsonl").read_text().splitlines()[-1]
    data: dict[str, Any] = json.loads(line)
    return data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with a final generator."""
    folder = tmp_path_factory.mktemp("final") / "run"
    _refined(folder)
    return folder


def test_each_image_tells_which_generator_drew_it(run: Path) -> None:
    """So that each can be drawn again."""
    data = json.loads((run / "results.jsonl").read_text())
    *drafts, last = data["rounds"]
    steps = {
        read_provenance(run / one["image"]).steps
        for round_ in drafts
        for one in round_["candidates"]
    }
    assert {4} == steps
    assert [6] == [
        read_provenance(run / one["image"]).steps for one in last["candidates"]
    ]


async def test_a_run_is_replayed_with_its_finals(run: Path) -> None:
    """Other rules may find another winner, whose final was never drawn."""

    async def again(**changes: Any) -> Any:
        settings = settings_of(run).but(**changes)
        [one] = [one async for one in replay(run, settings)]
        return one

    assert (await again()).same
    bare = await again(final_generator=None, final_steps=None)
    assert not bare.refinement.best.final
    other = await again(selector="first")
    assert {"generate": 1} == other.needs


async def test_a_run_whose_budget_had_no_room_is_replayed_without(
    tmp_path: Path,
) -> None:
    """Nothing was drawn then, so nothing is missing now."""
    folder = tmp_path / "run"
    await asyncio.to_thread(_refined, folder, "--budget", "images=1")
    [one] = [one async for one in replay(folder, settings_of(folder))]
    assert one.same


async def test_a_run_that_ended_before_its_final_goes_on_with_it(
    tmp_path: Path,
) -> None:
    """The drafts come out of the journal, and only the final is drawn."""
    calls: list[tuple[str, int]] = []

    class Painter:
        def __init__(self, identity: str, *, stops: bool = False) -> None:
            self.identity, self.stops = identity, stops

        async def __call__(self, prompt: str, seed: int) -> Image.Image:
            calls.append((prompt, seed))
            if self.stops:
                raise asyncio.CancelledError
            return drawn_white(prompt, seed)

    async def looked(image: Image.Image) -> str:
        return "a thing"

    own = FAKES | {"scorer": None, "selector": "last", "captioner": looked}
    own |= {"generator": Painter("quick")}
    for stops in (True, False):
        settings = Settings(**own, final_generator=Painter("good", stops=stops))
        with open_run_directory(tmp_path / "run", settings) as directory:
            refiner = Refiner(settings).remember(directory)
            async with refiner:
                ended = await refiner.refine("a cat")
        assert ended.best.final is not stops
        drawn, calls[:] = len(calls), []
        assert drawn == (3 if stops else 1)


def test_a_final_generator_that_nobody_can_tell_from_others_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its images are kept, but no later run reuses them."""

    class Hidden:
        def __init__(self) -> None:
            self._brush = object()

        def __call__(self, prompt: str, seed: int) -> Image.Image:
            return drawn_white(prompt, seed)

    tell_unidentified(Settings(final_generator=Hidden()))
    assert "expected final_generator to be told from others" in caplog.text
