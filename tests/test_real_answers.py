"""What a real small language model wrote, read again: by the reader and by the roles.

``tests/data/`` holds the recording, which says what wrote it. It is made by
``REAL_RECORDING=FILE make test-real``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from socratic_agents.agents.checklist_writer import Questions
from socratic_agents.agents.guard import Checks
from socratic_agents.agents.judges import Judgement
from socratic_agents.agents.optimizer import Rewrites
from socratic_agents.agents.selectors import Choice
from socratic_agents.llm.answers import UnreadableError, read_answer
from tests.fakes import TextModel
from tests.role_calls import READING, SHIPPED, call_role, expect_sound

if TYPE_CHECKING:
    from pydantic import BaseModel

ANSWERS: dict[str, type[BaseModel]] = {
    "checklist": Questions,
    "guard": Checks,
    "judge": Judgement,
    "optimizer": Rewrites,
    "selector": Choice,
}
"""What each role asks for."""
_FILE = Path(__file__).parent / "data" / "smollm2-135m-answers.jsonl"
_SAID_OF_IT, *CALLS = map(json.loads, _FILE.read_text("utf-8").splitlines())
REPLIES = [(call["role"], reply) for call in CALLS for reply in call["replies"]]
WHOLE = [
    (role, reply["text"]) for role, reply in REPLIES if reply["finish_reason"] == "stop"
]
CUT = [
    (role, reply["text"]) for role, reply in REPLIES if reply["finish_reason"] != "stop"
]


def _name(call: dict[str, Any]) -> str:
    return (
        f"{call['role']} {call['template']} {call['method']} {call['user_prompt'][:12]}"
    )


def _read(role: str, text: str) -> BaseModel | None:
    try:
        return read_answer(text, ANSWERS[role])
    except UnreadableError:
        return None


def test_the_recording_says_who_wrote_it() -> None:
    """Model and licence stand in its first line, and every template was asked."""
    assert {"model", "licence", "recorded_with"} <= set(_SAID_OF_IT)
    assert "Apache-2.0" == _SAID_OF_IT["licence"]
    assert set(READING) <= {(call["role"], call["template"]) for call in CALLS}


def test_the_docs_say_what_every_template_costs() -> None:
    """The table of the docs has a line for each role and template that is shipped."""
    page = (Path(__file__).parent.parent / "docs" / "prompts.md").read_text("utf-8")
    _, _, section = page.partition("## A real small model")
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \|", section, re.MULTILINE)
    assert set(SHIPPED) == set(rows)


def test_enough_of_it_is_an_answer() -> None:
    """The recording holds whole answers of most roles, and some that were cut off."""
    read = [role for role, text in WHOLE if _read(role, text) is not None]
    assert len(set(read)) >= 4
    assert CUT


@pytest.mark.parametrize(("role", "text"), CUT, ids=map(str, range(len(CUT))))
def test_what_was_cut_off_is_no_answer(role: str, text: str) -> None:
    """A model that did not come to an end has not answered, whatever it wrote."""
    assert _read(role, text) is None


@given(st.data())
def test_a_whole_answer_cut_anywhere_is_no_other_answer(data: st.DataObject) -> None:
    """What is left of a real answer is the same answer or none, never another one."""
    role, text = data.draw(st.sampled_from(WHOLE))
    answer = _read(role, text)
    assume(answer is not None)

    left = _read(role, text[: data.draw(st.integers(0, len(text)))])

    assert left is None or left == answer


@pytest.mark.parametrize("call", CALLS, ids=_name)
async def test_the_roles_do_with_it_what_they_did(call: dict[str, Any]) -> None:
    """Real answers lead to the recorded end: used where they can be, else said why not."""
    outcome = await _replayed(call)

    expect_sound(outcome, call["user_prompt"])
    assert call["outcome"] | {"cause": ""} == outcome | {"cause": ""}


async def _replayed(call: dict[str, Any]) -> dict[str, Any]:
    """Return what a role makes of recorded replies; asked once more, the last returns."""
    script = [
        AIMessage(
            one["text"], response_metadata={"finish_reason": one["finish_reason"]}
        )
        for one in call["replies"]
    ]
    llm = TextModel(script=[*script, script[-1]])
    return await call_role(call["role"], call["template"], call["user_prompt"], llm)
