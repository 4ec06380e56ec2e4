"""The loop: draws, judges, rewrites, and returns the best of all it has seen.

Invariants, each a property test over scripted agents that fail in every way:

* The best place is always a usable candidate of the history.
* The incumbent's score never falls from round to round.
* The first round's candidates are images of the user prompt itself.
* Never more than ``max_images`` images are asked for; never more than ``rounds``.
* The same inputs give the same run.
* With the selector ``clip`` the returned score is not below the first image's.
* A round without verdict is unjudged, never "not satisfied".
* Every candidate and every verdict is observed once, in order.
* All prompts of a round share their seeds, and the first is the incumbent's.
* The checklist is written once, and answered in full or not at all.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.agents.search.rounds import UNLUCKY
from socratic_agents.core.checklist import (
    Answer,
    Checklist,
    Question,
    YesNo,
    share_passed,
)
from socratic_agents.core.errors import (
    BudgetError,
    CallError,
    NothingDrawnError,
    RefusedError,
)
from socratic_agents.core.history import (
    Candidate,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.loop import Agents, Event, EventKind
from socratic_agents.core.outcome import Refinement
from tests.strategies import Script, ScriptedAgents, refine_in_rounds, scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

limits = st.fixed_dictionaries(
    {
        "rounds": st.integers(1, 5),
        "seeds_per_prompt": st.integers(1, 3),
        "max_images": st.none() | st.integers(1, 12),
        "fresh_noise": st.booleans(),
    }
)


def _run(
    script: Script,
    limit: Mapping[str, int | None],
    scripted: ScriptedAgents | None = None,
) -> tuple[Refinement | NothingDrawnError, list[Event]]:
    """Play a script; a prompt of which nothing was drawn is an outcome too."""
    events: list[Event] = []
    scripted = scripted or ScriptedAgents(script)

    async def play() -> Refinement:
        return await refine_in_rounds(
            "a cat",
            scripted.agents(),
            seeds=itertools.count(7),
            on_event=events.append,
            **limit,  # type: ignore[arg-type]
        )

    try:
        return asyncio.run(play()), events
    except NothingDrawnError as problem:
        return problem, events


def _planned(round_: Round, room: int | None) -> tuple[Candidate, ...]:
    """Return a round's candidates without the second chances of the unlucky ones."""
    total = len(round_.candidates)
    for count in range(1, total + 1):
        planned = round_.candidates[:count]
        again = sum(candidate.status in UNLUCKY for candidate in planned)
        if count + min(again, (room or 10**9) - count) == total:
            return planned
    pytest.fail("expected a second chance for each unlucky candidate, and no more")


def _history(outcome: Refinement | NothingDrawnError) -> History:
    assert outcome.history is not None
    return outcome.history


