"""The checklist: written once for each user prompt, answered on every image."""

from __future__ import annotations

import graphlib
import re
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.core.checklist import Checklist, Question
from socratic_agents.core.text import printable_line
from socratic_agents.llm.structured import StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template

__all__ = ("Questions", "checklist_writer")

MOST = 10
"""Questions about one user prompt at most: more are not better, and each costs."""

YES_OR_NO = re.compile(
    r"(is|are|does|do|did|has|have|had|can|could)\b.*\?", re.IGNORECASE
)
"""An English question that yes or no can answer; the models that look speak English.

Not "was": an image is asked about as it is, and in German that word means "what".
"""

VALIDATION_RETRIES = 1
"""How often a wrong list of questions or answers is shown to the model again."""


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    requirement: str = Field(
        description="The one thing that is asked for, in the words of the user prompt."
    )
    question: str = Field(
        description="A question in English that yes answers where the image shows it."
    )
    needs: list[int] = Field(
        description=(
            "Numbers, from 1, of the questions without whose yes this one makes no "
            "sense; empty if it stands alone."
        )
    )
    instead: str = Field(
        description=(
            "A short open question, asked where this one fails, that tells what is "
            "seen instead; empty if there is none."
        )
    )


class Questions(BaseModel):
    """The questions that an image must pass."""

    model_config = ConfigDict(extra="forbid", strict=True)

    questions: list[_Item] = Field(description="Three to ten, the plainest first.")


def checklist_writer(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[str], Awaitable[Checklist]]:
    """Return the writer of checklists: user prompt -> the questions about it.

    The template may use one variable: ``user_prompt``. A list that is empty, longer
    than ``MOST``, says something twice, has a question that is not to be answered by
    yes or no in English, or has needs that lead nowhere or in a circle, is shown to
    the model once.

    Args:
        llm: Any LangChain chat model.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no checklist's template.

    Source:
        Questions with dependencies: J. Cho et al., Davidsonian Scene Graph (ICLR
        2024), section 3.
    """
    template.expect("checklist")
    ask = StructuredCaller(
        llm, Questions, validation_retries=VALIDATION_RETRIES, retries=retries
    )

    async def write(user_prompt: str) -> Checklist:
        messages = template.filled({"user_prompt": user_prompt})
        said = await ask(messages, check=_ordered)
        return Checklist(questions=_ordered(said))

    return write


def _ordered(said: Questions) -> tuple[Question, ...]:
    """Return the questions, parents first, or raise what is wrong with them."""
    items = said.questions
    if not 1 <= len(items) <= MOST:
        message = f"questions: expected 3 to {MOST} questions, got {len(items)}"
        raise ValueError(message)
    texts = [printable_line(item.question) for item in items]
    for number, (item, text) in enumerate(zip(items, texts, strict=True), start=1):
        if not YES_OR_NO.fullmatch(text):
            message = (
                f"question {number}: expected an English question that yes or no "
                f"answers, such as 'Is there a cat?', got {text!r}"
            )
            raise ValueError(message)
        if not printable_line(item.requirement):
            message = f"question {number}: expected its requirement, got an empty one"
            raise ValueError(message)
        if text.casefold() in {t.casefold() for t in texts[: number - 1]}:
            message = f"question {number}: {text!r} is asked twice"
            raise ValueError(message)
        for need in item.needs:
            if not 1 <= need <= len(items):
                message = (
                    f"question {number}: expected needs from 1 to {len(items)}, got "
                    f"{need}"
                )
                raise ValueError(message)
    graph = {number: item.needs for number, item in enumerate(items, start=1)}
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as problem:
        circle = " needs ".join(map(str, reversed(problem.args[1])))
        message = f"questions: expected needs without a circle, got {circle}"
        raise ValueError(message) from problem
    order: list[int] = []
    free: list[int] = []
    while sorter.is_active():
        # Children after their parents, and otherwise in the model's own order.
        free = sorted([*free, *sorter.get_ready()])
        order.append(free.pop(0))
        sorter.done(order[-1])
    places = {number: place for place, number in enumerate(order)}
    return tuple(
        Question(
            text=texts[number - 1],
            requirement=printable_line(items[number - 1].requirement),
            parents=tuple(sorted({places[need] for need in graph[number]})),
            instead=printable_line(items[number - 1].instead),
        )
        for number in order
    )
