"""Scores: a value or a reason, and never two scales in one comparison."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    StopReason,
)
from socratic_agents.core.outcome import Refinement
from socratic_agents.lab.datasets.types import PromptRow
from socratic_agents.lab.metrics.paired import compare_scores, with_holm
from socratic_agents.lab.metrics.scores import Scores, Value, same_record, summarise
from socratic_agents.lab.study.trajectory import (
    loop_figures,
    subjects_of,
    trajectory_of,
)

RECORD = {"model": "ViT-B-32", "pretrained": "openai", "prefix": "A photo depicts "}


def value(number: float | None) -> Value:
    return Value.missing("black image") if number is None else Value(value=number)


def scores(*numbers: float | None, **facts: Any) -> Scores:
    own: dict[str, Any] = {"metric": "clipscore", "record": RECORD, **facts}
    return Scores(higher_is_better=True, values=tuple(map(value, numbers)), **own)


def refinement(
    *sizes: int, best: tuple[int, int] = (0, 0), stop: StopReason | None = None
) -> Refinement:
    """Return a refinement whose rounds have so many images."""
    one = Candidate(prompt="x", seed=1)
    rounds = tuple(Round(candidates=(one,) * size) for size in sizes)
    return Refinement(
        history=History(user_prompt="a cat", rounds=rounds),
        best_place=CandidateRef(round=best[0], candidate=best[1]),
        stop=stop or StopReason.SATISFIED,
    )


@pytest.mark.parametrize(
    ("number", "reason"),
    [(None, None), (0.5, "black"), (math.nan, None), (math.inf, None)],
)
def test_a_value_or_a_reason(number: float | None, reason: str | None) -> None:
    """One of the two is there, and what is no number is no value."""
    with pytest.raises(ValueError, match="either a finite value or why"):
        Value(value=number, reason=reason)


def test_the_mean_is_of_what_was_measured() -> None:
    """What is missing is in no mean, and is counted with its cause."""
    found = summarise(scores(0.5, None, 1.0, None))

    assert (0.75, 2, 2) == (found.mean, found.n, found.excluded)
    assert {"black image": 2} == found.causes
    nothing = summarise(scores(None))
    assert (None, 0, 1) == (nothing.mean, nothing.n, nothing.excluded)


numbers = st.lists(st.none() | st.floats(-1, 1), max_size=8)


@given(numbers)
def test_the_json_form_comes_back(drawn: list[float | None]) -> None:
    """Values, reasons and the record survive being written."""
    there = scores(*drawn, record={**RECORD, "texts": ["a", "b"]})
    noted = Scores(**{**vars(there), "values": (Value(value=1.0, note="cut"),)})
    bounded = Scores(**{**vars(there), "bounds": (-1.0, 1.0)})
    for one in (there, noted, bounded):
        assert one == Scores.from_json(json.loads(json.dumps(one.to_json())))


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {**scores(0.5).to_json(), "values": [None]},
        {**scores(0.5).to_json(), "values": ["good"]},
        {**scores(0.5).to_json(), "record": None},
        {**scores(0.5).to_json(), "bounds": 1},
        {**scores(0.5).to_json(), "bounds": ["low", "high"]},
    ],
)
def test_what_is_no_score_is_refused(data: Any) -> None:
    """A value that is missing without a reason is refused like any other fault."""
    with pytest.raises(ConfigurationError, match="expected scores with metric, record"):
        Scores.from_json(data)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"metric": "clipscore_openclip"}, "of one metric, got 'clipscore' and"),
        ({"record": {**RECORD, "prefix": ""}}, "prefix 'A photo depicts ' and ''"),
        ({"record": {**RECORD, "w": 2.5}}, "w None and 2.5"),
    ],
)
def test_two_scales_are_not_compared(facts: dict[str, Any], message: str) -> None:
    """Another metric, prefix or model is another scale."""
    other = scores(0.5, 0.6, **facts)
    with pytest.raises(ConfigurationError, match=message):
        same_record((scores(0.5), other))
    with pytest.raises(ConfigurationError, match=message):
        compare_scores(scores(0.5, 0.6), other)


def test_a_record_that_was_read_back_is_the_same() -> None:
    """JSON has lists only, so a tuple equals the list that it became."""
    one = scores(0.5, record={"texts": ("a", "b")})
    same_record((one, Scores.from_json(json.loads(json.dumps(one.to_json())))))
    same_record(())


def test_arms_are_compared_prompt_by_prompt() -> None:
    """A prompt without both values is excluded and counted."""
    ours = scores(0.5, 0.6, None, 0.9, 0.5)
    theirs = scores(0.4, 0.6, 0.1, None, 0.5 + 1e-12)

    found = compare_scores(ours, theirs)

    assert (1, 2, 0) == (
        found.difference.win,
        found.difference.tie,
        found.difference.loss,
    )
    assert (3, 2) == (found.difference.n, found.excluded)
    assert 1.0 == found.p
    assert found.exact
    assert found.smallest is not None
    with pytest.raises(ConfigurationError, match="got 5 and 1 values"):
        compare_scores(ours, scores(0.5))


def test_a_pair_alone_has_no_power() -> None:
    """Where there is no spread, nothing is said of what could be shown."""
    assert compare_scores(scores(0.5), scores(0.4)).smallest is None
    nothing = compare_scores(scores(None), scores(None))
    assert (None, 1) == (nothing.p, nothing.excluded)


def test_a_family_is_adjusted() -> None:
    """Each test keeps its own p value beside the adjusted one."""
    base = scores(*[0.5] * 12)
    tests = {
        "better": compare_scores(scores(*[0.7 + n / 100 for n in range(12)]), base),
        "alike": compare_scores(base, base),
        "empty": compare_scores(scores(None), scores(None)),
    }

    found = with_holm(tests)

    assert 2 / 2**12 == found["better"].p
    assert 4 / 2**12 == found["better"].p_holm
    assert (1.0, None) == (found["alike"].p_holm, found["empty"].p_holm)
    assert tests["better"].p_holm is None


def test_scores_can_be_taken_apart() -> None:
    """Some of the subjects keep record and order."""
    taken = scores(0.1, 0.2, None).take([2, 0])
    assert (0.1,) == taken.known
    assert 1 == taken.excluded
    assert RECORD == taken.record


def test_the_course_of_a_refinement() -> None:
    """First, highest, last and returned image are four things."""
    one = refinement(1, 2, 2, best=(1, 1))
    trajectory = trajectory_of(one, [value(v) for v in (0.5, 0.9, 0.6, 0.4, None)])

    assert 2 == trajectory.cycles
    assert trajectory.stopped
    assert (0.5, 0.9, 0.4, 0.6) == (
        trajectory.first.value,
        trajectory.maximum.value,
        trajectory.terminated.value,
        trajectory.selected.value,
    )
    assert (0.5, 0.75, 0.4) == pytest.approx([v.value for v in trajectory.by_round])
    assert 1 == trajectory.best_round


def test_nothing_measured_is_no_course() -> None:
    """Where no image has a value there is a reason, and no best round."""
    trajectory = trajectory_of(refinement(1, 1), [value(None), value(None)])
    assert trajectory.maximum == trajectory.terminated == Value.missing("black image")
    assert trajectory.best_round is None
    empty = trajectory_of(refinement(1, 0), [value(0.5)])
    assert "no image" == empty.terminated.reason


def test_each_candidate_has_its_value() -> None:
    """One value too few is an error, not a shift."""
    with pytest.raises(ValueError, match="expected 3 values"):
        trajectory_of(refinement(1, 2), [value(0.5)])


def test_what_the_loops_did() -> None:
    """Figures say how many they are of, and what is in none of them."""
    trajectories = [
        trajectory_of(refinement(1), [value(0.9)]),
        trajectory_of(refinement(1, 1), [value(0.5), value(0.8)]),
        trajectory_of(refinement(1, 1), [value(0.5), value(0.4)]),
        trajectory_of(
            refinement(1, 1, 1, stop=StopReason.ROUNDS_SPENT),
            [value(0.5), value(None), value(None)],
        ),
        trajectory_of(refinement(1, stop=StopReason.CANCELLED), [value(0.5)]),
    ]

    found = loop_figures(trajectories, excluded=2)

    assert (5, 2) == (found.n, found.excluded)
    assert 0.8 == found.cycles.mean
    assert (3, 4, 1) == (
        found.early_stop.count,
        found.early_stop.n,
        found.early_stop.excluded,
    )
    nobody = loop_figures([], excluded=1)
    assert nobody.early_stop.share is None


def test_every_image_is_a_subject() -> None:
    """Each is held against the user prompt, with its row and its history."""
    one, row = refinement(1, 2), PromptRow(id="1", text="a cat")
    found = subjects_of(one, row)
    assert 3 == len(found)
    assert {"a cat"} == {subject.user_prompt for subject in found}
    assert all(subject.row is row for subject in found)
    assert all(subject.history is one.history for subject in found)
