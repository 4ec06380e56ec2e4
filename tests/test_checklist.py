"""The checklist: written once, answered on every image, and judged by.

Invariants, each a property test:

* What is written to a file is read back as it was.
* A question fails if it or anything that it stands on was answered by no, and only
  then.
* Passed, failed and unknown are all there is, and unknown counts for neither.
* The writer's questions come parents first, whatever order the model chose, and in
  the model's order where that is possible.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.agents.checklist_answerers import (
    Answers,
    captioner_answers,
    vision_answers,
)
from socratic_agents.agents.checklist_writer import MOST, Questions, checklist_writer
from socratic_agents.agents.judges import checklist_judge
from socratic_agents.core.checklist import (
    Answer,
    Checklist,
    Question,
    YesNo,
    read_answer,
    share_passed,
)
from socratic_agents.core.errors import (
    AnswerError,
    CallError,
    CandidateError,
    TemplateError,
)
from socratic_agents.core.history import History, Status, Verdict
from socratic_agents.llm.template_files import find_template
from tests import strategies
from tests.fakes import ScriptedChatModel, drawn, failed, history

WRITER = find_template("checklist", "default")
ANSWERER = find_template("answerer", "default")
YES, NO, UNKNOWN = YesNo
DOG = Checklist(
    questions=(
        Question(text="Is there a dog?", requirement="a dog", instead="What is there?"),
        Question(
            text="Is the dog brown?",
            requirement="a brown dog",
            parents=(0,),
            instead="What color is the dog?",
        ),
        Question(text="Does it snow?", requirement="in snow"),
    )
)
"""A brown dog in snow."""


def said(*told: YesNo) -> list[Answer]:
    return [Answer(said=one) for one in told]


def passed(answers: tuple[Answer, ...]) -> list[bool | None]:
    return [answer.passed for answer in answers]


def image(level: int = 0) -> Image.Image:
    """Return an image that is told again by its brightness."""
    return Image.new("RGB", (8, 8), (level, level, level))


def test_a_child_of_a_failed_parent_fails() -> None:
    """Where there is no dog, it is not brown, whatever was said."""
    assert [False, False, True] == passed(DOG.resolved(said(NO, YES, YES)))
    assert [True, False, True] == passed(DOG.resolved(said(YES, NO, YES)))


def test_a_failure_goes_down_the_whole_line() -> None:
    """A grandchild fails as well, and so does the child of an unknown one."""
    line = Checklist(
        questions=tuple(
            Question(text=f"Is it {n}?", requirement=str(n), parents=(n - 1,) * (n > 0))
            for n in range(4)
        )
    )
    assert [False] * 4 == passed(line.resolved(said(NO, YES, UNKNOWN, YES)))
    assert [True, None, False, False] == passed(
        line.resolved(said(YES, UNKNOWN, NO, YES))
    )


def test_what_nobody_knows_is_neither_passed_nor_failed() -> None:
    """An unknown parent does not condemn its child."""
    answers = DOG.resolved(said(UNKNOWN, YES, NO))
    assert [None, True, False] == passed(answers)
    assert ["a brown dog"] == [question.requirement for question in DOG.met(answers)]
    assert ["in snow"] == [question.requirement for question in DOG.failed(answers)]
    assert 0.5 == share_passed(answers)


def test_what_was_said_stays() -> None:
    """What follows from the answers is added to them, and nothing else changes."""
    answer = Answer(said=YES, probability=0.75)
    resolved = DOG.resolved([Answer(said=NO, probability=0.25), answer, answer])
    assert [0.25, 0.75, 0.75] == [one.probability for one in resolved]
    assert [NO, YES, YES] == [one.said for one in resolved]


def test_a_share_of_nothing_is_none() -> None:
    """It is not 0: nobody looked, or nobody could tell."""
    assert share_passed(()) is None
    assert share_passed(DOG.resolved(said(UNKNOWN, UNKNOWN, UNKNOWN))) is None


def test_an_answer_too_few_is_a_bug() -> None:
    """Answers are never paired with other questions than their own."""
    with pytest.raises(ValueError, match="shorter"):
        DOG.resolved(said(YES))
    with pytest.raises(ValueError, match="shorter"):
        DOG.failed(said(YES))
    assert () == DOG.failed(()) == DOG.met(())


def _line(checklist: Checklist, place: int) -> set[int]:
    """Return a question's place with the places of all that it stands on."""
    parents = checklist.questions[place].parents
    return {place}.union(*(_line(checklist, parent) for parent in parents))


