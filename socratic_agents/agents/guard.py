"""The guard: no rewrite is drawn that gives up something that was asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.agents.spec import GuardSpec
from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import AnswerError
from socratic_agents.core.search import Proposal
from socratic_agents.core.text import printable_line
from socratic_agents.llm.structured import MOST_REQUESTS, StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.core.history import History
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = ("GUARDS", "Checks", "fidelity_guard")


class _Check(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    number: int = Field(description="Of the prompt.")
    lost: list[Annotated[str, Field(json_schema_extra={"maxLength": 120})]] = Field(
        description="Requirements that the prompt gives up; empty if none.",
        json_schema_extra={"maxItems": 10},
    )
    mended: str = Field(
        description="The prompt with them put back; empty if none is lost.",
        json_schema_extra={"maxLength": 2000},
    )


class Checks(BaseModel):
    """What each new prompt lost of what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "checks": [
            {"number": 1, "lost": [], "mended": ""},
            {
                "number": 2,
                "lost": ["a round table"],
                "mended": "a wooden chair beside a round table",
            },
        ]
    }

    checks: list[_Check] = Field(description="One for each prompt.")


def fidelity_guard(
    llm: BaseChatModel,
    template: Template,
    *,
    prompts: int = 64,
    retries: RetryPolicy | None = None,
) -> Callable[[History, tuple[str, ...]], Awaitable[tuple[str, ...]]]:
    """Return the guard: history, new prompts -> those that are faithful.

    A prompt that lost something is repaired once and checked again; what is still
    lost then, or cannot be checked, is dropped. Without a checklist there is nothing to hold a prompt to, and
    all pass.

    The template may use these variables: ``user_prompt``; ``requirements``, a list of
    texts; ``prompts``, a list with ``number``, counted from 1, and ``prompt``.

    Args:
        llm: Any LangChain chat model.
        template: Its words; see ``find_template``.
        prompts: How many new prompts there are at most.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no guard's template.
    """
    template.expect("guard")
    ask = StructuredCaller(llm, Checks, retries=retries, most={"checks": prompts})

    async def check(history: History, prompts: Sequence[str]) -> dict[int, _Check]:
        questions = history.checklist.questions if history.checklist else ()
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "requirements": [question.requirement for question in questions],
            "prompts": [
                {"number": str(number), "prompt": prompt}
                for number, prompt in enumerate(prompts, start=1)
            ],
        }

        def complete(said: Checks) -> None:
            numbers = sorted(one.number for one in said.checks)
            if numbers != list(range(1, len(prompts) + 1)):
                message = (
                    f"checks: expected one for each prompt from 1 to {len(prompts)}, "
                    f"got numbers {numbers}"
                )
                raise ValueError(message)

        said = await ask(template.filled(offer), check=complete)
        asked = [question.requirement for question in questions]
        return {
            one.number: _plausible(one, prompts[one.number - 1], asked)
            for one in said.checks
        }

    async def guard(history: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if history.checklist is None or not history.checklist.questions:
            return prompts
        first = await check(history, prompts)
        repaired = {
            number: Proposal.like(printable_line(one.mended), prompts[number - 1])
            for number, one in first.items()
            if one.lost and printable_line(one.mended)
        }
        again: dict[int, _Check] = {}
        if repaired:
            try:
                again = await check(history, tuple(repaired.values()))
            except AnswerError:
                if all(one.lost for one in first.values()):
                    raise
                # Of the repaired ones nobody knows; the others were found faithful.
        sound = {
            number: prompt
            for place, (number, prompt) in enumerate(repaired.items(), start=1)
            if place in again and not again[place].lost
        }
        kept = {
            number: sound.get(number, "") if first[number].lost else prompt
            for number, prompt in enumerate(prompts, start=1)
        }
        return tuple(dict.fromkeys(filter(None, kept.values())))

    return guard


def _plausible(check: _Check, prompt: str, requirements: Sequence[str]) -> _Check:
    """Return a check with the losses that there can be.

    Weak models call lost what stands in the prompt word for word, or what nobody asked
    for; and a prompt that is its own repair has lost nothing.
    """
    words, asked = _folded(prompt), [_folded(one) for one in requirements]
    lost = [
        one
        for one in check.lost
        if (said := _folded(one))
        and f" {said} " not in f" {words} "
        and any(said in one or one in said for one in asked)
    ]
    if _folded(check.mended) == words:
        lost = []
    return check.model_copy(update={"lost": lost})


def _folded(text: str) -> str:
    """Return the words of a text, for comparison."""
    return " ".join(re.findall(r"\w+", text.casefold()))


GUARDS: Registry[GuardSpec] = Registry(
    "a guard",
    (
        GuardSpec(
            name="llm",
            title="A language model repairs or drops prompts that give something up.",
            build=lambda context: fidelity_guard(
                *context.asked(),
                prompts=context.settings.prompts_per_round,
                retries=context.retries,
            ),
            requests=2 * MOST_REQUESTS,  # repaired prompts are checked again
            template="default",
        ),
    ),
    spec=GuardSpec,
    group="socratic_agents.guards",
)
"""Who holds new prompts against the checklist, by name."""
