"""Every role asked once, with any of its templates.

Real models are asked so, and what they wrote is replayed so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from socratic_agents.agents.checklist_answerers import vision_answers
from socratic_agents.agents.checklist_writer import checklist_writer
from socratic_agents.agents.guard import fidelity_guard
from socratic_agents.agents.judges import caption_judge, vision_judge
from socratic_agents.agents.optimizer import optimizer
from socratic_agents.agents.selectors import caption_selector, vision_selector
from socratic_agents.core.checklist import Checklist, Question
from socratic_agents.core.errors import AgentError
from socratic_agents.core.history import Verdict
from socratic_agents.llm.template_files import find_template
from tests.fakes import drawn, history

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from socratic_agents.core.history import History
    from socratic_agents.llm.retry import RetryPolicy

_FOLDER = Path(__file__).parent.parent / "prompts"
SHIPPED = [(file.parent.name, file.stem) for file in sorted(_FOLDER.glob("*/*.yaml"))]
"""Role and name of every template that is shipped."""
LOOKING = [
    (role, name)
    for role, name in SHIPPED
    if {"image", "first"} & set(find_template(role, name).variables)
]
"""Those for models that see."""
PROMPTS, WORDS = 2, 55
"""How many prompts an optimizer shall write, and how long they may be."""
READING = [one for one in SHIPPED if one not in LOOKING]


async def call_role(
    role: str,
    name: str,
    user_prompt: str,
    llm: BaseChatModel,
    *,
    retries: RetryPolicy | None = None,
) -> dict[str, Any]:
    """Ask a role once, and return what it says as JSON; a failure is its kind.

    Args:
        role: Who is asked.
        name: By which template.
        user_prompt: What was asked for; it was drawn twice, with little success.
        llm: Who answers.
        retries: How often a failed request is sent again.
    """
    try:
        return await _said(role, name, user_prompt, llm, retries)
    except AgentError as problem:
        return {"failed": type(problem).__name__, "cause": str(problem)}


def expect_sound(outcome: dict[str, Any], user_prompt: str) -> None:
    """Check that an outcome is one that the loop can use, or an honest failure.

    Args:
        outcome: As ``call_role`` returns it, for a model that can be reached.
        user_prompt: What was asked for.
    """
    if "failed" in outcome:
        assert "AnswerError" == outcome["failed"]
        assert outcome["cause"]
    if "verdict" in outcome:
        verdict = Verdict.from_json(outcome["verdict"])
        assert verdict.judged
        assert not (verdict.satisfied and verdict.missing)
    if "prompts" in outcome:
        prompts = outcome["prompts"]
        assert len(set(prompts)) == len(prompts) <= PROMPTS
        assert all(one.strip() and "\n" not in one for one in prompts)
        assert all(len(one.split()) <= WORDS for one in prompts)
    if "questions" in outcome:
        questions = [Question.from_json(one) for one in outcome["questions"]]
        assert questions
        assert all(one.text.endswith("?") and one.requirement for one in questions)
        parents = [set(one.parents) <= set(range(i)) for i, one in enumerate(questions)]
        assert all(parents)
    if "index" in outcome:
        assert outcome["index"] in {0, 1}


async def _said(
    role: str,
    name: str,
    user_prompt: str,
    llm: BaseChatModel,
    retries: RetryPolicy | None,
) -> dict[str, Any]:
    template, past = find_template(role, name), _history(user_prompt)
    looks, said = (role, name) in LOOKING, dict[str, Any]()
    if role == "optimizer":
        write = optimizer(
            llm, template, prompts=PROMPTS, max_words=WORDS, retries=retries
        )
        said["prompts"] = list(await write(past))
    elif role == "judge":
        make_judge = vision_judge if looks else caption_judge
        verdict = await make_judge(llm, template, retries=retries)(past)
        said["verdict"] = verdict.to_json()
    elif role == "selector":
        make_selector = vision_selector if looks else caption_selector
        said["index"] = await make_selector(llm, template, retries=retries)(past)
    elif role == "checklist":
        written = await checklist_writer(llm, template, retries=retries)(user_prompt)
        said["questions"] = [one.to_json() for one in written.questions]
    elif role == "guard":
        guard = fidelity_guard(llm, template, retries=retries)
        said["prompts"] = list(await guard(past, ("a thing", user_prompt)))
    else:
        answer = vision_answers(llm, template, retries=retries)
        assert past.checklist is not None  # it is made here
        answers = await answer(past.checklist, past.candidates[0])
        said["answers"] = [one.to_json() for one in answers]
    return said


def _history(user_prompt: str) -> History:
    """Return a history of two rounds; half of the words were drawn."""
    words = user_prompt.split()
    half, rest = (" ".join(words[:5]), " ".join(words[5:]))
    image = Image.new("RGB", (8, 8))
    first = drawn(user_prompt, f"a picture of {half}", score=0.5, image=image)
    second = drawn(f"{half}, plainly seen", "a picture", score=0.25, image=image)
    questions = (
        Question(text=f"Is there {half}?", requirement=half),
        Question(text=f"Is there {rest}?", requirement=rest, parents=(0,)),
    )
    past = history(user_prompt, first, second, satisfied=False, missing=(rest,))
    return replace(past, checklist=Checklist(questions=questions))
