"""The values: frozen, complete, and JSON in and out.

Invariants, each a property test:

* A refinement read back from its JSON is the same refinement.
* The incumbent is a usable candidate, and none ranks higher.
* All usable candidates are ranked, and nothing else is.
* Every candidate's index leads to its place and back.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from PIL import Image

from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import (
    MissingStepError,
    NothingDrawnError,
    SocraticError,
    StageTimeoutError,
)
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.outcome import Failure, Receipt, Refinement, Usage
from tests import strategies


def _candidate(prompt: str = "a cat", **fields: object) -> Candidate:
    return Candidate(prompt=prompt, seed=7, **fields)  # type: ignore[arg-type]


def _history(*candidates: Candidate) -> History:
    return History(user_prompt="a cat", rounds=(Round(candidates=candidates),))


@pytest.mark.parametrize(
    "value",
    [
        Candidate,
        Failure,
        History,
        CandidateRef,
        Receipt,
        Refinement,
        Round,
        Usage,
        Verdict,
    ],
)
def test_values_are_frozen_and_made_by_name(value: type[Any]) -> None:
    """Many hold them at the same time, and orders of fields may change."""
    assert value.__dataclass_params__.frozen
    assert all(one.kw_only for one in fields(value))


def test_what_is_not_said_is_nothing() -> None:
    """No cost, no cut tokens, and the place of a single prompt."""
    assert (0, 0, 0, 0) == (
        Usage().images,
        Usage().llm_calls,
        Usage().input_tokens,
        Usage().output_tokens,
    )
    failure = Failure(user_prompt="a cat", error="expected more", kind="BatchError")
    assert 0 == failure.index
    old = _candidate().to_json()
    del old["truncated_tokens"]
    assert 0 == Candidate.from_json(old).truncated_tokens


@pytest.mark.parametrize("statuses", [*itertools.product(Status, repeat=2)])
def test_a_history_is_filtered_where_every_image_was(
    statuses: tuple[Status, ...],
) -> None:
    """Withheld by a safety filter; one that failed otherwise is no such sign."""
    history = _history(*(_candidate(status=status) for status in statuses))
    assert history.filtered == ({Status.SAFETY_FILTERED} == set(statuses))
    assert not _history().filtered


def test_an_image_is_not_spelled_out() -> None:
    """Whoever prints a candidate wants to read the rest."""
    assert "image" not in repr(_candidate(image=Image.new("RGB", (2, 2))))


@given(strategies.refinements())
def test_a_refinement_survives_json(refinement: Refinement) -> None:
    """What is written to a file is read back as it was."""
    text = json.dumps(refinement.to_json())
    assert refinement == Refinement.from_json(json.loads(text))


@given(strategies.refinements())
def test_json_keeps_the_order_of_scores(refinement: Refinement) -> None:
    """The first score ranks, before and after a file."""
    again = Refinement.from_json(json.loads(json.dumps(refinement.to_json())))
    before = [candidate.score for candidate in refinement.history.candidates]
    assert before == [candidate.score for candidate in again.history.candidates]


@given(strategies.histories)
def test_the_incumbent_is_the_best_usable_candidate(history: History) -> None:
    """The first of the ranks leads; without one there is no incumbent."""
    ranked = history.ranked()
    usable = [n for n, c in enumerate(history.candidates) if c.usable]
    assert usable == sorted(ranked)
    assert history.incumbent is (history.candidates[ranked[0]] if usable else None)


@given(strategies.histories)
def test_no_candidate_ranks_before_a_better_one(history: History) -> None:
    """The first score decides, the next ones break ties, and then the earlier one."""
    ranked = history.ranked()
    candidates = history.candidates
    full = max(
        (tuple(candidates[n].scores) for n in sorted(ranked)), key=len, default=()
    )
    for better, worse in itertools.pairwise(ranked):
        high, low = (
            [candidates[n].scores.get(name, -math.inf) for name in full]
            for n in (better, worse)
        )
        assert high >= low
        if high == low:
            assert (better < worse) == bool(full)


def test_the_second_score_breaks_a_tie() -> None:
    """Equal shares of the checklist are told apart by what comes after them."""
    shares = ((0.5, 0.9), (0.75, 0.1), (0.75, 0.3), (0.75, 0.3))
    scored = [_candidate(scores={"checklist": a, "clip": b}) for a, b in shares]
    assert (2, 3, 1, 0) == _history(*scored).ranked()


def test_a_candidate_without_the_first_score_comes_last() -> None:
    """Where nobody answered its questions, a high score of another kind is not one."""
    first = _candidate("one", scores={"clip": 0.9})
    second = _candidate("two", scores={"checklist": 0.25, "clip": 0.1})
    third = _candidate("three")
    assert (1, 0, 2) == _history(first, second, third).ranked()


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_does_not_lead(score: float) -> None:
    """NaN and infinity are failures of a scorer, not the best of scores."""
    odd, good = (
        _candidate("odd", scores={"clip": score}),
        _candidate(scores={"clip": 0}),
    )
    assert (1, 0) == _history(odd, good).ranked()


@given(strategies.histories)
def test_every_index_has_a_place(history: History) -> None:
    """A place and an index name the same candidate."""
    for index, candidate in enumerate(history.candidates):
        place = history.place(index)
        assert candidate is history.rounds[place.round].candidates[place.candidate]


def test_an_index_behind_the_last_candidate_has_no_place() -> None:
    """A place is never invented."""
    with pytest.raises(IndexError, match="expected an index of a candidate"):
        _history(_candidate()).place(1)


def test_values_cannot_be_changed() -> None:
    """Whoever was handed a value can rely on it."""
    with pytest.raises(FrozenInstanceError):
        _candidate().prompt = "a dog"  # type: ignore[misc]


def test_adding_a_round_leaves_the_old_history_alone() -> None:
    """A history that was handed out does not grow."""
    old = History(user_prompt="a cat")
    new = old + Round(candidates=(_candidate(),))
    assert ((), 1) == (old.rounds, len(new.rounds))


def test_a_verdict_belongs_to_the_last_round() -> None:
    """The judge speaks of what was drawn last; earlier verdicts stay."""
    first, second = Verdict(satisfied=False), Verdict(satisfied=True)
    history = _history(_candidate()).judged(first)
    assert first == history.verdict
    history += Round(candidates=(_candidate(),))
    assert first == history.verdict
    history = history.judged(second)
    assert [first, second] == [round_.verdict for round_ in history.rounds]
    assert second == history.verdict


def test_before_the_first_verdict_there_is_none() -> None:
    """A history without a verdict says so."""
    assert History(user_prompt="a cat").verdict is None


def test_unjudged_is_not_unsatisfied() -> None:
    """A judge that could not judge leaves neither yes nor no."""
    verdict = Verdict.unjudged("the line was bad")
    assert (None, False, "the line was bad") == (
        verdict.satisfied,
        verdict.judged,
        verdict.reason,
    )
    assert "unjudged" == verdict.to_json()["status"]
    assert "judged" == Verdict(satisfied=False).to_json()["status"]


def test_without_scores_the_latest_usable_image_leads() -> None:
    """Where nothing ranks, later rewrites are trusted over earlier ones."""
    latest = _candidate("two")
    failed = _candidate("three", status=Status.GENERATION_FAILED)
    assert latest == _history(_candidate("one"), latest, failed).incumbent


def test_an_image_without_a_caption_can_still_be_returned() -> None:
    """The captioner's failure does not unmake the image."""
    assert _candidate(status=Status.CAPTION_FAILED).usable
    assert not _candidate(status=Status.SAFETY_FILTERED).usable


