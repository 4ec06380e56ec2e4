"""Answers: whatever wraps a right one, it is read; one that breaks off never is.

Invariants, by property:

* W: a right answer in any wrapping, or chain of wrappings, is read as it was meant;
* T: no beginning of an answer is read, whatever stands before it;
* S: what is valid as it stands is never read as anything else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from socratic_agents.llm.answers import UnreadableError, fitting, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable


class Rewrite(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    aim: Literal["missing", "whole"]
    prompt: str


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    missing: list[str]
    satisfied: bool
    number: int
    share: float
    rewrites: list[Rewrite]
    seen: str | None


GOOD: dict[str, Any] = {
    "reason": 'a {red} ball, "as asked"',
    "missing": ["a hat", "it's raining"],
    "satisfied": False,
    "number": 3,
    "share": 0.5,
    "rewrites": [{"aim": "whole", "prompt": "a ball [round]"}],
    "seen": None,
}
RIGHT = Answer(**GOOD)
TEXT = json.dumps(GOOD)

TEXTS = st.text(max_size=20)
ANSWERS = st.builds(
    Answer,
    reason=TEXTS,
    missing=st.lists(TEXTS, max_size=3),
    satisfied=st.booleans(),
    number=st.integers(-9, 9),
    share=st.floats(0, 1),
    rewrites=st.lists(
        st.builds(Rewrite, aim=st.sampled_from(["missing", "whole"]), prompt=TEXTS),
        max_size=2,
    ),
    seen=st.none() | TEXTS,
)

WRAPPINGS: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "think block": lambda text: f"<think>\nIs it red? {{yes}}\n</think>\n\n{text}",
    "closing tag alone": lambda text: f"Is it red? Yes.\n</think>{text}",
    "deliberation that quotes a fence": lambda text: (
        f"<think>\n```json\n{{}}\n```\n</think>\n{text}"
    ),
    "deliberation with a draft": lambda text: f"<think>{TEXT}, no!</think>{text}",
    "deliberation that breaks off an object": lambda text: (
        f"<thinking>{TEXT[:30]}</thinking> {text}"
    ),
    "two deliberations": lambda text: f"<think>a</think> <think>b</think>{text}",
    "brackets": lambda text: f"[THINK]hm[/THINK]{text}",
    "channels": lambda text: (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{text}<|return|>"
    ),
    "words before": lambda text: f"Sure! Here is the {{JSON}} you want:\n\n{text}",
    "words after": lambda text: f"{text}\n\nLet me know if {{you}} need more.",
    "an apostrophe before": lambda text: f"Here's what's asked: {text}",
    "a brace before": lambda text: f"I write it between {{ and }}. {text}",
    "another object before": lambda text: f'{{"type": "object"}}\n{text}',
    "another object after": lambda text: f'{text}\n{{"note": 1}}',
    "fence": lambda text: f"```json\n{text}\n```",
    "fence in capitals": lambda text: f"```JSON\n{text}\n```\nHope this helps!",
    "fence with four ticks": lambda text: f"````\n{text}\n````",
    "tildes": lambda text: f"~~~json5\n{text}\n~~~",
    "end of text": lambda text: f"{text}<|im_end|>",
    "end of turn": lambda text: f"{text}</s><end_of_turn>",
    "byte order mark": lambda text: f"\ufeff{text}",
    "twice the same": lambda text: f"{text}\n\nAgain:\n{text}",
    "a list of one": lambda text: f"[{text}]",
    "a wrapping key": lambda text: f'{{"answer": {text}}}',
    "a call": lambda text: f'{{"name": "Answer", "parameters": {text}}}',
    "a call with text": lambda text: json.dumps({"name": "Answer", "arguments": text}),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_right_answer_is_read_in_every_wrapping(wrapping: str) -> None:
    """W: what real models put around an answer does not hide it."""
    assert RIGHT == read_answer(WRAPPINGS[wrapping](TEXT), Answer)


def test_an_answer_beside_a_call_that_does_not_fit_is_read() -> None:
    """C: the text counts where the call does not; without one, the call is refused."""
    assert RIGHT == read_answer(TEXT, Answer, calls=[{"nothing": "of it"}])
    with pytest.raises(UnreadableError):
        read_answer("here you are", Answer, calls=[{"nothing": "of it"}])


def test_an_answer_before_a_deliberation_that_never_ends_is_read() -> None:
    """D: it was said; what a model goes on to think about it is not."""
    assert RIGHT == read_answer(f"{TEXT}\n<think>was that right {{", Answer)


@given(ANSWERS, st.sampled_from([*WRAPPINGS]), st.booleans())
def test_any_right_answer_is_read(answer: Answer, wrapping: str, spaced: bool) -> None:
    """W: so it is with every answer, be it on one line or on many."""
    text = json.dumps(answer.model_dump(), indent=2 if spaced else None)
    assert answer == read_answer(WRAPPINGS[wrapping](text), Answer)


@given(ANSWERS, st.sampled_from([*WRAPPINGS]), st.data())
def test_an_answer_that_breaks_off_is_never_read(
    answer: Answer, wrapping: str, data: st.DataObject
) -> None:
    """T: half a list is not a list, and a rewrite in it is not the answer."""
    text = json.dumps(answer.model_dump())
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    before = WRAPPINGS[wrapping]("\0").partition("\0")[0]
    with pytest.raises(UnreadableError):
        read_answer(before + cut, Answer)


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"extra": 1}, {}),
        ({"satisfied": "true"}, {"satisfied": True}),
        ({"satisfied": "No"}, {}),
        ({"satisfied": 1}, {"satisfied": True}),
        ({"number": "3"}, {}),
        ({"number": 3.0}, {}),
        ({"share": "0.5"}, {}),
        ({"share": 1}, {"share": 1.0}),
        ({"reason": 7}, {"reason": "7"}),
        ({"reason": None}, {"reason": ""}),
        ({"missing": None}, {"missing": []}),
        ({"missing": "None"}, {"missing": []}),
        ({"missing": "a hat"}, {"missing": ["a hat"]}),
        ({"missing": ["a hat", None]}, {"missing": ["a hat"]}),
        (
            {"rewrites": {"aim": "Whole", "prompt": "x", "why": "y"}},
            {"rewrites": [Rewrite(aim="whole", prompt="x")]},
        ),
        ({"seen": "a cat"}, {"seen": "a cat"}),
    ],
)
def test_values_are_read_as_they_can_only_be_meant(
    change: dict[str, Any], meant: dict[str, Any]
) -> None:
    """Numbers and bools as text, one thing for a list, null for empty, other case."""
    right = RIGHT.model_copy(update=meant)
    assert right == read_answer(json.dumps({**GOOD, **change}), Answer)


def test_keys_are_read_in_another_spelling() -> None:
    """A key in another case is the key, unless two would be the same one."""
    shouted = {key.upper(): value for key, value in GOOD.items()}
    assert RIGHT == read_answer(json.dumps(shouted), Answer)
    two = {**shouted, "Satisfied": True}
    with pytest.raises(UnreadableError, match="satisfied: Field required"):
        read_answer(json.dumps(two), Answer)


@pytest.mark.parametrize(
    "text",
    [
        repr(GOOD),
        TEXT.replace("}]", "},]").replace('"seen": null', '"seen": null,'),
        TEXT.replace("as asked", "as\nasked"),
    ],
    ids=["Python", "commas too many", "a line break in a text"],
)
def test_what_is_nearly_json_is_read(text: str) -> None:
    """The spelling of Python, trailing commas and bare line breaks have one meaning."""
    read = read_answer(f"So: {text}", Answer)
    assert RIGHT == read.model_copy(update={"reason": read.reason.replace("\n", " ")})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (" \ufeff ", "it is empty"),
        ("yes", "holds no JSON object"),
        ("{yes} and {'no'}", "holds no JSON object"),
        ('"a text"', "holds no JSON object"),
        ("<think>hm, " + TEXT, "middle of its deliberation"),
        (TEXT[:-1] + ', "satisfied": true}', "Field required|holds no JSON object"),
        (TEXT + TEXT.replace("false", "true"), "2 different answers"),
        (TEXT.replace("false", '"maybe"'), "satisfied: Input should be"),
        (TEXT.replace(" 3", " 3.5"), "number: Input should be"),
        (TEXT.replace(" 3", ' "three"'), "number: Input should be"),
        (TEXT.replace(" 3", " true"), "number: Input should be"),
        (TEXT.replace(" 3", " 1e999"), "number: Input should be"),
        (TEXT.replace('"whole"', '"sideways"'), "rewrites.0.aim: Input should be"),
        (TEXT.replace('[{"aim"', '["x", {"aim"'), "rewrites.0: Input should be"),
        ("{" * 5000 + "'" + TEXT, "breaks off"),
        ('{"a":1}' * 2500, "Field required"),
        ('[{"a":' * 20_000, "breaks off"),
    ],
)
def test_what_has_no_reading_or_two_is_refused(text: str, why: str) -> None:
    """A guess is never made: the message says what is wrong, for who wrote it."""
    with pytest.raises(UnreadableError, match=why):
        read_answer(text, Answer)


@given(ANSWERS)
def test_a_valid_answer_is_never_bent(answer: Answer) -> None:
    """S: leniency begins only where nothing is valid as it stands."""
    other = answer.model_dump() | {"satisfied": "yes", "extra": 1}
    assert answer == fitting([other, answer.model_dump()], Answer)
