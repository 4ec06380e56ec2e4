"""A verdict is the judge's own; a judge that cannot judge says so."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.agents.judges import Judgement, caption_judge, never, score_judge
from socratic_agents.core.errors import (
    AgentError,
    AnswerError,
    CallError,
    ConfigurationError,
    TemplateError,
)
from socratic_agents.core.history import Round, Status, Verdict
from socratic_agents.llm.template_files import find_template
from tests.fakes import ScriptedChatModel, drawn, failed, history

DEFAULT = find_template("judge", "default")


def said(*missing: str, satisfied: bool | None = None) -> dict[str, Any]:
    decided = not missing if satisfied is None else satisfied
    return {"reason": " so ", "missing": list(missing), "satisfied": decided}


async def test_the_incumbent_is_judged_by_its_caption() -> None:
    """The model sees the user prompt, the best one's caption, and the attempts."""
    past = history(
        "a dog",
        drawn("a dog", "a black cat", score=0.9),
        drawn("one dog", "a mouse", score=0.1),
    )
    llm = ScriptedChatModel(script=[said("a dog", " ")])
    verdict = await caption_judge(llm, DEFAULT)(past)
    assert Verdict(satisfied=False, missing=("a dog",), reason="so") == verdict
    block = "<incumbent>\n<caption>a black cat</caption>\n</incumbent>"
    assert block in llm.last_question
    assert "<caption>a mouse</caption>" in llm.last_question


async def test_it_can_be_satisfied() -> None:
    """Nothing is missing."""
    llm = ScriptedChatModel(script=[said()])
    verdict = await caption_judge(llm, DEFAULT)(history("a dog", drawn("a dog")))
    assert Verdict(satisfied=True, reason="so") == verdict


async def test_satisfied_with_something_missing_is_not_satisfied() -> None:
    """A verdict that contradicts itself counts by what it names, and says so."""
    llm = ScriptedChatModel(script=[said("a dog", satisfied=True)])
    verdict = await caption_judge(llm, DEFAULT)(history("a dog", drawn("a dog")))
    reason = "so (called satisfied, with something missing)"
    assert Verdict(satisfied=False, missing=("a dog",), reason=reason) == verdict


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            {**said(), "satisfied": "so so"},
            "satisfied: Input should be a valid boolean",
        ),
        ({**said(), "satisfied": 2}, "satisfied: Input should be a valid boolean"),
        ("Yes, it does.", "no JSON object"),
    ],
    ids=["a word", "2", "free text"],
)
async def test_nothing_is_guessed_from_a_wrong_answer(wrong: Any, told: str) -> None:
    """A word or a number is no verdict; the model is asked again."""
    llm = ScriptedChatModel(script=[wrong, said("a dog")])
    verdict = await caption_judge(llm, DEFAULT)(history("a dog", drawn("a dog")))
    assert verdict.satisfied is False
    assert told in llm.last_question


@pytest.mark.parametrize(
    ("script", "expected"),
    [(["yes"] * 3, AnswerError), ([RuntimeError("gone")], CallError)],
    ids=["wrong answers", "a failed call"],
)
async def test_a_failure_is_not_a_verdict(
    script: list[Any], expected: type[AgentError]
) -> None:
    """What goes wrong is raised, for the loop to call the round unjudged."""
    judge = caption_judge(ScriptedChatModel(script=script), DEFAULT)
    with pytest.raises(expected):
        await judge(history("a dog", drawn("a dog")))


async def test_an_incumbent_that_was_judged_keeps_its_verdict() -> None:
    """Nothing better was drawn since, so no call is made."""
    best = drawn("a dog", "a cat", score=0.9)
    worse = Round(candidates=(drawn("one dog", "a mouse", score=0.1),))
    verdict = Verdict(satisfied=False, missing=("a dog",), reason="so")
    past = history("a dog", best).judged(verdict) + worse
    judge = caption_judge(ScriptedChatModel(script=[]), DEFAULT)
    assert verdict is await judge(past)
    later = past.judged(Verdict.unjudged("gone")) + worse
    assert verdict is await judge(later)


async def test_a_new_incumbent_is_judged_anew() -> None:
    """Also an equal one: the same words may describe another image."""
    verdict = Verdict(satisfied=False, missing=("a dog",), reason="so")
    past = history("a dog", drawn("a dog", "a cat")).judged(verdict)
    past += Round(candidates=(drawn("a dog", "a cat"),))
    llm = ScriptedChatModel(script=[said()])
    assert (await caption_judge(llm, DEFAULT)(past)).satisfied


async def test_an_unjudged_incumbent_is_judged_anew() -> None:
    """A judge that failed once may be asked again."""
    past = history("a dog", drawn("a dog", "a cat", score=0.9))
    past = past.judged(Verdict.unjudged("gone"))
    past += Round(candidates=(drawn("one dog", "a mouse", score=0.1),))
    llm = ScriptedChatModel(script=[said()])
    assert (await caption_judge(llm, DEFAULT)(past)).satisfied


@pytest.mark.parametrize("caption", [None, "", "  "])
async def test_without_a_caption_there_is_no_verdict(caption: str | None) -> None:
    """No call is made, and nobody says "not satisfied"."""
    blind = drawn("a dog", caption, status=Status.CAPTION_FAILED)
    judge = caption_judge(ScriptedChatModel(script=[]), DEFAULT)
    assert not (await judge(history("a dog", blind))).judged
    assert not (await judge(history("a dog", failed("a dog")))).judged


def test_a_template_of_another_role_is_refused() -> None:
    """Found when the judge is made."""
    with pytest.raises(TemplateError, match="template for the judge"):
        caption_judge(ScriptedChatModel(), find_template("selector", "default"))


@given(score=st.floats(0, 1), threshold=st.floats(0, 1))
async def test_the_score_judge_holds_its_threshold(
    score: float, threshold: float
) -> None:
    """Satisfied from the threshold on, the threshold included."""
    past = history("a dog", drawn("a dog", score=score))
    verdict = await score_judge(threshold)(past)
    assert (score >= threshold) is verdict.satisfied
    assert f"{score:.3f}" in verdict.reason


@pytest.mark.parametrize("score", [None, math.nan, math.inf])
async def test_without_a_score_there_is_no_verdict(score: float | None) -> None:
    """A missing score is not a low one."""
    past = history("a dog", drawn("a dog", score=score))
    assert not (await score_judge(0.5)(past)).judged
    assert not (await score_judge(0.5)(history("a dog", failed("a dog")))).judged


def test_a_threshold_is_a_number() -> None:
    """A threshold that nothing or everything passes is a mistake."""
    with pytest.raises(ConfigurationError, match="finite threshold, got nan"):
        score_judge(math.nan)


async def test_never_is_never_satisfied() -> None:
    """It judges, and says no."""
    verdict = await never(history("a dog", drawn("a dog", score=1.0)))
    assert verdict.judged
    assert not verdict.satisfied


def test_the_answer_is_fit_for_strict_schemas() -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = Judgement.model_json_schema()
    assert set(schema["properties"]) == set(schema["required"])
    assert schema["additionalProperties"] is False