@given(scripts, limits)
def test_the_best_is_always_a_usable_candidate(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """What is returned was drawn, whatever failed and whatever was chosen."""
    outcome, _ = _run(script, limit)
    if isinstance(outcome, NothingDrawnError):
        assert not any(c.usable for c in _history(outcome).candidates)
        return
    assert outcome.best.usable
    assert outcome.best.image is not None
    place = outcome.best_place
    assert (
        outcome.best is outcome.history.rounds[place.round].candidates[place.candidate]
    )


@given(scripts, limits)
def test_the_incumbents_score_never_falls(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """More rounds only ever find something better."""
    rounds = _history(_run(script, limit)[0]).rounds
    scores = [
        incumbent.score
        for n in range(1, len(rounds) + 1)
        if (incumbent := History(user_prompt="", rounds=rounds[:n]).incumbent)
        and incumbent.score is not None
    ]
    assert sorted(scores) == scores


@given(scripts, limits)
def test_the_first_round_draws_the_user_prompt(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """Doing nothing is always among the candidates."""
    first, *_ = _history(_run(script, limit)[0]).rounds
    assert {"a cat"} == {candidate.prompt for candidate in first.candidates}
    expected = min(limit["seeds_per_prompt"] or 0, limit["max_images"] or 99)
    seeds = [candidate.seed for candidate in first.candidates]
    assert [7, 8, 9][:expected] == seeds[:expected]


@given(scripts, limits)
def test_limits_are_kept(script: Script, limit: Mapping[str, int | None]) -> None:
    """No image and no round more than was allowed, and none without a candidate."""
    scripted = ScriptedAgents(script)
    outcome, _ = _run(script, limit, scripted)
    rounds = _history(outcome).rounds
    drawn = [asked for asked in scripted.asked if asked[0] == "generate"]
    assert len(_history(outcome).candidates) == len(drawn)
    assert len(drawn) <= (limit["max_images"] or 10**9)
    assert len(rounds) <= (limit["rounds"] or 0)
    assert all(round_.candidates for round_ in rounds)
    if isinstance(outcome, Refinement):
        assert len(drawn) == outcome.usage.images


@given(scripts, limits)
def test_the_same_inputs_give_the_same_run(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """Nothing depends on the clock or on chance."""
    runs = [_run(script, limit) for _ in range(2)]
    first, second = [outcome for outcome, _ in runs]
    assert _history(first) == _history(second)
    if isinstance(first, Refinement):
        assert first == second


@given(scripts, limits)
def test_the_returned_score_is_not_below_the_first(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """Never worse than doing nothing, by the selector's own measure."""
    outcome, _ = _run(replace(script, choices=None), limit)
    assume(isinstance(outcome, Refinement))
    assert isinstance(outcome, Refinement)
    for candidate in outcome.rounds[0].candidates:
        if candidate.usable and candidate.score is not None:
            assert outcome.best.score is not None
            assert outcome.best.score >= candidate.score


@given(scripts, limits)
def test_unjudged_is_not_unsatisfied(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """A mumbling judge leaves its round open, and the loop goes on."""
    outcome, _ = _run(script, limit)
    rounds = _history(outcome).rounds
    for number, round_ in enumerate(rounds):
        assert round_.verdict is not None
        said = script.verdicts[number % len(script.verdicts)]
        known = History(user_prompt="", rounds=rounds[: number + 1]).incumbent
        assert (said if known else None) is round_.verdict.satisfied
        if not round_.verdict.judged:
            assert round_.verdict.reason
    if isinstance(outcome, Refinement):
        satisfied = [bool(r.verdict and r.verdict.satisfied) for r in rounds]
        assert not any(satisfied[:-1])
        assert satisfied[-1] == (outcome.stop is StopReason.SATISFIED)


@given(scripts, limits)
def test_everything_is_observed_once(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """The events tell the whole story in order: a round's images, its verdict."""
    outcome, events = _run(script, limit)
    expected: list[tuple[EventKind, int]] = []
    for number, round_ in enumerate(_history(outcome).rounds):
        expected += [(EventKind.DRAWN, number)] * len(round_.candidates)
        expected += [(EventKind.JUDGED, number + 1)]
    assert expected == [(e.kind, len(e.history.rounds)) for e in events]
    drawn = [e.candidate for e in events if e.kind is EventKind.DRAWN]
    assert all(candidate in drawn for candidate in _history(outcome).candidates)
    assert events[-1].history == _history(outcome)


@given(scripts, limits)
def test_rewrites_start_from_the_incumbents_noise(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """All prompts of a round share its seeds: the incumbent's, and then fresh ones."""
    rounds = _history(_run(script, limit)[0]).rounds
    count = limit["seeds_per_prompt"] or 0
    used = {candidate.seed for candidate in rounds[0].candidates}
    for number, round_ in enumerate(rounds[1:], start=1):
        past = History(user_prompt="", rounds=rounds[:number])
        room = limit["max_images"] and limit["max_images"] - len(past.candidates)
        seeds = [candidate.seed for candidate in _planned(round_, room)]
        fresh = seeds[:count]
        if round_.error is None:
            assert [seeds[n % count] for n in range(len(seeds))] == seeds
            if not limit["fresh_noise"]:
                first = fresh.pop(0)
                assert (past.incumbent or past.candidates[0]).seed == first
        assert len(set(fresh)) == len(fresh)
        assert not used.intersection(fresh)
        used.update(candidate.seed for candidate in round_.candidates)


@given(scripts, limits)
def test_answers_fit_the_checklist(
    script: Script, limit: Mapping[str, int | None]
) -> None:
    """It is written once, and each image that can be seen answers all of it or none."""
    scripted = ScriptedAgents(script)
    outcome, _ = _run(script, limit, scripted)
    checklist = _history(outcome).checklist
    inquired = [asked for asked in scripted.asked if asked[0] == "inquire"]
    if script.questions is None:
        assert (None, []) == (checklist, inquired)
        count = 0
    else:
        assert [("inquire", "a cat")] == inquired
        assert checklist is not None
        count = len(checklist.questions)
        assert (script.questions, not script.questions) == (
            count,
            checklist.error is not None,
        )
    for candidate in _history(outcome).candidates:
        answered = bool(candidate.answers)
        assert (count if answered else 0) == len(candidate.answers)
        assert candidate.usable or not answered
        if count and candidate.usable and not answered:
            assert "no answer" in (candidate.error or "")


def test_a_satisfied_judge_ends_the_loop() -> None:
    """Nothing is rewritten once the image is what was asked for."""
    scripted = ScriptedAgents(Script(verdicts=(False, True)))
    outcome, _ = _run(scripted.script, {"rounds": 5}, scripted)
    assert isinstance(outcome, Refinement)
    assert (StopReason.SATISFIED, 2) == (outcome.stop, len(outcome.rounds))
    assert 1 == len([asked for asked in scripted.asked if asked[0] == "optimize"])


def test_a_spent_budget_is_a_result() -> None:
    """Running out of images ends the loop without an error."""
    outcome, _ = _run(Script(rewrites=(3,)), {"rounds": 5, "max_images": 3})
    assert isinstance(outcome, Refinement)
    assert (StopReason.BUDGET_SPENT, 3) == (outcome.stop, outcome.usage.images)


@pytest.mark.parametrize(
    ("last", "written", "drawn"),
    [(("generate", 1), 0, 1), (("optimize", 1), 1, 1), (("generate", 2), 1, 2)],
)
def test_what_is_spent_ends_the_loop_before_new_work(
    last: tuple[str, int], written: int, drawn: int
) -> None:
    """The optimizer is not asked, and if it was, its prompts are not drawn."""
    scripted = ScriptedAgents()

    def count(role: str) -> int:
        return len([call for call in scripted.asked if call[0] == role])

    outcome = asyncio.run(
        refine_in_rounds(
            "a cat",
            scripted.agents(),
            rounds=9,
            seeds=itertools.count(),
            spent=lambda: count(last[0]) >= last[1],
        )
    )
    assert StopReason.BUDGET_SPENT == outcome.stop
    assert (written, drawn) == (count("optimize"), count("generate"))
    assert drawn == len(outcome.rounds) == outcome.usage.images


async def test_an_optimizer_without_a_budget_ends_the_loop() -> None:
    """There is no room for its call: the best so far is the result."""

    async def optimize(history: History) -> tuple[str, ...]:
        raise BudgetError("no room for another call")

    agents = replace(ScriptedAgents().agents(), optimize=optimize)
    outcome = await refine_in_rounds("a cat", agents, rounds=3, seeds=itertools.count())
    assert (StopReason.BUDGET_SPENT, 1) == (outcome.stop, len(outcome.rounds))
    assert "a cat" == outcome.best.prompt


def test_fresh_noise_alone_can_be_asked_for() -> None:
    """Then no seed is drawn twice, in whatever prompt."""
    outcome, _ = _run(Script(), {"rounds": 3, "fresh_noise": True})
    assert [7, 8, 9] == [candidate.seed for candidate in _history(outcome).candidates]


def test_a_rewrite_is_compared_under_the_best_noise_so_far() -> None:
    """The incumbent's seed draws all prompts of the next round, then fresh ones do."""
    script = Script(scores=(0.1, 0.2, 0.3), rewrites=(2,))
    outcome, _ = _run(script, {"rounds": 2, "seeds_per_prompt": 3})
    first, second = _history(outcome).rounds
    best = max(first.candidates, key=lambda candidate: candidate.score or 0)
    assert [7, 8, 9] == [candidate.seed for candidate in first.candidates]
    assert [best.seed, 10, 11] * 2 == [c.seed for c in second.candidates]


async def test_asking_to_stop_between_rounds_begins_no_other() -> None:
    """The caller can end a refinement and keep what was seen."""
    cancel, scripted = asyncio.Event(), ScriptedAgents()

    def watch(event: Event) -> None:
        if len(event.history.rounds) == 2:
            cancel.set()

    outcome = await refine_in_rounds(
        "a cat",
        scripted.agents(),
        rounds=9,
        seeds=itertools.count(),
        cancel=cancel,
        on_event=watch,
    )
    assert (StopReason.CANCELLED, 2) == (outcome.stop, len(outcome.rounds))
    assert ("select", 2) == scripted.asked[-1]


def test_a_mumbling_optimizer_costs_no_round() -> None:
    """Without a rewrite the incumbent's prompt gets fresh noise, and says why."""
    outcome, _ = _run(Script(rewrites=(1, None)), {"rounds": 3})
    assert isinstance(outcome, Refinement)
    *_, last = outcome.rounds
    assert "the optimizer mumbled" == last.error
    assert [("rewrite 1.0", 8)] == [(c.prompt, c.seed) for c in last.candidates]


def test_an_optimizer_without_a_prompt_is_told_so() -> None:
    """An empty answer is an answer error, not an empty round."""
    outcome, _ = _run(Script(rewrites=(0,)), {"rounds": 2})
    assert isinstance(outcome, Refinement)
    assert "expected at least one prompt, got none" in (outcome.rounds[1].error or "")


def test_without_a_usable_image_the_user_prompt_is_tried_again() -> None:
    """A mumbling optimizer and failed images leave the user prompt itself."""
    script = Script(statuses=(Status.GENERATION_FAILED,), rewrites=(None,))
    outcome, _ = _run(script, {"rounds": 2})
    assert ["a cat", "a cat"] == [c.prompt for c in _history(outcome).candidates]


def test_nothing_drawn_names_the_causes() -> None:
    """The error says how many images failed, why, and keeps the history."""
    script = Script(statuses=(Status.GENERATION_FAILED,))
    outcome, _ = _run(script, {"rounds": 2})
    assert isinstance(outcome, NothingDrawnError)
    assert not isinstance(outcome, RefusedError)
    assert (
        "expected at least one usable image, got none of 2 (generation_failed: the "
        "script says so); see the causes, or try another seed"
    ) == str(outcome)
    assert 2 == len(_history(outcome).rounds)


def test_a_prompt_that_is_withheld_gets_one_softer_rewrite() -> None:
    """And each image a second chance from other noise; then it is refused."""
    script = Script(statuses=(Status.SAFETY_FILTERED,))
    outcome, _ = _run(script, {"rounds": 5})
    assert isinstance(outcome, RefusedError)
    first, second = _history(outcome).rounds
    assert ["a cat", "a cat"] == [c.prompt for c in first.candidates]
    assert [7, 8] == [c.seed for c in first.candidates]
    assert "a cat" not in {c.prompt for c in second.candidates}


def test_a_black_image_is_drawn_once_more() -> None:
    """From other noise; what failed stays on record, and nothing is drawn thrice."""
    script = Script(statuses=(Status.NUMERICAL_FAILURE, Status.OK))
    outcome, _ = _run(script, {"rounds": 1})
    assert isinstance(outcome, Refinement)
    assert [Status.NUMERICAL_FAILURE, Status.OK] == [
        candidate.status for candidate in outcome.history.candidates
    ]
    assert 8 == outcome.best.seed
    none, _ = _run(script, {"rounds": 1, "max_images": 1})
    assert isinstance(none, NothingDrawnError)
    assert 1 == len(_history(none).candidates)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (None, "the selector mumbled"),
        (9, "expected the index of a usable candidate below 2, got 9"),
        (-1, "expected the index of a usable candidate below 2, got -1"),
    ],
)
def test_a_wrong_choice_returns_the_incumbent(choice: int | None, message: str) -> None:
    """A selector that cannot choose never loses the best image."""
    script = Script(scores=(0.5,), choices=(choice,))
    outcome, _ = _run(script, {"rounds": 2})
    assert isinstance(outcome, Refinement)
    assert (outcome.history.incumbent, message) == (
        outcome.best,
        outcome.selection_error,
    )


def test_a_failing_candidate_fails_alone() -> None:
    """The siblings of a failed image are drawn, and the failure keeps its name."""
    script = Script(statuses=(Status.OK, Status.NUMERICAL_FAILURE))
    outcome, _ = _run(script, {"rounds": 1, "seeds_per_prompt": 2})
    assert isinstance(outcome, Refinement)
    statuses = {candidate.status for candidate in outcome.history.candidates}
    assert {Status.OK, Status.NUMERICAL_FAILURE} == statuses
    assert outcome.best.status is Status.OK


def test_a_missing_score_is_not_invented() -> None:
    """An image that cannot be scored keeps its image and says why."""
    outcome, _ = _run(Script(scores=(None,)), {"rounds": 1})
    assert isinstance(outcome, Refinement)
    assert ({}, "no score") == (outcome.best.scores, outcome.best.error)
    assert outcome.best.status is Status.OK


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_never_ranks(score: float) -> None:
    """NaN would win every comparison, and is no JSON; it becomes an error text."""
    outcome, _ = _run(Script(scores=(score,)), {"rounds": 1})
    assert isinstance(outcome, Refinement)
    assert {} == outcome.best.scores
    assert "expected finite scores" in (outcome.best.error or "")


def test_a_writer_that_cannot_write_leaves_the_scores() -> None:
    """The checklist says why it is empty; nobody is asked, and scores rank."""
    scripted = ScriptedAgents(Script(scores=(0.1, 0.7), questions=0))
    outcome, _ = _run(scripted.script, {"rounds": 3}, scripted)
    assert isinstance(outcome, Refinement)
    assert Checklist(error="the writer mumbled") == outcome.history.checklist
    assert "answer" not in {asked[0] for asked in scripted.asked}
    scores = [candidate.score or 0 for candidate in outcome.history.candidates]
    assert (3, max(scores)) == (len(outcome.rounds), outcome.best.score)


@pytest.mark.parametrize(
    ("score", "scores", "error"),
    [(0.5, {"clip": 0.5}, "no answer"), (None, {}, "no answer; no score")],
)
def test_an_image_that_cannot_be_asked_keeps_its_scores(
    score: float | None, scores: Mapping[str, float], error: str
) -> None:
    """What failed is said, all of it, and nothing is invented in its place."""
    script = Script(scores=(score,), questions=2, answers=(None,))
    outcome, _ = _run(script, {"rounds": 1})
    assert isinstance(outcome, Refinement)
    assert (Status.OK, (), scores, error) == (
        outcome.best.status,
        outcome.best.answers,
        outcome.best.scores,
        outcome.best.error,
    )


async def test_a_language_model_that_cannot_answer_leaves_the_image() -> None:
    """The answerer may be a language model, whose line may be bad."""

    async def answer(checklist: Checklist, candidate: Candidate) -> tuple[Answer, ...]:
        raise CallError("the line was bad")

    agents = replace(ScriptedAgents(Script(questions=2)).agents(), answer=answer)
    outcome = await refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())
    assert ((), "the line was bad") == (outcome.best.answers, outcome.best.error)


def test_an_image_without_a_caption_is_asked_too() -> None:
    """Answers come from the image; the captioner's failure stays told."""
    script = Script(statuses=(Status.CAPTION_FAILED,), questions=2)
    outcome, _ = _run(script, {"rounds": 1})
    assert isinstance(outcome, Refinement)
    assert [True, True] == [answer.passed for answer in outcome.best.answers]
    assert "the script says so" == outcome.best.error


async def test_answers_can_become_scores() -> None:
    """Whoever assesses a candidate sees what was answered about it."""

    async def assess(user_prompt: str, candidate: Candidate) -> Mapping[str, float]:
        share = share_passed(candidate.answers)
        assert share is not None
        return {"checklist": share}

    scripted = ScriptedAgents(Script(questions=2, answers=(YesNo.YES, YesNo.NO)))
    outcome = await refine_in_rounds(
        "a cat",
        replace(scripted.agents(), assess=assess),
        rounds=1,
        seeds=itertools.count(),
        seeds_per_prompt=2,
    )
    assert {0.0, 1.0} == {c.score for c in outcome.history.candidates}
    assert 1.0 == outcome.best.score


def test_truncated_prompts_are_reported() -> None:
    """The generator's word on what its text encoder cut off is kept."""

    async def generate(prompt: str, seed: int) -> Image.Image:
        image = await ScriptedAgents().generate(prompt, seed)
        image.info["truncated_tokens"] = 5
        return image

    agents = replace(ScriptedAgents().agents(), generate=generate)
    outcome = asyncio.run(
        refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())
    )
    assert 5 == outcome.best.truncated_tokens


async def test_an_unreachable_optimizer_keeps_the_history() -> None:
    """An error that ends the refinement carries what was drawn until then."""

    async def optimize(history: History) -> tuple[str, ...]:
        message = "expected an answer, got a refused connection; start the server"
        raise CallError(message, attempts=6)

    agents = replace(ScriptedAgents().agents(), optimize=optimize)
    with pytest.raises(CallError, match="refused connection") as caught:
        await refine_in_rounds("a cat", agents, rounds=3, seeds=itertools.count())
    assert caught.value.history is not None
    assert 1 == len(caught.value.history.rounds)


async def test_an_unreachable_judge_leaves_the_round_unjudged() -> None:
    """The images are drawn and paid for; a missing verdict does not lose them."""

    async def judge(history: History) -> Verdict:
        message = "the line was bad"
        raise CallError(message)

    agents = replace(ScriptedAgents().agents(), judge=judge)
    outcome = await refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())
    assert Verdict.unjudged("the line was bad") == outcome.rounds[0].verdict


async def test_the_candidates_of_a_round_are_drawn_together() -> None:
    """All images of a round are in flight at once: each waits for the others."""
    together = asyncio.Barrier(3)

    async def generate(prompt: str, seed: int) -> Image.Image:
        await together.wait()
        return await ScriptedAgents().generate(prompt, seed)

    agents = replace(ScriptedAgents().agents(), generate=generate)
    async with asyncio.timeout(20):
        outcome = await refine_in_rounds(
            "a cat", agents, rounds=1, seeds=itertools.count(), seeds_per_prompt=3
        )
    assert [0, 1, 2] == [candidate.seed for candidate in outcome.history.candidates]


async def test_the_checklist_is_written_beside_the_first_image() -> None:
    """Each waits until the other has begun, and only the answers wait for both."""
    drawing, inquiring = asyncio.Event(), asyncio.Event()
    scripted = ScriptedAgents(Script(questions=2))

    async def generate(prompt: str, seed: int) -> Image.Image:
        drawing.set()
        await inquiring.wait()
        return await scripted.generate(prompt, seed)

    async def inquire(user_prompt: str) -> Checklist:
        inquiring.set()
        await drawing.wait()
        return await scripted.inquire(user_prompt)

    agents = replace(scripted.agents(), generate=generate, inquire=inquire)
    async with asyncio.timeout(20):
        outcome = await refine_in_rounds(
            "a cat", agents, rounds=1, seeds=itertools.count()
        )
    assert [True, True] == [answer.passed for answer in outcome.best.answers]


@pytest.mark.parametrize("first", ["generate", "inquire"])
async def test_images_and_questions_may_come_in_any_order(first: str) -> None:
    """Whichever is done first waits for the other before an image is asked."""
    done = asyncio.Event()
    scripted = ScriptedAgents(Script(questions=2))

    async def caption(image: Image.Image) -> str:
        if first == "inquire":
            await done.wait()
        caption = await scripted.caption(image)
        done.set()
        return caption

    async def inquire(user_prompt: str) -> Checklist:
        if first == "generate":
            await done.wait()
        checklist = await scripted.inquire(user_prompt)
        done.set()
        return checklist

    agents = replace(scripted.agents(), caption=caption, inquire=inquire)
    async with asyncio.timeout(20):
        await refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())
    asked = [call[0] for call in scripted.asked if call[0] != "generate"]
    before = ["caption", "inquire"] if first == "generate" else ["inquire", "caption"]
    assert [*before, "answer", "judge", "select"] == asked


async def test_the_judge_and_the_optimizer_are_given_the_checklist() -> None:
    """From the first verdict on, the history says what must be seen."""
    seen: list[Checklist | None] = []
    checklist = Checklist(questions=(Question(text="Is it?", requirement="it"),))

    async def inquire(user_prompt: str) -> Checklist:
        return checklist

    async def judge(history: History) -> Verdict:
        seen.append(history.checklist)
        return Verdict(satisfied=False)

    async def optimize(history: History) -> tuple[str, ...]:
        seen.append(history.checklist)
        raise CallError("gone")

    agents = replace(
        ScriptedAgents().agents(), inquire=inquire, judge=judge, optimize=optimize
    )
    with pytest.raises(CallError, match="gone") as caught:
        await refine_in_rounds("a cat", agents, rounds=2, seeds=itertools.count())
    assert [checklist, checklist] == seen
    assert caught.value.history is not None
    assert checklist == caught.value.history.checklist


async def test_an_error_while_drawing_leaves_no_writer_behind() -> None:
    """The checklist is of no use without an image: its task ends with the drawing."""
    inquiring, cancelled = asyncio.Event(), asyncio.Event()

    async def generate(prompt: str, seed: int) -> Image.Image:
        await inquiring.wait()
        raise ZeroDivisionError

    async def inquire(user_prompt: str) -> Checklist:
        try:
            inquiring.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    agents = replace(ScriptedAgents().agents(), generate=generate, inquire=inquire)
    with pytest.raises(ZeroDivisionError):
        await refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())
    assert cancelled.is_set()
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_a_bug_of_the_writer_is_raised_bare() -> None:
    """Only the language model's failures are forgiven, whoever waits for them."""

    async def inquire(user_prompt: str) -> Checklist:
        raise ZeroDivisionError

    agents = replace(ScriptedAgents().agents(), inquire=inquire)
    with pytest.raises(ZeroDivisionError):
        await refine_in_rounds(
            "a cat", agents, rounds=1, seeds=itertools.count(), seeds_per_prompt=2
        )
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_a_bug_is_raised_bare_and_cancels_the_siblings() -> None:
    """An error nobody foresaw ends the round: no group, and no orphan at work."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def generate(prompt: str, seed: int) -> Image.Image:
        if seed == 0:
            await started.wait()
            raise ZeroDivisionError
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    agents = replace(ScriptedAgents().agents(), generate=generate)
    with pytest.raises(ZeroDivisionError):
        await refine_in_rounds(
            "a cat", agents, rounds=1, seeds=itertools.count(), seeds_per_prompt=2
        )
    assert cancelled.is_set()


async def test_cancelling_a_refinement_cancels_its_images() -> None:
    """Whoever cancels a refinement leaves nothing running behind."""
    running, cancelled = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def generate(prompt: str, seed: int) -> Image.Image:
        running.release()
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        finally:
            cancelled.release()

    agents = replace(ScriptedAgents().agents(), generate=generate)
    task = asyncio.create_task(
        refine_in_rounds(
            "a cat", agents, rounds=1, seeds=itertools.count(), seeds_per_prompt=2
        )
    )
    await running.acquire()
    await running.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cancelled.acquire()
    await cancelled.acquire()


@pytest.mark.parametrize("questions", [None, 2])
async def test_every_stage_waits_for_the_one_before(questions: int | None) -> None:
    """Generate, caption, answer, assess, judge, optimize, once more; then select."""
    scripted = ScriptedAgents(Script(scores=(0.5,), questions=questions))
    await refine_in_rounds(
        "a cat", scripted.agents(), rounds=2, seeds=itertools.count()
    )
    answer = [] if questions is None else ["answer"]
    round_ = ["generate", "caption", *answer, "assess", "judge"]
    assert [*round_, "optimize", *round_, "select"] == [
        asked[0] for asked in scripted.asked if asked[0] != "inquire"
    ]


async def test_the_optimizer_sees_the_verdict() -> None:
    """What is missing reaches whoever writes the next prompt."""
    seen: list[History] = []

    async def optimize(history: History) -> tuple[str, ...]:
        seen.append(history)
        return ("a cat in a hat",)

    agents = replace(ScriptedAgents().agents(), optimize=optimize)
    await refine_in_rounds("a cat", agents, rounds=2, seeds=itertools.count())
    (history,) = seen
    assert Verdict(satisfied=False, missing=("a hat",)) == history.verdict


async def test_an_error_of_the_selector_that_is_no_answer_is_a_bug() -> None:
    """Only the language model's failures are forgiven; bugs are raised."""

    async def select(history: History) -> int:
        raise ZeroDivisionError

    agents = replace(ScriptedAgents().agents(), select=select)
    with pytest.raises(ZeroDivisionError):
        await refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())


async def test_agents_may_be_any_callables() -> None:
    """Six small functions are enough for a refinement."""

    async def generate(prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (1, 1))

    async def caption(image: Image.Image) -> str:
        return "a cat"

    async def judge(history: History) -> Verdict:
        return Verdict(satisfied=True)

    async def optimize(history: History) -> tuple[str, ...]:
        return ("a cat",)

    async def select(history: History) -> int:
        return 0

    async def assess(user_prompt: str, candidate: Candidate) -> Mapping[str, float]:
        return {"clip": 0.5}

    agents = Agents(
        generate=generate,
        caption=caption,
        judge=judge,
        optimize=optimize,
        select=select,
        assess=assess,
    )
    outcome = await refine_in_rounds("a cat", agents, rounds=1, seeds=itertools.count())
    assert "a cat" == outcome.best.caption
