"""Questions about a number are counted, those about a text are read letter by letter.

K1  A count is met from even odds on, unmet where another number is likelier, else unknown.
K2  What is read is what was asked for, up to case, spaces and punctuation, or it is told
    letter by letter how it differs.
K3  Where nobody counts or reads, yes or no must do.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.agents.attempts import attempt
from socratic_agents.agents.checklist_answerers import captioner_answers
from socratic_agents.agents.checklist_kinds import count_asked, text_asked
from socratic_agents.agents.judges import checklist_judge
from socratic_agents.agents.lettering import compare_text
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.counts import Count
from socratic_agents.core.errors import CandidateError
from socratic_agents.core.history import Candidate, History, Round
from socratic_agents.models.output_checks import own_count
from socratic_agents.report.view_models import _checks


def question(text: str, *, requirement: str = "it", instead: str = "") -> Question:
    return Question(text=text, requirement=requirement, instead=instead)


@pytest.mark.parametrize(
    ("text", "asked", "least", "most"),
    [
        ("Are there three cats?", "How many cats are there?", 3, 3),
        ("are there 12 balloons ?", "How many balloons are there?", 12, 12),
        ("Is there only one dog?", "How many dogs are there?", 1, 1),
        ("Is there a single box?", "How many boxes are there?", 1, 1),
        ("Is there one lady?", "How many ladies are there?", 1, 1),
        ("Is there one man?", "How many men are there?", 1, 1),
        ("Is there one cup of tea?", "How many cups of tea are there?", 1, 1),
        ("Is there one duck!?", "How many duck! are there?", 1, 1),
        ("Are there no people?", "How many people are there?", 0, 0),
        ("Are there a pair of shoes?", "How many shoes are there?", 2, 2),
        ("Are there a dozen eggs?", "How many eggs are there?", 12, 12),
        ("Are there two or three boats?", "How many boats are there?", 2, 3),
        ("Are there at least two trees?", "How many trees are there?", 2, None),
        ("Are there more than two trees?", "How many trees are there?", 3, None),
        ("Are there at most two trees?", "How many trees are there?", 0, 2),
        ("Are there fewer than two trees?", "How many trees are there?", 0, 1),
        ("Are there exactly two trees?", "How many trees are there?", 2, 2),
        ("Does the table have four legs?", "How many legs does the table have?", 4, 4),
        ("Does the image show six apples?", "How many apples are there?", 6, 6),
        ("Are three red cars visible?", "How many red cars are there?", 3, 3),
        ("Can you see five fingers?", "How many fingers are there?", 5, 5),
        ("Are there two cats in the image?", "How many cats are there?", 2, 2),
        (
            "Are there two cats on the sofa?",
            "How many cats on the sofa are there?",
            2,
            2,
        ),
    ],
)
def test_a_number_is_asked_for_as_how_many(
    text: str, asked: str, least: int, most: int | None
) -> None:
    """In the words of the question."""
    found = count_asked(question(text))
    assert found is not None
    assert (asked, least, most) == (found.question, found.least, found.most)


@pytest.mark.parametrize(
    "text",
    [
        *("Is there a dog?", "Is the sky blue?", "Are there several birds?"),
        *("Are there about ten people?", "Are two of the cats black?"),
        *("Is one of the dogs asleep?", "Is there a three-storey house?"),
        *("Are the two dogs running?", "Does the clock show 3 o'clock?"),
        *("Is the child 3 years old?", "Does the shirt show the number 7?"),
        "Do the three dogs have hats?",
    ],
)
def test_what_asks_for_no_number_is_not_counted(text: str) -> None:
    """A number that is only part of a name or of what is taken for granted is none."""
    assert count_asked(question(text)) is None


def test_the_own_open_question_counts() -> None:
    """It was written for this prompt; a number in other forms is found by it, too."""
    own = "How many cats sit there?"
    for text in ("Are there three cats?", "Is the number of cats three?"):
        found = count_asked(question(text, instead=own))
        assert found is not None
        assert (own, 3, 3) == (found.question, found.least, found.most)
    assert count_asked(question("Is the cat black?", instead=own)) is None


@pytest.mark.parametrize(
    ("shares", "said", "seen"),
    [
        ({3: 0.9, 2: 0.1}, YesNo.YES, ""),
        ({3: 0.5, 2: 0.5}, YesNo.YES, ""),
        ({3: 0.1, 2: 0.9}, YesNo.NO, "asked for 3, the image shows 2"),
        (
            {2: 0.3, 3: 0.4, 4: 0.3},
            YesNo.UNKNOWN,
            "asked for 3, the image shows 2 or 3",
        ),
    ],
)
def test_a_count_is_met_unmet_or_unsure(
    shares: dict[int, float], said: YesNo, seen: str
) -> None:
    """With P(number) as its evidence."""
    asked = count_asked(question("Are there three cats?"))
    assert asked is not None
    answer = asked.answer(Count.of(shares))
    assert (said, seen) == (answer.said, answer.seen)
    assert answer.probability == pytest.approx(shares[3])


@given(
    shares=st.dictionaries(st.integers(0, 99), st.floats(1e-6, 1), min_size=1),
    least=st.integers(0, 12),
)
def test_yes_is_what_is_at_least_as_probable_as_not(
    shares: dict[int, float], least: int
) -> None:
    """And no is only said where another number is likelier than any that was asked for."""
    asked = count_asked(question(f"Are there at least {least} cats?"))
    assert asked is not None
    count = Count.of(shares)
    answer = asked.answer(count)
    assert answer.probability is not None
    assert 0 <= answer.probability <= 1
    assert (answer.said is YesNo.YES) == (answer.probability >= 0.5)
    if answer.said is YesNo.NO:
        assert count.number is not None
        assert count.number < least
    assert bool(answer.seen) == (answer.said is not YesNo.YES)


@pytest.mark.parametrize(
    ("text", "number", "said", "seen"),
    [
        ("Are there three cats?", 3, YesNo.YES, ""),
        ("Are there three cats?", 2, YesNo.NO, "asked for 3, the image shows 2"),
        ("Are there two or three cats?", 5, YesNo.NO, "asked for 2 to 3, the"),
        ("Are there at least two cats?", 1, YesNo.NO, "asked for at least 2, the"),
        ("Are there three cats?", None, YesNo.UNKNOWN, ""),
    ],
)
def test_a_number_without_shares_is_taken_as_it_is(
    text: str, number: int | None, said: YesNo, seen: str
) -> None:
    """It has no probability."""
    asked = count_asked(question(text))
    assert asked is not None
    answer = asked.answer(Count(number=number))
    assert said is answer.said
    assert answer.seen.startswith(seen)
    assert answer.probability is None


@pytest.mark.parametrize(
    ("text", "requirement", "asked", "exact"),
    [
        ('Does the sign say "OPEN"?', "x", "What is written on the sign?", "OPEN"),
        ("Does the cake say 'Hi'?", "x", "What is written on the cake?", "Hi"),
        (
            "Is the word “love” written on it?",
            "x",
            "What is written in the image?",
            "love",
        ),
        (
            "Does the shirt read NO 1 FAN?",
            "x",
            "What is written on the shirt?",
            "NO 1 FAN",
        ),
        (
            "Is there a neon sign?",
            'a sign saying "BAR"',
            "What is written in the image?",
            "BAR",
        ),
    ],
)
def test_a_text_is_asked_for_as_what_is_written(
    text: str, requirement: str, asked: str, exact: str
) -> None:
    """With the exact string, from the question or its requirement."""
    found = text_asked(question(text, requirement=requirement))
    assert found is not None
    assert (asked, exact) == (found.question, found.text)


@pytest.mark.parametrize(
    "text",
    [
        *("Is there a cat named 'Tom'?", "Is the dog's bowl red?", "Is there a sign?"),
        *("Does the sign say stop?", "Does the sign say ' '?"),
    ],
)
def test_what_asks_for_no_text_is_not_read(text: str) -> None:
    """A name is not written on its bearer, and an apostrophe is no quote."""
    assert text_asked(question(text)) is None


def test_the_own_open_question_reads() -> None:
    """Where it asks for a text; any other is passed over."""
    for own, asked in (
        ("What does the sign say?", "What does the sign say?"),
        ("What color is the sign?", "What is written on the sign?"),
    ):
        found = text_asked(question('Does the sign say "HI"?', instead=own))
        assert found is not None
        assert asked == found.question


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        *(("OPEN", "Open"), ("OPEN", 'The sign says "OPEN".'), ("OPEN", "OP EN")),
        *(
            ("Café Noir", "CAFE\u0301 NOIR"),
            ("\uff2f\uff30\uff25\uff2e", "open"),
            ("?!", "?!"),
        ),
        *(("OPEN", "open 24 hours"), ("Happy Birthday", "HAPPY\nBIRTHDAY!")),
        *(("NO TEXT", "no text"), ("Rock & Roll", "\u2018Rock & Roll\u2019 in red")),
        ("the quick brown fox jumps", "the quick brown fox jump5"),
    ],
)
def test_the_same_text_is_the_same(asked: str, read: str) -> None:
    """Whatever its case, spaces, punctuation, encoding, and what stands around it."""
    assert Answer(said=YesNo.YES) == compare_text(asked, read)


@pytest.mark.parametrize(
    ("asked", "read", "seen"),
    [
        ("OPEN", "OPNE", 'reads "OPNE", asked for "OPEN": letters 3 and 4 are swapped'),
        ("OPEN", "OPIN", "letter 3 is 'I', not 'E'"),
        ("OPEN", "OPN", "letter 3 ('E') is missing"),
        ("OPEN", "OPEEN", "'E' after letter 2 is too much"),
        ("OPEN", "OOPEN", "is too much"),
        ("OPEN", "XOPEN", "'X' before letter 1 is too much"),
        ("OPEN", "The text reads OPNE on it", 'reads "OPNE", asked'),
        ("OPEN", "REOPENED", 'reads "REOPENED", asked for "OPEN"'),
        ("OPEN", "There is no text.", 'nothing to read, asked for "OPEN"'),
        ("OPEN", "illegible", "nothing to read"),
        ("OPEN", "closed; on sundays", 'reads "closed, on sundays", asked'),
        ("Café", "Cafe", "letter 4 is 'e', not 'é'"),
        ("abcdefghij", "axcxexgxij", "letter 2 is 'x', not 'b'"),
        ("SALE 50%", "SALE 5O%", "letter 6 is 'O', not '0'"),
    ],
)
def test_a_difference_is_told_letter_by_letter(
    asked: str, read: str, seen: str
) -> None:
    """As far as it is the same text at all; a list of others needs the semicolon."""
    answer = compare_text(asked, read)
    assert YesNo.NO is answer.said
    assert seen in answer.seen
    assert ";" not in answer.seen


def test_many_differences_are_not_all_told() -> None:
    """The first ones show what is wrong."""
    answer = compare_text("abcdefghijkl", "abXdXfXhXjkl")
    assert answer.seen.endswith("letter 7 is 'x', not 'g' and 1 more")


def test_nothing_read_is_unknown() -> None:
    """It is not the same as no text."""
    assert Answer(said=YesNo.UNKNOWN) == compare_text("OPEN", " ")


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared(asked: str, read: str) -> None:
    """And the same one is the same."""
    compare_text(asked, read)
    if compare_text(asked, asked).said is not YesNo.UNKNOWN:
        assert YesNo.YES is compare_text(asked, asked).said


CHECKLIST = Checklist(
    questions=(
        question("Are there three cats?", requirement="three cats"),
        question('Does the sign say "OPEN"?', requirement='a sign saying "OPEN"'),
        question("Is it night?", requirement="night"),
    )
)


def _candidate() -> Candidate:
    return Candidate(prompt="cats", seed=0, image=Image.new("RGB", (4, 4)), caption="x")


class Eye:
    """Says what it was told, and notes what it was asked."""

    def __init__(self, count: Count, read: str) -> None:
        self.said: dict[str, Any] = {"count": count, "read": read}
        self.asked: list[str] = []

    async def yes_no(self, image: Image.Image, text: str) -> Answer:
        self.asked.append(text)
        return Answer(said=YesNo.YES, probability=0.9)

    async def count(self, image: Image.Image, text: str) -> Count:
        self.asked.append(text)
        return self.said["count"]

    async def read(self, image: Image.Image, text: str) -> str:
        self.asked.append(text)
        return self.said["read"]


async def test_each_kind_is_asked_of_who_can() -> None:
    """And the optimizer is told how many there are, and what is written."""
    eye = Eye(Count.of({2: 0.8, 3: 0.2}), "OPNE")
    answer = captioner_answers(eye.yes_no, answer_count=eye.count, read_text=eye.read)
    candidate = _candidate()
    answers = await answer(CHECKLIST, candidate)

    assert [False, False, True] == [one.passed for one in answers]
    assert {
        "How many cats are there?",
        "What is written on the sign?",
        "Is it night?",
    } == set(eye.asked)
    swapped = 'reads "OPNE", asked for "OPEN": letters 3 and 4 are swapped'
    told = [
        "three cats (asked for 3, the image shows 2)",
        f'a sign saying "OPEN" ({swapped})',
    ]
    drawn = Candidate(**{**vars(candidate), "answers": answers})
    history = History(
        user_prompt="cats", rounds=(Round(candidates=(drawn,)),), checklist=CHECKLIST
    )
    verdict = await checklist_judge()(history)
    assert told == list(verdict.missing)
    assert "; ".join(told) == attempt(drawn, CHECKLIST)["failed"]
    assert answers == tuple(Answer.from_json(one.to_json()) for one in answers)
    assert answers[0].seen == _checks(CHECKLIST, answers)[0]["seen"]


@pytest.mark.parametrize("able", [True, False])
async def test_where_nobody_counts_or_reads_yes_or_no_must_do(able: bool) -> None:
    """Neither who cannot, nor who heard no number and read nothing."""
    eye = Eye(Count(number=None), "")
    answer = captioner_answers(
        eye.yes_no,
        answer_count=eye.count if able else None,
        read_text=eye.read if able else None,
    )
    answers = await answer(CHECKLIST, _candidate())
    assert [True] * 3 == [one.passed for one in answers]
    assert {q.text for q in CHECKLIST.questions} <= set(eye.asked)
    assert (6 if able else 3) - able == len(eye.asked)


@pytest.mark.parametrize("given", ["3", None, Count(number=1, shares={1: 2.0})])
def test_what_is_no_count_is_refused(given: Any) -> None:
    """A captioner may be anybody's."""
    with pytest.raises(CandidateError, match="expected a Count with shares"):
        own_count(given)
    good = Count(number=1, shares={1: 1.0})
    assert good is own_count(good)
