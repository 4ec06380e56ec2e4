"""Answer models: what each role is asked to write, and the example that is shown of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from socratic_agents.agents.checklist_answerers import Answers
from socratic_agents.agents.checklist_writer import Questions, checklist_writer
from socratic_agents.agents.guard import Checks
from socratic_agents.agents.judges import Judgement
from socratic_agents.agents.optimizer import Rewrites
from socratic_agents.agents.selectors import Choice, Preference
from socratic_agents.core.errors import AnswerError
from socratic_agents.llm.answers import read_answer
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.llm.template_files import find_template
from tests.fakes import TextModel

if TYPE_CHECKING:
    from pydantic import BaseModel

MODELS: list[Any] = [
    *(Answers, Checks, Choice, Judgement, Preference, Questions, Rewrites)
]


@pytest.mark.parametrize("model", MODELS)
def test_the_example_is_a_right_answer(model: type[BaseModel]) -> None:
    """It is read as it stands, and fills every field."""
    example = model.EXAMPLE  # type: ignore[attr-defined]
    read = model.model_validate(example)
    assert example == read.model_dump()
    assert set(model.model_fields) == set(example)


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_demanded(model: type[BaseModel]) -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        assert set(part["properties"]) == set(part["required"])
        assert part["additionalProperties"] is False


async def test_the_example_of_a_checklist_is_a_good_one() -> None:
    """What a model may copy the form of asks yes/no questions with needs."""
    llm = TextModel(script=["no", Questions.EXAMPLE])
    with pytest.raises(AnswerError, match="it repeats the example"):
        await checklist_writer(llm, find_template("checklist", "default"))("a table")
    own = json.dumps(Questions.EXAMPLE).replace("round", "square")
    write = checklist_writer(
        TextModel(script=[own]), find_template("checklist", "default")
    )
    checklist = await write("a square table")
    assert (0,) == checklist.questions[1].parents


@pytest.mark.parametrize("model", MODELS)
async def test_an_echo_of_the_example_is_no_answer(model: type[BaseModel]) -> None:
    """Where it holds a phrase; a number or a letter may be meant."""
    text = json.dumps(model.EXAMPLE)  # type: ignore[attr-defined]
    ask = StructuredCaller(TextModel(script=[text]), model, validation_retries=0)
    if model in {Choice, Preference, Answers}:
        assert await ask([HumanMessage("Which?")]) == read_answer(text, model)
    else:
        with pytest.raises(AnswerError, match="it repeats the example"):
            await ask([HumanMessage("Which?")])
