"""The values: frozen, complete, and JSON in and out.

Invariants, each a property test:

* A refinement read back from its JSON is the same refinement.
* The incumbent is a usable candidate, and none has a higher score.
* Every candidate's index leads to its place and back.
"""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given

from socratic_agents.history import (
    Candidate,
    Failure,
    History,
    Place,
    Refinement,
    Round,
    Status,
    StopReason,
    Usage,
    Verdict,
)
from tests import strategies


def _candidate(prompt: str = "a cat", **fields: object) -> Candidate:
    return Candidate(prompt=prompt, seed=7, **fields)  # type: ignore[arg-type]


def _history(*candidates: Candidate) -> History:
    return History(user_prompt="a cat", rounds=(Round(candidates=candidates),))


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
    """No usable candidate scores higher, and no earlier one scores the same."""
    incumbent = history.incumbent
    usable = [c for c in history.candidates if c.usable]
    if incumbent is None:
        assert [] == usable
        return
    assert incumbent in usable
    scores = [c.score for c in usable if c.score is not None]
    if scores:
        assert max(scores) == incumbent.score
        first = next(c for c in usable if c.score == incumbent.score)
        assert first == incumbent
    else:
        assert usable[-1] == incumbent


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
        best_place=Place(round=0, candidate=0),
        stop=StopReason.SATISFIED,
        usage=Usage(images=1, seconds=0.12345),
        index=3,
    )
    candidate = {
        "prompt": "a cat",
        "seed": 7,
        "caption": "a cat",
        "scores": {"clip": 0.8},
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
        "usage": {
            "images": 1,
            "llm_calls": 0,
            "input_tokens": 0,
            "output_tokens": 0,
            "seconds": 0.123,
        },
        "selection_error": None,
        "settings": {},
        "templates": {},
    }
    assert expected == refinement.to_json()


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


def test_a_failure_before_the_first_image_has_no_rounds() -> None:
    """A prompt that was never drawn has an empty list of rounds."""
    failure = Failure(user_prompt="", error="blank", kind="PromptError")
    assert [] == failure.to_json()["rounds"]
