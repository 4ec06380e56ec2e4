"""A selector names one usable candidate, or fails; it never guesses."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from socratic_agents.agents.selectors import (
    Choice,
    caption_selector,
    checklist,
    clip,
    first,
    last,
)
from socratic_agents.core.errors import AnswerError, CallError, TemplateError
from socratic_agents.core.history import Candidate, Status
from socratic_agents.llm.template_files import find_template
from tests.fakes import ScriptedChatModel, drawn, failed, history

DEFAULT = find_template("selector", "default")


def said(choice: Any) -> dict[str, Any]:
    return {"reason": "it shows the dog", "choice": choice}


async def test_candidates_are_numbered_from_one() -> None:
    """What cannot be judged by a caption has no number; the index is the history's."""
    blind = drawn("blind", None, status=Status.CAPTION_FAILED)
    past = history(
        "a dog", [failed("lost"), drawn("one", "a cat")], blind, drawn("two", "a dog")
    )
    llm = ScriptedChatModel(script=[said(2)])
    assert 3 == await caption_selector(llm, DEFAULT)(past)
    expected = (
        "<candidates>\n"
        "<candidate>\n<number>1</number>\n<prompt>one</prompt>\n"
        "<caption>a cat</caption>\n</candidate>\n"
        "<candidate>\n<number>2</number>\n<prompt>two</prompt>\n"
        "<caption>a dog</caption>\n</candidate>\n"
        "</candidates>"
    )
    assert expected in llm.last_question


@pytest.mark.parametrize("choice", range(1, 13))
async def test_ten_is_not_one(choice: int) -> None:
    """Among twelve candidates every number means exactly its own."""
    past = history("a dog", [drawn(f"prompt {n}", f"dog {n}") for n in range(1, 13)])
    llm = ScriptedChatModel(script=[said(choice)])
    assert choice - 1 == await caption_selector(llm, DEFAULT)(past)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (said(0), "expected a number from 1 to 3, got 0"),
        (said(4), "expected a number from 1 to 3, got 4"),
        (said(-1), "expected a number from 1 to 3, got -1"),
        (said("one"), "choice: Input should be a valid integer"),
        (said(1.5), "choice: Input should be a valid integer"),
        (said(True), "choice: Input should be a valid integer"),
        (said([1]), "choice: Input should be a valid integer"),
        ("candidate 1, of 10", "no JSON object"),
    ],
    ids=["0", "4", "-1", "text", "fraction", "true", "list", "free text"],
)
async def test_a_wrong_number_is_shown(wrong: Any, told: str) -> None:
    """Nothing outside the closed range is accepted, and none is searched for in text."""
    past = history("a dog", drawn("one"), drawn("two"), drawn("three"))
    llm = ScriptedChatModel(script=[wrong, said(3)])
    assert 2 == await caption_selector(llm, DEFAULT)(past)
    assert told in llm.last_question


async def test_a_choice_that_stays_wrong_is_an_error() -> None:
    """The loop then returns the incumbent, and says why."""
    past = history("a dog", drawn("one"), drawn("two"))
    select = caption_selector(ScriptedChatModel(script=[said(9)] * 3), DEFAULT)
    with pytest.raises(AnswerError, match="from 1 to 2, got 9"):
        await select(past)
    select = caption_selector(ScriptedChatModel(script=[OSError("gone")]), DEFAULT)
    with pytest.raises(CallError, match="gone"):
        await select(past)


async def test_a_single_candidate_needs_no_call() -> None:
    """There is nothing to choose."""
    past = history("a dog", failed("lost"), drawn("one"))
    assert 1 == await caption_selector(ScriptedChatModel(script=[]), DEFAULT)(past)


async def test_without_captions_there_is_no_choice() -> None:
    """An image without a caption is not chosen by its caption."""
    past = history("a dog", drawn("one", None), drawn("two", " "))
    with pytest.raises(AnswerError, match="captioned candidate, got none"):
        await caption_selector(ScriptedChatModel(script=[]), DEFAULT)(past)


def test_a_template_of_another_role_is_refused() -> None:
    """Found when the selector is made."""
    with pytest.raises(TemplateError, match="template for the selector"):
        caption_selector(ScriptedChatModel(), find_template("judge", "default"))


SCORES = st.none() | st.floats(0, 2.5) | st.just(math.nan)
CANDIDATES = st.builds(drawn, st.text(), score=SCORES) | st.builds(failed, st.text())


def _score(candidate: Candidate) -> float | None:
    score = candidate.score
    known = candidate.usable and score is not None and math.isfinite(score)
    return score if known else None


@given(st.lists(CANDIDATES, min_size=1, max_size=8))
async def test_clip_is_never_below_any_image(candidates: list[Candidate]) -> None:
    """The chosen score is the highest, so never below the first image's."""
    scores = [score for c in candidates if (score := _score(c)) is not None]
    assume(scores)
    index = await clip(history("a dog", candidates))
    assert max(scores) == _score(candidates[index])
    assert index == [_score(c) for c in candidates].index(max(scores))


async def test_clip_needs_a_score() -> None:
    """Nothing is scored, so nothing is the highest."""
    past = history("a dog", drawn("one"), drawn("two", score=math.nan))
    with pytest.raises(AnswerError, match="choose a scorer"):
        await clip(past)


async def test_a_checklist_needs_a_score_too() -> None:
    """Where nothing was answered, no candidate passed more than another."""
    with pytest.raises(AnswerError, match="expected a scored candidate, got none"):
        await checklist(history("a dog", drawn("one"), drawn("two")))


async def test_first_and_last_are_usable() -> None:
    """They skip what cannot be returned."""
    past = history("a dog", failed("lost"), drawn("one"), drawn("two"), failed("lost"))
    assert (1, 2) == (await first(past), await last(past))
    for select in (first, last):
        with pytest.raises(AnswerError, match="usable candidate"):
            await select(history("a dog", failed("lost")))


def test_the_answer_is_fit_for_strict_schemas() -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = Choice.model_json_schema()
    assert set(schema["properties"]) == set(schema["required"])
    assert schema["additionalProperties"] is False
