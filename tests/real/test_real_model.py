"""A real small language model is asked everything; what is tested is never its quality.

That it is taken for what it is: schemas are accepted, answers are bounded, and whoever
got no answer says so.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage
from openai import LengthFinishReasonError

from socratic_agents.agents.checklist_answerers import ANSWERERS, Answers
from socratic_agents.agents.checklist_writer import VALIDATION_RETRIES, Questions
from socratic_agents.agents.guard import GUARDS, Checks
from socratic_agents.agents.judges import JUDGES, Judgement
from socratic_agents.agents.optimizer import OPTIMIZERS, Rewrites
from socratic_agents.agents.selectors import SELECTORS, Choice, Preference
from socratic_agents.cli.app import main
from socratic_agents.llm.answers import read_answer
from socratic_agents.llm.methods import open_method
from socratic_agents.llm.schemas import schema_of
from tests.real.conftest import LONGEST
from tests.role_calls import LOOKING, READING, expect_sound

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from tests.real.conftest import Call, RealModel

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

POCKET = "a crimson ball above an azure box"
WRITTEN = "a lighthouse made of stacked books, in thick morning fog"
"""In the style of the prompts that image models are tested with; made up."""
MOST = {
    "answerer": ANSWERERS.find("llm").requests,
    "checklist": 1 + VALIDATION_RETRIES,
    "guard": GUARDS.find("llm").requests,
    "judge": JUDGES.find("caption").requests,
    "optimizer": OPTIMIZERS.find("llm").requests,
    "selector": SELECTORS.find("caption").requests,
}
"""Requests of one call at most."""


def _expect_bounded(call: Call) -> None:
    """Check that a call cost no more than it may."""
    assert 1 <= call.requests <= MOST[call.role]
    assert call.output_tokens <= call.requests * LONGEST


@pytest.mark.parametrize(
    "answer", [Answers, Checks, Choice, Judgement, Preference, Questions, Rewrites]
)
async def test_every_schema_is_accepted(
    model: RealModel, answer: type[BaseModel]
) -> None:
    """The server knows all that our schemas use; what is complete can be read."""
    async with model.open() as llm:
        method = open_method(llm, answer, "json_schema", schema_of(answer, {}))
        assert method is not None
        try:
            message = await method.send(
                [HumanMessage("Answer in few words.")],
                extra_body={"max_tokens": LONGEST},
            )
        except LengthFinishReasonError:
            return  # the model came to no end
    assert isinstance(read_answer(message.text, answer), answer)


@pytest.mark.parametrize("user_prompt", [POCKET, WRITTEN])
@pytest.mark.parametrize(("role", "name"), READING)
async def test_every_template_is_answered_or_it_is_said_why_not(
    model: RealModel, role: str, name: str, user_prompt: str
) -> None:
    """A weak model's answer is used where it is one, and called wrong where it is none."""
    call = await model.call(role, name, user_prompt)

    _expect_bounded(call)
    expect_sound(call.outcome, user_prompt)


@pytest.mark.parametrize("role", sorted({role for role, _ in READING}))
async def test_words_alone_are_enough(model: RealModel, role: str) -> None:
    """A server that knows no structured output is asked in words, with the same end."""
    call = await model.call(role, "default", POCKET, method="words")

    _expect_bounded(call)
    expect_sound(call.outcome, POCKET)


@pytest.mark.parametrize(("role", "name"), LOOKING)
async def test_a_model_without_eyes_is_told_from_a_bad_line(
    model: RealModel, role: str, name: str
) -> None:
    """The server refuses the image; it is asked once, and the message says what helps."""
    call = await model.call(role, name, POCKET)

    assert "CallError" == call.outcome["failed"]
    assert "choose a model that sees images" in call.outcome["cause"]
    assert 2 if role == "selector" else 1 == call.requests  # both orders at once


@pytest.mark.parametrize("preset", ["default", "classic"])
async def test_a_refinement_ends_with_an_image(
    model: RealModel, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the model writes, the command succeeds, and says what was not judged."""
    options = {**model.options, "preset": preset, "rounds": 2, "llm-concurrency": 1}
    command = ["refine", POCKET, "--seed", "7", "--json", "--out", str(tmp_path)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]

    assert 0 == await asyncio.to_thread(main, command)

    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "ok" == result["status"]
    assert (tmp_path / result["best"]["image"]).is_file()
    for number, each in enumerate(result["rounds"]):
        verdict = each["verdict"]
        if verdict is not None:
            judged = verdict["status"] == "judged"
            assert judged or verdict["reason"], f"round {number} is silent"
