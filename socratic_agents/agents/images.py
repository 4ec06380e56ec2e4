"""Language models that see: pictures in messages, a judge and a selector."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.agents.attempts import attempt, attempts
from socratic_agents.agents.judges import Judgement, ask_verdict, earlier_verdict
from socratic_agents.core.concurrency import run_together
from socratic_agents.core.errors import AnswerError, ConfigurationError
from socratic_agents.core.history import Verdict
from socratic_agents.llm.structured import StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from PIL.Image import Image

    from socratic_agents.core.history import History
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template, Value

__all__ = (
    "BELOW",
    "LARGEST",
    "Preference",
    "accepts_images",
    "vision_judge",
    "vision_selector",
    "with_images",
)

BELOW = "the image below"
"""What a template's variable ``image`` says: the image itself follows the text."""
LARGEST = 768
"""Longer side of an image that is sent, in pixels; a larger one is scaled down."""


class Preference(BaseModel):
    """Which of two images comes closer to what was asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # The reason comes first: who explains before answering answers better.
    reason: str = Field(description="One sentence: what decided it.")
    better: Literal["A", "B"] = Field(description="The letter of the better image.")


def accepts_images(llm: BaseChatModel) -> bool | None:
    """Return whether a language model takes images; ``None`` if it does not say."""
    return (llm.profile or {}).get("image_inputs")


def with_images(
    messages: Sequence[BaseMessage], images: Sequence[tuple[str, Image]]
) -> list[BaseMessage]:
    """Return the messages with images after the text of the last human one.

    The given messages stay as they are. If none is human, one is added.

    Args:
        messages: What a language model is asked.
        images: Each with its label, the text that goes before it. Any mode and size;
            sent as PNG in RGB with at most ``LARGEST`` pixels on the longer side.
    """
    return _with_pictures(messages, [(label, _png(image)) for label, image in images])


def vision_judge(
    llm: BaseChatModel, template: Template, *, retries: RetryPolicy | None = None
) -> Callable[[History], Awaitable[Verdict]]:
    """Return the judge that lets a language model look at the image.

    An incumbent that was judged in an earlier round keeps its verdict, without a
    call; one whose image is not in memory stays unjudged.

    The template uses ``image``, which says where the image is, and may use the
    variables of ``caption_judge``.

    Args:
        llm: A LangChain chat model that takes images; see ``accepts_images``.
        template: Its words; see ``find_template``.
        retries: How often a failed request is sent again.

    Raises:
        TemplateError: If it is no judge's template, or one that shows no image.
    """
    template.expect("judge", uses=("image",))
    ask = StructuredCaller(llm, Judgement, retries=retries)

    async def judge(history: History) -> Verdict:
        incumbent = history.incumbent
        if incumbent is None or incumbent.image is None:
            return Verdict.unjudged("the incumbent has no image in memory to judge by")
        earlier = earlier_verdict(history)
        if earlier is not None:
            return earlier
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "incumbent": attempt(incumbent),
            "image": BELOW,
            "history": attempts(history),
        }
        # In a thread: encoding takes long enough to hold up the other loops.
        messages = await asyncio.to_thread(
            with_images, template.filled(offer), [("The image:", incumbent.image)]
        )
        return await ask_verdict(ask, messages)

    return judge


def vision_selector(
    llm: BaseChatModel,
    template: Template,
    *,
    retries: RetryPolicy | None = None,
    finalists: int = 3,
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
            index: await asyncio.to_thread(_png, images[index])
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
            messages = _with_pictures(words, shown)
            said = await ask(messages)
            return first if said.better == "A" else second

        for challenger in challengers:
            orders = [better(holder, challenger), better(challenger, holder)]
            if {challenger} == set(await run_together(orders)):
                holder = challenger
        return holder

    return select


def _png(image: Image) -> str:
    """Return an image as PNG in base64, scaled down if it is large."""
    from PIL.Image import Resampling

    copy = image.convert("RGB")
    copy.thumbnail((LARGEST, LARGEST), Resampling.LANCZOS)
    file = BytesIO()
    copy.save(file, "PNG")
    return b64encode(file.getvalue()).decode()


def _with_pictures(
    messages: Sequence[BaseMessage], pictures: Sequence[tuple[str, str]]
) -> list[BaseMessage]:
    """Do what ``with_images`` does, with images that are already PNG in base64."""
    from langchain_core.messages import HumanMessage
    from langchain_core.messages.content import (
        ContentBlock,
        ImageContentBlock,
        TextContentBlock,
    )

    # The types and not LangChain's functions: these would give each block a random
    # id, which goes over the wire, and the same question would never be the same.
    blocks: list[ContentBlock] = []
    for label, data in pictures:
        blocks += [
            TextContentBlock(type="text", text=label),
            ImageContentBlock(type="image", base64=data, mime_type="image/png"),
        ]
    human = [n for n, message in enumerate(messages) if message.type == "human"]
    if not human:
        return [*messages, HumanMessage(content_blocks=blocks)]
    last = human[-1]
    before = messages[last].content_blocks
    seen = messages[last].model_copy(update={"content": [*before, *blocks]})
    return [*messages[:last], seen, *messages[last + 1 :]]