def test_a_failed_candidate_never_leads() -> None:
    """A score cannot make a failed image the incumbent."""
    failed = _candidate(status=Status.NUMERICAL_FAILURE, scores={"clip": 9.0})
    good = _candidate(scores={"clip": -1.0})
    assert good == _history(failed, good).incumbent


def test_a_refinement_has_the_keys_of_the_schema() -> None:
    """The JSON form is a contract: its keys are named here."""
    refinement = Refinement(
        history=_history(_candidate(caption="a cat", scores={"clip": 0.8})),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.SATISFIED,
        usage=Usage(images=1, seconds=0.12345),
        index=3,
    )
    candidate = {
        "prompt": "a cat",
        "seed": 7,
        "caption": "a cat",
        "scores": {"clip": 0.8},
        "answers": [],
        "image": None,
        "status": "ok",
        "error": None,
        "truncated_tokens": 0,
    }
    expected = {
        "schema": 1,
        "index": 3,
        "user_prompt": "a cat",
        "status": "ok",
        "stop": "satisfied",
        "best": {"round": 0, "candidate": 0, **candidate},
        "rounds": [{"candidates": [candidate], "verdict": None, "error": None}],
        "checklist": None,
        "receipt": None,
        "usage": {
            "images": 1,
            "llm_calls": 0,
            "input_tokens": 0,
            "output_tokens": 0,
            "money": None,
            "seconds": 0.123,
        },
        "selection_error": None,
        "settings": {},
        "templates": {},
    }
    assert expected == refinement.to_json()