@given(strategies.checklists(), st.data())
def test_a_question_fails_by_its_line_alone(
    checklist: Checklist, data: st.DataObject
) -> None:
    """It passes by its own answer unless something in its line was denied."""
    count = len(checklist.questions)
    told = data.draw(st.lists(st.sampled_from(YesNo), min_size=count, max_size=count))
    answers = checklist.resolved(said(*told))
    for place, answer in enumerate(answers):
        denied = any(told[one] is NO for one in _line(checklist, place))
        assert denied == (answer.passed is False)
        assert (answer.passed is True) == (told[place] is YES and not denied)
    met, lost = checklist.met(answers), checklist.failed(answers)
    unknown = passed(answers).count(None)
    assert count == len(met) + len(lost) + unknown
    share = share_passed(answers)
    assert (share is None) == (count == unknown)
    if share is not None:
        assert len(met) == pytest.approx(share * (count - unknown))


@given(strategies.checklists(), st.lists(strategies.answers, max_size=3))
def test_what_is_written_is_read_back(
    checklist: Checklist, answers: list[Answer]
) -> None:
    """Questions and answers survive a file."""
    text = json.dumps(checklist.to_json())
    assert checklist == Checklist.from_json(json.loads(text))
    for answer in answers:
        text = json.dumps(answer.to_json())
        assert answer == Answer.from_json(json.loads(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", YES),
        ('"Yes, it is."', YES),
        ("NO.", NO),
        ("no, it snows", NO),
        ("nothing", UNKNOWN),
        ("not that one can see, yes", UNKNOWN),
        ("yesterday", UNKNOWN),
        ("a dog", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_text_answers_by_its_first_word(text: str, expected: YesNo) -> None:
    """Yes and no are whole words at the beginning; anything else is unknown."""
    assert Answer(said=expected) == read_answer(text)


def item(
    question: str, *needs: int, requirement: str = "a dog", instead: str = ""
) -> dict[str, Any]:
    return {
        "requirement": requirement,
        "question": question,
        "needs": list(needs),
        "instead": instead,
    }


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"questions": list(items)}


GOOD = listed(item("Is there a dog?"), item("Is the dog brown?", 1))


async def test_the_writer_asks_about_the_user_prompt() -> None:
    """What comes back is clean, and every need has become a parent's place."""
    llm = ScriptedChatModel(
        script=[
            listed(
                item(" Is there\na dog? ", instead="What  is there?"),
                item("Does it snow?", requirement=" in\tsnow "),
                item("Is the dog brown?", 1, 1, requirement="brown"),
            )
        ]
    )
    checklist = await checklist_writer(llm, WRITER)("a brown dog in snow")
    assert (
        Question(text="Is there a dog?", requirement="a dog", instead="What is there?"),
        Question(text="Does it snow?", requirement="in snow"),
        Question(text="Is the dog brown?", requirement="brown", parents=(0,)),
    ) == checklist.questions
    assert checklist.error is None
    assert "<user_prompt>a brown dog in snow</user_prompt>" in llm.last_question


WRONG = {
    "none": (listed(), f"questions: expected 3 to {MOST}, got none"),
    "a statement": (listed(item("The dog is brown.")), "got 'The dog is brown.'"),
    "an open question": (
        listed(item("What color is the dog?")),
        "question 1: expected an English question that yes or no answers",
    ),
    "no mark": (listed(item("Is there a dog")), "got 'Is there a dog'"),
    "German": (listed(item("Ist da ein Hund?")), "got 'Ist da ein Hund?'"),
    "German, open": (listed(item("Was ist da?")), "got 'Was ist da?'"),
    "Spanish": (listed(item("¿Hay un perro?")), "got '¿Hay un perro?'"),
    "an empty question": (listed(item("")), "answers, such as 'Is there a cat?', got"),
    "an empty requirement": (
        listed(item("Is there a dog?", requirement=" \n")),
        "question 1: expected its requirement, got an empty one",
    ),
    "no list": ({"questions": "Is there a dog?"}, "questions.0: Input should be"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_list_is_shown_once(name: str) -> None:
    """The model is told what is wrong with it, and its second list is taken."""
    wrong, told = WRONG[name]
    llm = ScriptedChatModel(script=[wrong, GOOD])
    checklist = await checklist_writer(llm, WRITER)("a brown dog")
    assert ["Is there a dog?", "Is the dog brown?"] == [
        question.text for question in checklist.questions
    ]
    assert told in llm.last_question


@pytest.mark.parametrize("name", WRONG)
async def test_a_list_that_stays_wrong_is_an_error(name: str) -> None:
    """There is no second repair: the images are waiting."""
    wrong, _ = WRONG[name]
    llm = ScriptedChatModel(script=[wrong, wrong])
    with pytest.raises(AnswerError, match="stayed wrong"):
        await checklist_writer(llm, WRITER)("a brown dog")
    assert 2 == len(llm.asked)


async def written(*items: Any) -> dict[str, tuple[int, ...]]:
    """Return the questions of a list that is used at once, and their parents."""
    llm = ScriptedChatModel(script=[listed(*items)])
    questions = (await checklist_writer(llm, WRITER)("a brown dog")).questions
    assert 1 == len(llm.asked)
    return {question.text: question.parents for question in questions}


FINE = item("Is there a dog?")


@pytest.mark.parametrize(
    ("items", "kept"),
    [
        ((FINE, item("What color is it?", 1)), {"Is there a dog?": ()}),
        ((FINE, item("is there  a DOG?")), {"Is there a dog?": ()}),
        ((FINE, item("Is it big?", requirement="")), {"Is there a dog?": ()}),
        (
            (item("?"), FINE, item("Is it big?", 1, 2)),
            {"Is there a dog?": (), "Is it big?": (0,)},
        ),
        (
            (FINE, item("Is it big?", 3, 0, -1, 2)),
            {"Is there a dog?": (), "Is it big?": ()},
        ),
        (
            (item("Is it 1?", 2), item("Is it 2?", 3), item("Is it 3?", 1), FINE),
            {"Is it 1?": (), "Is it 2?": (), "Is it 3?": (), "Is there a dog?": ()},
        ),
        ((item("1. Is there a dog? (Yes or No)"),), {"Is there a dog?": ()}),
        ((item("- Is there a dog? [yes/no]"),), {"Is there a dog?": ()}),
    ],
    ids=[
        *("an open one", "a duplicate", "no requirement", "a need of a dropped one"),
        *("needs of nobody", "a circle", "a numbered one", "a list item"),
    ],
)
async def test_one_bad_question_is_dropped_and_not_the_list(
    items: tuple[Any, ...], kept: dict[str, tuple[int, ...]]
) -> None:
    """What is usable is used, without another request."""
    assert kept == await written(*items)


async def test_a_list_that_is_too_long_is_cut() -> None:
    """The first ones count: they are the plainest."""
    assert MOST == len(await written(*(item(f"Is it {n}?") for n in range(40))))


async def test_a_parroted_instruction_is_no_open_question() -> None:
    """What is asked where a question fails has to be a question."""
    parroted = {**item("Is there a dog?"), "instead": "A short open question"}
    llm = ScriptedChatModel(script=[listed(parroted)])
    (question,) = (await checklist_writer(llm, WRITER)("a dog")).questions
    assert "" == question.instead


async def test_a_failed_call_of_the_writer_is_no_empty_checklist() -> None:
    """It is raised, for the loop to say why there is none."""
    llm = ScriptedChatModel(script=[RuntimeError("gone")])
    with pytest.raises(CallError, match="gone"):
        await checklist_writer(llm, WRITER)("a brown dog")


@st.composite
def needs_of(draw: st.DrawFn) -> list[list[int]]:
    """Draw the needs of one to ten questions, in any order, without a circle."""
    order = draw(st.permutations(range(1, draw(st.integers(1, MOST)) + 1)))
    needs = {
        number: draw(st.lists(st.sampled_from(order[:place]), max_size=3))
        if place
        else []
        for place, number in enumerate(order)
    }
    return [needs[number] for number in sorted(needs)]


@given(needs_of())
async def test_parents_stand_before_their_children(needs: list[list[int]]) -> None:
    """No question is lost, and none goes before another without need."""
    items = [item(f"Is it {n}?", *need) for n, need in enumerate(needs, start=1)]
    llm = ScriptedChatModel(script=[listed(*items)])
    questions = (await checklist_writer(llm, WRITER)("a dog")).questions
    order = [int(question.text[6:-1]) for question in questions]
    assert list(range(1, len(needs) + 1)) == sorted(order)
    for place, question in enumerate(questions):
        assert all(parent < place for parent in question.parents)
        parents = [order[parent] for parent in question.parents]
        assert set(needs[order[place] - 1]) == set(parents)
        assert len(set(parents)) == len(parents)
    for number, follower in itertools.pairwise(order):
        assert number < follower or number in needs[follower - 1]


async def test_a_captioner_is_asked_all_questions_at_once() -> None:
    """Each waits for the others, and the answers come in the order of the questions."""
    together, seen = asyncio.Barrier(3), image()

    async def decide(looked_at: Image.Image, question: str) -> Answer:
        assert looked_at is seen
        await together.wait()
        brown = question == "Is the dog brown?"
        return Answer(said=NO if brown else YES, probability=0.25 if brown else 1.0)

    async with asyncio.timeout(20):
        answers = await captioner_answers(decide)(DOG, drawn("a dog", image=seen))
    assert [1.0, 0.25, 1.0] == [answer.probability for answer in answers]
    assert [True, False, True] == passed(answers)


async def test_a_captioner_that_fails_leaves_no_question_at_work() -> None:
    """Its error is the candidate's, and nobody answers what nobody will read."""
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def decide(_: Image.Image, question: str) -> Answer:
        if question == "Does it snow?":
            await asked.wait()
            raise CandidateError(Status.OK, "no eyes")
        try:
            asked.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with asyncio.timeout(20):
        with pytest.raises(CandidateError, match="no eyes"):
            await captioner_answers(decide)(DOG, drawn("a dog", image=image()))
        await cancelled.wait()


def told(*answers: tuple[int, str]) -> dict[str, Any]:
    return {"answers": [{"number": n, "answer": answer} for n, answer in answers]}


async def test_a_language_model_looks_and_answers_by_number() -> None:
    """One call shows the image with all questions; the order of answers is free."""
    llm = ScriptedChatModel(script=[told((3, "no"), (1, "yes"), (2, "unknown"))])
    candidate = drawn("a dog", image=image())
    answers = await vision_answers(llm, ANSWERER)(DOG, candidate)
    assert [YES, UNKNOWN, NO] == [answer.said for answer in answers]
    assert [True, None, False] == passed(answers)
    assert {None} == {answer.probability for answer in answers}
    (messages,) = llm.asked
    assert "<number>2</number>Is the dog brown?</question>" in messages[-1].text
    kinds = [block["type"] for block in messages[-1].content_blocks]
    assert ["text", "text", "image"] == kinds


NUMBERS = "answers: expected one for each question from 1 to 3, got numbers "
UNTRUE = {
    "another word": (
        told((1, "maybe"), (2, "no"), (3, "no")),
        "answers.0.answer: Input should be 'yes', 'no' or 'unknown'",
    ),
    "a missing number": (told((1, "yes"), (3, "no")), f"{NUMBERS}[1, 3]"),
    "a doubled number": (
        told((1, "yes"), (2, "no"), (2, "yes"), (3, "no")),
        f"{NUMBERS}[1, 2, 2, 3]",
    ),
    "another number": (
        told((1, "yes"), (2, "no"), (4, "no")),
        f"{NUMBERS}[1, 2, 4]",
    ),
    "nothing": (told(), f"{NUMBERS}[]"),
}


@pytest.mark.parametrize("name", UNTRUE)
async def test_a_wrong_answer_is_shown_once(name: str) -> None:
    """An answer is never guessed: what is wrong is asked again, and then an error."""
    wrong, why = UNTRUE[name]
    right = told((1, "yes"), (2, "yes"), (3, "yes"))
    candidate = drawn("a dog", image=image())
    llm = ScriptedChatModel(script=[wrong, right])
    answers = await vision_answers(llm, ANSWERER)(DOG, candidate)
    assert [True, True, True] == passed(answers)
    assert why in llm.last_question
    llm = ScriptedChatModel(script=[wrong, wrong])
    with pytest.raises(AnswerError, match="stayed wrong"):
        await vision_answers(llm, ANSWERER)(DOG, candidate)


async def test_without_an_image_in_memory_nobody_is_asked() -> None:
    """The candidate's error says so, whoever would have answered."""

    async def decide(_: Image.Image, question: str) -> Answer:
        raise AssertionError(question)

    answerers = (
        captioner_answers(decide),
        vision_answers(ScriptedChatModel(), ANSWERER),
    )
    for answer in answerers:
        with pytest.raises(CandidateError, match="image in memory to ask about") as got:
            await answer(DOG, drawn("a dog"))
        assert Status.OK is got.value.status


def test_templates_of_another_role_are_refused() -> None:
    """Found when the writer or the answerer is made."""
    llm = ScriptedChatModel()
    with pytest.raises(TemplateError, match="template for the checklist"):
        checklist_writer(llm, ANSWERER)
    with pytest.raises(TemplateError, match="template for the answerer"):
        vision_answers(llm, WRITER)


@pytest.mark.parametrize("answer", [Questions, Answers])
def test_the_answers_are_fit_for_strict_schemas(answer: Any) -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = answer.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        assert set(part["properties"]) == set(part["required"])
        assert part["additionalProperties"] is False


def asked(*told: YesNo, checklist: Checklist | None = DOG, **facts: Any) -> History:
    """Return a history whose one image answered the checklist so."""
    answers = DOG.resolved(said(*told)) if told else ()
    past = history("a brown dog in snow", drawn("a dog", answers=answers, **facts))
    return replace(past, checklist=checklist)


async def test_all_passed_is_satisfied() -> None:
    """Nothing is missing, and nobody looks for it."""

    async def look(_: Image.Image, question: str) -> str:
        raise AssertionError(question)

    verdict = await checklist_judge(look)(asked(YES, YES, YES, image=image()))
    expected = Verdict(satisfied=True, reason="3 of 3 questions passed")
    assert expected == verdict


@pytest.mark.parametrize(
    ("told", "missing", "count"),
    [
        ((NO, YES, YES), ("a dog",), 1),
        ((NO, NO, NO), ("a dog", "in snow"), 0),
        ((YES, NO, YES), ("a brown dog",), 2),
        ((UNKNOWN, NO, YES), ("a brown dog",), 1),
        ((YES, UNKNOWN, NO), ("in snow",), 1),
    ],
)
async def test_only_the_root_of_a_failure_is_missing(
    told: tuple[YesNo, ...], missing: tuple[str, ...], count: int
) -> None:
    """Who has no dog is not told that it is not brown; unknown things are not lost."""
    verdict = await checklist_judge()(asked(*told))
    reason = f"{count} of 3 questions passed"
    assert Verdict(satisfied=False, missing=missing, reason=reason) == verdict


async def test_what_is_seen_instead_is_told() -> None:
    """The open question of each failure is put to the incumbent's image."""
    questions: list[str] = []
    seen = image()

    async def look(looked_at: Image.Image, question: str) -> str:
        assert looked_at is seen
        questions.append(question)
        return " a white\n dog\x00 "

    verdict = await checklist_judge(look)(asked(YES, NO, NO, image=seen))
    assert ("a brown dog (seen instead: a white dog)", "in snow") == verdict.missing
    assert ["What color is the dog?"] == questions


@pytest.mark.parametrize("answer", ["", " \n", "No", "yes", CandidateError])
async def test_a_look_that_tells_nothing_costs_only_the_hint(answer: Any) -> None:
    """The verdict stands by the answers alone."""

    async def look(_: Image.Image, question: str) -> str:
        if answer is CandidateError:
            raise CandidateError(Status.OK, "no eyes")
        return str(answer)

    verdict = await checklist_judge(look)(asked(NO, NO, YES, image=image()))
    assert (False, ("a dog",)) == (verdict.satisfied, verdict.missing)


async def test_an_image_that_is_only_on_the_disk_is_not_looked_at() -> None:
    """Its answers are known, and judge it."""

    async def look(_: Image.Image, question: str) -> str:
        raise AssertionError(question)

    assert ("a dog",) == (await checklist_judge(look)(asked(NO, NO, YES))).missing


@pytest.mark.parametrize(
    ("past", "cause"),
    [
        (asked(YES, UNKNOWN, UNKNOWN), "2 of 3 questions could not be answered"),
        (asked(checklist=None), "there is no checklist to judge by"),
        (asked(checklist=Checklist(error="the writer mumbled")), "the writer mumbled"),
        (asked(checklist=Checklist()), "there is no checklist to judge by"),
        (asked(), "nobody answered about the incumbent"),
        (asked(error="no eyes"), "no eyes"),
        (
            replace(history("a dog", failed("a dog")), checklist=DOG),
            "nobody answered about the incumbent",
        ),
    ],
    ids=["unknown", "none", "error", "empty", "no answers", "no eyes", "not drawn"],
)
async def test_without_all_answers_there_is_no_verdict(
    past: History, cause: str
) -> None:
    """Nobody says "not satisfied" who does not know, and the cause is told."""
    assert Verdict.unjudged(cause) == await checklist_judge()(past)
