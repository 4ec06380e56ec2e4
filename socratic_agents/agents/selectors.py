"""Selectors: which of all candidates is returned?"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.agents.attempts import shorter_offers
from socratic_agents.agents.images import as_png, with_pngs
from socratic_agents.agents.spec import SelectorSpec
from socratic_agents.config.registry import Registry
from socratic_agents.core.concurrency import run_together
from socratic_agents.core.errors import AnswerError, ConfigurationError
from socratic_agents.llm.structured import MOST_REQUESTS, StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.core.history import History
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = (
    "SELECTORS",
    "Choice",
    "Preference",
    "caption_selector",
    "checklist",
    "clip",
    "first",
    "last",
    "vision_selector",
)

FINALISTS = 3
"""How many of the best the selector ``vision`` compares."""


class Choice(BaseModel):
    """The candidate that comes closest to what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {"choice": 2}

    choice: int = Field(description="The number of one candidate.")


class Preference(BaseModel):
    """Which of two images comes closer to what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {"better": "B"}

    better: Literal["A", "B"] = Field(description="The letter of the better image.")


def caption_selector(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[History], Awaitable[int]]:
    """Return the selector that lets a language model choose by the captions.

    Only usable candidates with a caption can be chosen; a single one is chosen
    without a call.

    The template may use these variables: ``user_prompt``; ``candidates``, a list
    with ``number``, counted from 1, ``prompt`` and ``caption``.

    Args:
        llm: Any LangChain chat model.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no selector's template, or one that compares two images.
    """
    template.expect("selector", uses=("candidates",), lacks=("first", "second"))
    ask = StructuredCaller(llm, Choice, retries=retries)

    async def select(history: History) -> int:
        indices = [
            index
            for index, candidate in enumerate(history.candidates)
            if candidate.usable and (candidate.caption or "").strip()
        ]
        if not indices:
            message = "expected a captioned candidate, got none; see the causes"
            raise AnswerError(message)
        if len(indices) == 1:
            return indices[0]
        chosen = [history.candidates[index] for index in indices]
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "candidates": [
                {"number": str(number), "prompt": c.prompt, "caption": c.caption or ""}
                for number, c in enumerate(chosen, start=1)
            ],
        }

        def known(said: Choice) -> None:
            if not 1 <= said.choice <= len(indices):
                message = (
                    f"choice: expected a number from 1 to {len(indices)}, got "
                    f"{said.choice}"
                )
                raise ValueError(message)

        # The best ones last: they stay longest, and two of them always.
        ranked = [i for i in history.ranked()[::-1] if i in indices][:-2]
        told = list(offer["candidates"] or ())
        worst: list[Any] = [told[indices.index(index)] for index in ranked]
        shorter = shorter_offers(offer, {"candidates": worst})
        said = await ask(
            template.filled(offer),
            check=known,
            shorter=map(template.filled, shorter),
        )
        return indices[said.choice - 1]

    return select


def vision_selector(
    llm: BaseChatModel,
    template: Template,
    *,
    retries: RetryPolicy | None = None,
    finalists: int = FINALISTS,
) -> Callable[[History], Awaitable[int]]:
    """Return the selector that lets a language model compare the best images.

    The incumbent is compared with the next best one, and the winner with the one
    after that. Each pair is shown in both orders at the same time, since models
    favour a place, the first one for example: only a challenger that is named in
    both replaces the image that it challenges. A single image is chosen without a
    call. Images that are not in memory are left out.

    The template uses ``first`` and ``second``, the letters of the two images, and
    may use ``user_prompt``.

    Args:
        llm: A LangChain chat model that takes images; see ``accepts_images``.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.
        finalists: How many of the best are compared, at least 1. Each one after the
            first costs two calls.

    Raises:
        ConfigurationError: If there is no finalist.
        TemplateError: If it is no selector's template, or not one of two images.

    Source:
        D. Chen et al., "MLLM-as-a-Judge", ICML 2024, arXiv 2402.04788: models agree
        with people in comparing pairs, far less in giving scores, and favour a
        place.
    """
    if finalists < 1:
        message = f"expected at least 1 finalist, got {finalists}; give 1 or more"
        raise ConfigurationError(message)
    template.expect("selector", uses=("first", "second"), lacks=("candidates",))
    ask = StructuredCaller(llm, Preference, retries=retries)

    async def select(history: History) -> int:
        images = {
            index: image
            for index in history.ranked()
            if (image := history.candidates[index].image) is not None
        }
        if not images:
            message = "expected an image in memory, got none; see the causes"
            raise AnswerError(message)
        holder, *challengers = list(images)[:finalists]
        if not challengers:
            return holder
        # One after the other: an image that is still a file must not be read twice
        # at the same time.
        pictures = {
            index: await asyncio.to_thread(as_png, images[index])
            for index in (holder, *challengers)
        }
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "first": "A",
            "second": "B",
        }
        words = template.filled(offer)

        async def better(first: int, second: int) -> int:
            shown = [("Image A:", pictures[first]), ("Image B:", pictures[second])]
            messages = with_pngs(words, shown)
            said = await ask(messages)
            return first if said.better == "A" else second

        for challenger in challengers:
            orders = [better(holder, challenger), better(challenger, holder)]
            if {challenger} == set(await run_together(orders)):
                holder = challenger
        return holder

    return select


async def clip(history: History) -> int:
    """Select the highest score; the earlier candidate wins a tie.

    Raises:
        AnswerError: If nothing is scored.
    """
    scores = {
        index: candidate.score
        for index, candidate in enumerate(history.candidates)
        if candidate.usable
        and candidate.score is not None
        and math.isfinite(candidate.score)
    }
    if not scores:
        message = "expected a scored candidate, got none; choose a scorer"
        raise AnswerError(message)
    return max(scores, key=scores.__getitem__)


async def checklist(history: History) -> int:
    """Select by the share of questions passed; the further scores break its ties.

    Raises:
        AnswerError: If nothing is scored.
    """
    ranked = history.ranked()
    if not ranked or history.candidates[ranked[0]].score is None:
        message = "expected a scored candidate, got none; see the causes"
        raise AnswerError(message)
    return ranked[0]


async def first(history: History) -> int:
    """Select the first usable candidate: an image of the user prompt itself.

    Raises:
        AnswerError: If no candidate is usable.
    """
    return _usable(history)[0]


async def last(history: History) -> int:
    """Select the last usable candidate, as loops without a memory do.

    Raises:
        AnswerError: If no candidate is usable.
    """
    return _usable(history)[-1]


def _usable(history: History) -> list[int]:
    indices = [i for i, candidate in enumerate(history.candidates) if candidate.usable]
    if not indices:
        message = "expected a usable candidate, got none; see the causes"
        raise AnswerError(message)
    return indices


SELECTORS: Registry[SelectorSpec] = Registry(
    "a selector",
    (
        SelectorSpec(
            name="checklist",
            title="The most questions passed; the scorer breaks ties.",
            build=lambda _: checklist,
            uses_checklist=True,
            ranks=True,
        ),
        SelectorSpec(
            name="caption",
            title="A language model compares the captions.",
            build=lambda context: caption_selector(
                *context.asked(), retries=context.retries
            ),
            requests=MOST_REQUESTS,
            most_compared=1,
            template="default",
        ),
        SelectorSpec(
            name="clip",
            title="The highest score of the scorer.",
            build=lambda _: clip,
            needs_scorer=True,
            ranks=True,
        ),
        SelectorSpec(
            name="vision",
            title="A language model compares the best images in pairs.",
            build=lambda context: vision_selector(
                *context.asked(), retries=context.retries
            ),
            requests=2 * MOST_REQUESTS,
            most_compared=FINALISTS - 1,
            template="vision",
            needs_image=True,
            ranks=True,
        ),
        SelectorSpec(
            name="first", title="The first usable image.", build=lambda _: first
        ),
        SelectorSpec(name="last", title="The last usable image.", build=lambda _: last),
    ),
    spec=SelectorSpec,
    group="socratic_agents.selectors",
)
"""Who says what is returned, by name."""