def test_the_checklist_and_its_answers_have_their_keys() -> None:
    """So does the receipt: all three are part of the contract."""
    answer = Answer(said=YesNo.NO, probability=0.25, passed=False)
    question = Question(
        text="Is there a cat?", requirement="a cat", instead="What animal is there?"
    )
    candidate = _candidate(answers=(answer,))
    refinement = Refinement(
        history=replace(
            _history(candidate), checklist=Checklist(questions=(question,))
        ),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.ROUNDS_SPENT,
        receipt=Receipt(
            images=4,
            best_of_n=candidate,
            metric="clip",
            independent=True,
            returned=0.75,
            compared=0.5,
        ),
    )
    data = refinement.to_json()
    assert [{"said": "no", "probability": 0.25, "passed": False}] == data["best"][
        "answers"
    ]
    assert {
        "questions": [
            {
                "text": "Is there a cat?",
                "requirement": "a cat",
                "parents": [],
                "instead": "What animal is there?",
            }
        ],
        "error": None,
    } == data["checklist"]
    assert {
        "images": 4,
        "best_of_n": candidate.to_json(),
        "metric": "clip",
        "independent": True,
        "returned": 0.75,
        "compared": 0.5,
        "gain": 0.25,
    } == data["receipt"]


def test_what_was_written_before_there_were_checklists_is_read() -> None:
    """A file of schema 1 without the newer keys is the same without them."""
    refinement = Refinement(
        history=_history(_candidate()),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.SATISFIED,
    )
    data = refinement.to_json()
    del data["checklist"], data["receipt"]
    for candidate in data["rounds"][0]["candidates"]:
        del candidate["answers"]
    assert refinement == Refinement.from_json(data)


@given(strategies.histories)
def test_a_failure_keeps_what_was_done(history: History) -> None:
    """A failed prompt's JSON has its rounds, and says failed."""
    failure = Failure(
        user_prompt="a cat", error="no", kind="CallError", history=history, index=2
    )
    data = json.loads(json.dumps(failure.to_json()))
    assert ("failed", "no", "CallError", 2) == (
        data["status"],
        data["error"],
        data["kind"],
        data["index"],
    )
    assert list(history.rounds) == [Round.from_json(r) for r in data["rounds"]]
    checklist = data["checklist"]
    assert history.checklist == (checklist and Checklist.from_json(checklist))


def test_a_failure_before_the_first_image_has_no_rounds() -> None:
    """A prompt that was never drawn has an empty list of rounds."""
    failure = Failure(user_prompt="", error="blank", kind="PromptError")
    assert [] == failure.to_json()["rounds"]
    assert failure.to_json()["checklist"] is None


def test_a_stored_failure_names_its_error_as_it_always_did() -> None:
    """What was stored stays comparable when a class gets another name."""
    kinds = {error: error.kind for error in (StageTimeoutError, MissingStepError)}
    assert {
        StageTimeoutError: "StuckError",
        MissingStepError: "MissingError",
    } == kinds
    assert ("SocraticError", "NothingDrawnError") == (
        SocraticError.kind,
        NothingDrawnError.kind,
    )
