"""The checklist: written once for each user prompt, answered on every image."""

from __future__ import annotations

import graphlib
import re
from typing import TYPE_CHECKING, Any, ClassVar

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

_AROUND = re.compile(
    r"^\s*(?:\d+[.)]|[-*])\s*|\s*[(\[]\s*yes\b[^)\]]*[)\]]\s*$", re.IGNORECASE
)
"""A number before a question, and "(yes or no)" after it."""

VALIDATION_RETRIES = 1
"""How often a wrong list of questions or answers is shown to the model again."""


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    requirement: str = Field(
        description="What is asked for, in the words of the user prompt.",
        json_schema_extra={"maxLength": 120},
    )
    question: str = Field(
        description="In English; yes where the image shows it.",
        json_schema_extra={"maxLength": 160},
    )
    needs: list[int] = Field(
        description=(
            "Numbers, from 1, of questions without whose yes this one makes no sense."
        ),
        json_schema_extra={"maxItems": 4},
    )
    instead: str = Field(
        description="An open question for what is seen instead; may be empty.",
        json_schema_extra={"maxLength": 120},
    )


class Questions(BaseModel):
    """The questions that an image must pass."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "questions": [
            {
                "requirement": "a round table",
                "question": "Is there a table?",
                "needs": [],
                "instead": "",
            },
            {
                "requirement": "a round table",
                "question": "Is the table round?",
                "needs": [1],
                "instead": "What shape is the table?",
            },
        ]
    }

    questions: list[_Item] = Field(
        description="Three to ten, the plainest first.",
        json_schema_extra={"minItems": 1, "maxItems": MOST},
    )


def checklist_writer(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[str], Awaitable[Checklist]]:
    """Return the writer of checklists: user prompt -> the questions about it.

    The template may use one variable: ``user_prompt``. A question that is not to be
    answered by yes or no in English, that has no requirement, or that was asked before,
    is dropped, and so are needs that lead nowhere or in a circle, and questions beyond
    ``MOST``. A list of which nothing is left is shown to the model once.

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
    """Return the usable questions, parents first, or raise what is wrong with all."""
    items: dict[int, _Item] = {}
    faults: list[str] = []
    for number, item in enumerate(said.questions, start=1):
        clean = _cleaned(item)
        fault = _fault(clean, [one.question for one in items.values()])
        if fault:
            faults.append(f"question {number}: {fault}")
        elif len(items) < MOST:
            items[number] = clean
    if not items:
        message = "; ".join(faults[:2]) or f"questions: expected 3 to {MOST}, got none"
        raise ValueError(message)
    graph = {
        number: [need for need in item.needs if need in items and need != number]
        for number, item in items.items()
    }
    order = _parents_first(graph)
    places = {number: place for place, number in enumerate(order)}
    return tuple(
        Question(
            text=items[number].question,
            requirement=items[number].requirement,
            parents=tuple(sorted({places[need] for need in graph[number]})),
            instead=items[number].instead,
        )
        for number in order
    )


def _cleaned(item: _Item) -> _Item:
    """Return a question without what weak models write around it."""
    question = _AROUND.sub("", printable_line(item.question))
    instead = printable_line(item.instead)
    return item.model_copy(
        update={
            "question": question,
            "requirement": printable_line(item.requirement),
            # A parroted instruction is no question.
            "instead": instead if instead.endswith("?") else "",
        }
    )


def _fault(item: _Item, before: list[str]) -> str | None:
    """Return what is wrong with a question, if anything is."""
    if not YES_OR_NO.fullmatch(item.question):
        return (
            "expected an English question that yes or no answers, such as 'Is there a "
            f"cat?', got {item.question!r}"
        )
    if not item.requirement:
        return "expected its requirement, got an empty one"
    if item.question.casefold() in {text.casefold() for text in before}:
        return f"{item.question!r} is asked twice"
    return None


def _parents_first(graph: dict[int, list[int]]) -> list[int]:
    """Return the numbers with children after their parents, else in the model's order.

    Where needs lead in a circle, those of its questions are forgotten, in place.
    """
    while True:
        sorter = graphlib.TopologicalSorter(graph)
        try:
            sorter.prepare()
            break
        except graphlib.CycleError as problem:
            for number in problem.args[1]:
                graph[number] = []
    order: list[int] = []
    free: list[int] = []
    while sorter.is_active():
        free = sorted([*free, *sorter.get_ready()])
        order.append(free.pop(0))
        sorter.done(order[-1])
    return order
