"""No rewrite is drawn that gives up something that was asked for.

Invariant, a property test: what comes out is a prompt that was found faithful, as it
was written or as it was mended, in the order in which the prompts were written.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.agents.guard import Checks, fidelity_guard
from socratic_agents.agents.optimizer import optimizer
from socratic_agents.core.checklist import Checklist, Question
from socratic_agents.core.errors import (
    AgentError,
    AnswerError,
    BudgetError,
    CallError,
    TemplateError,
)
from socratic_agents.llm.template_files import find_template
from tests.fakes import ScriptedChatModel, drawn, history
from tests.strategies import Script, ScriptedAgents, noisy, refine_in_rounds

if TYPE_CHECKING:
    from socratic_agents.core.history import History

GUARD = find_template("guard", "default")
OPTIMIZER = find_template("optimizer", "default")
CHECKLIST = Checklist(
    questions=(
        Question(text="Is there a dog?", requirement="a dog"),
        Question(text="Does it snow?", requirement="in snow"),
    )
)
PAST = replace(history("a dog in snow", drawn("a dog in snow")), checklist=CHECKLIST)


def check(number: int, *lost: str, mended: str = "") -> dict[str, Any]:
    return {"number": number, "lost": list(lost), "mended": mended}


def checks(*found: dict[str, Any]) -> dict[str, Any]:
    return {"checks": list(found)}


def shown(llm: ScriptedChatModel, call: int) -> list[str]:
    """Return the prompts that a call showed."""
    block = r"<rewrite><number>\d+</number><prompt>(.*?)</prompt></rewrite>"
    return re.findall(block, llm.asked[call][-1].text)


async def test_faithful_prompts_pass_in_order() -> None:
    """One call looks at all of them, and changes none."""
    llm = ScriptedChatModel(script=[checks(check(2), check(1), check(3))])
    prompts = ("snow on a dog", "a dog; snow", "one dog in snow")
    assert prompts == await fidelity_guard(llm, GUARD)(PAST, prompts)
    assert list(prompts) == shown(llm, 0)
    text = llm.last_question
    assert "<user_prompt>a dog in snow</user_prompt>" in text
    assert ["a dog", "in snow"] == re.findall("<requirement>(.*?)</requirement>", text)


async def test_a_lost_requirement_is_put_back_and_looked_at_again() -> None:
    """Only what was mended is checked a second time, and it keeps its place."""
    llm = ScriptedChatModel(
        script=[
            checks(
                check(1, "in snow", mended=" one dog\nin snow "),
                check(2),
                check(3, "a dog", mended="snow, a dog"),
            ),
            checks(check(2), check(1)),
        ]
    )
    got = await fidelity_guard(llm, GUARD)(PAST, ("one dog", "dog, snow", "snow"))
    assert ("one dog in snow", "dog, snow", "snow, a dog") == got
    assert ["one dog in snow", "snow, a dog"] == shown(llm, 1)


async def test_what_is_lost_twice_is_dropped() -> None:
    """There is no third look, and one that was not mended gets no second."""
    llm = ScriptedChatModel(
        script=[
            checks(
                check(1, "in snow", mended="a dog, cold"),
                check(2, "a dog", mended="  "),
                check(3),
            ),
            checks(check(1, "in snow", mended="a dog in snow at last")),
        ]
    )
    got = await fidelity_guard(llm, GUARD)(PAST, ("one dog", "snow", "dog, snow"))
    assert ("dog, snow",) == got
    assert ["a dog, cold"] == shown(llm, 1)


async def test_a_second_look_that_fails_spoils_no_first_one() -> None:
    """What was found faithful is drawn; of what was repaired, nobody knows."""
    first = checks(check(1, "in snow", mended="one dog in snow"), check(2))
    prompts = ("one dog", "snow on a dog")
    llm = ScriptedChatModel(script=[first, checks(), checks()])
    assert prompts[1:] == await fidelity_guard(llm, GUARD)(PAST, prompts)

    alone = checks(check(1, "in snow", mended="one dog in snow"))
    llm = ScriptedChatModel(script=[alone, checks(), checks()])
    with pytest.raises(AnswerError, match="one for each prompt"):
        await fidelity_guard(llm, GUARD)(PAST, prompts[:1])


async def test_what_becomes_the_same_is_drawn_once() -> None:
    """Two prompts may be mended to one."""
    mended = "a dog in deep snow"
    first = checks(check(1, "in snow", mended=mended), check(2, "a dog", mended=mended))
    llm = ScriptedChatModel(script=[first, checks(check(1), check(2))])
    assert (mended,) == await fidelity_guard(llm, GUARD)(PAST, ("one dog", "snow"))


async def test_nothing_may_be_left() -> None:
    """Whoever asked is told so by an empty answer."""
    llm = ScriptedChatModel(script=[checks(check(1, "a dog"))])
    assert () == await fidelity_guard(llm, GUARD)(PAST, ("snow",))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a dog in snow", check(1, "a dog", "in snow", mended="a dog")),
        ("one dog; In  Snow!", check(1, "in snow")),
        ("mud", check(1, "a red hat", mended="a red hat")),
        ("mud", check(1, "in snow", mended="Mud.")),
        ("mud", check(1, " ", "?")),
    ],
    ids=[
        "said word for word",
        "other case",
        "nobody asked",
        "its own repair",
        "blanks",
    ],
)
async def test_only_what_was_asked_for_can_be_lost(
    prompt: str, said: dict[str, Any]
) -> None:
    """Weak models call lost what stands there, or what nobody had asked for."""
    llm = ScriptedChatModel(script=[checks(said)])
    assert (prompt,) == await fidelity_guard(llm, GUARD)(PAST, (prompt,))


@pytest.mark.parametrize("checklist", [None, Checklist(error="gone"), Checklist()])
async def test_without_a_checklist_nobody_is_asked(checklist: Checklist | None) -> None:
    """There is nothing to hold a prompt to."""
    guard = fidelity_guard(ScriptedChatModel(script=[]), GUARD)
    past = replace(PAST, checklist=checklist)
    assert ("mud", "snow") == await guard(past, ("mud", "snow"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (checks(check(1)), "one for each prompt from 1 to 2, got numbers [1]"),
        (checks(check(1), check(1)), "from 1 to 2, got numbers [1, 1]"),
        (checks(check(0), check(1)), "from 1 to 2, got numbers [0, 1]"),
        (checks({"number": 1, "lost": [{}]}), "checks.0.lost.0: Input should be"),
    ],
    ids=["too few", "doubled", "another", "of another form"],
)
async def test_a_wrong_answer_is_shown(wrong: Any, told: str) -> None:
    """No prompt passes because nobody spoke of it."""
    llm = ScriptedChatModel(script=[wrong, checks(check(1), check(2))])
    assert ("one", "two") == await fidelity_guard(llm, GUARD)(PAST, ("one", "two"))
    assert told in llm.last_question


@pytest.mark.parametrize(
    ("script", "expected"),
    [(["fine"] * 3, AnswerError), ([RuntimeError("gone")], CallError)],
    ids=["wrong answers", "a failed call"],
)
async def test_a_guard_that_cannot_answer_says_so(
    script: list[Any], expected: type[AgentError]
) -> None:
    """It is for the caller to go on without it."""
    guard = fidelity_guard(ScriptedChatModel(script=script), GUARD)
    with pytest.raises(expected):
        await guard(PAST, ("one",))


def test_a_template_of_another_role_is_refused() -> None:
    """Found when the guard is made."""
    with pytest.raises(TemplateError, match="template for the guard"):
        fidelity_guard(ScriptedChatModel(), OPTIMIZER)


def test_the_answer_is_fit_for_strict_schemas() -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = Checks.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        assert set(part["properties"]) == set(part["required"])
        assert part["additionalProperties"] is False


FATES = st.sampled_from(["faithful", "mended", "lost twice", "not mended"])


@given(st.lists(FATES, min_size=1, max_size=5))
async def test_only_what_was_found_faithful_comes_out(fates: list[str]) -> None:
    """Whatever becomes of the others, in the order in which they were written."""
    first: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []
    for number, fate in enumerate(fates, start=1):
        lost = () if fate == "faithful" else ("in snow",)
        mended = f"mended {number}" if fate in {"mended", "lost twice"} else ""
        first.append(check(number, *lost, mended=mended))
        if mended:
            still = ("a dog",) if fate == "lost twice" else ()
            second.append(check(len(second) + 1, *still))
    script = [checks(*first), *([checks(*second)] if second else [])]
    llm = ScriptedChatModel(script=script)
    prompts = tuple(f"prompt {number}" for number in range(1, len(fates) + 1))
    expected = [
        prompt if fate == "faithful" else f"mended {number}"
        for number, (fate, prompt) in enumerate(zip(fates, prompts, strict=True), 1)
        if fate in {"faithful", "mended"}
    ]
    assert expected == list(await fidelity_guard(llm, GUARD)(PAST, prompts))
    assert [] == llm.script


def rewrites(*prompts: str) -> dict[str, Any]:
    written = [{"aim": "whole", "prompt": prompt} for prompt in prompts]
    return {"reason": "so", "prompts": written}


async def test_the_optimizer_draws_what_the_guard_lets_through() -> None:
    """It holds what it would draw, and no more, to what was asked for."""
    held: list[tuple[str, ...]] = []

    async def guard(past: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
        assert past is PAST
        held.append(prompts)
        return (*prompts[1:], "a dog, mended")

    llm = ScriptedChatModel(script=[rewrites("a dog in snow", "one", "two", "three")])
    write = optimizer(llm, OPTIMIZER, prompts=2, guard=guard)
    assert ("two", "a dog, mended") == await write(PAST)
    assert [("one", "two")] == held


async def test_what_was_mended_is_held_to_the_limits_too() -> None:
    """A mended prompt that is too long, or was drawn before, is not worth an image."""

    async def guard(past: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
        return ("A dog  in snow", "a dog in very deep snow", "a dog, snow")

    llm = ScriptedChatModel(script=[rewrites("one")])
    write = optimizer(llm, OPTIMIZER, max_words=5, guard=guard)
    assert ("a dog, snow",) == await write(PAST)


@pytest.mark.parametrize("problem", [AnswerError("mumbled"), CallError("gone")])
async def test_a_guard_that_cannot_answer_holds_nothing_up(problem: Exception) -> None:
    """Nobody said that the prompts are wrong, so they are drawn."""

    async def guard(past: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
        raise problem

    llm = ScriptedChatModel(script=[rewrites("one", "two")])
    write = optimizer(llm, OPTIMIZER, prompts=2, guard=guard)
    assert ("one", "two") == await write(PAST)


async def test_a_spent_budget_is_not_passed_over() -> None:
    """No room for the guard's call is no room for what comes after it."""

    async def guard(past: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
        raise BudgetError("no room")

    llm = ScriptedChatModel(script=[rewrites("one")])
    with pytest.raises(BudgetError, match="no room"):
        await optimizer(llm, OPTIMIZER, guard=guard)(PAST)


async def _nothing(past: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
    """Find no prompt faithful."""
    return ()


async def test_no_faithful_rewrite_is_an_error() -> None:
    """It says what was expected, and leaves what to do to the loop."""
    llm = ScriptedChatModel(script=[rewrites("one")])
    with pytest.raises(AnswerError, match="rewrite that is faithful to the user"):
        await optimizer(llm, OPTIMIZER, guard=_nothing)(PAST)


async def test_where_no_rewrite_is_faithful_the_incumbent_is_drawn_again() -> None:
    """The image is spent on fresh noise, and the round says why."""
    llm = ScriptedChatModel(script=[rewrites("one"), rewrites("two")])
    agents = replace(
        noisy(ScriptedAgents(Script(questions=2)).agents()),
        optimize=optimizer(llm, OPTIMIZER, guard=_nothing),
    )
    async with asyncio.timeout(20):
        outcome = await refine_in_rounds(
            "a cat", agents, rounds=3, seeds=itertools.count(7)
        )
    assert [("a cat", 7), ("a cat", 8), ("a cat", 9)] == [
        (candidate.prompt, candidate.seed) for candidate in outcome.history.candidates
    ]
    for round_ in outcome.rounds[1:]:
        assert "faithful to the user prompt" in (round_.error or "")
