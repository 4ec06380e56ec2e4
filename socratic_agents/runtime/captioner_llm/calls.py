"""One model at both ends: a captioner that writes, and a language model that captions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socratic_agents.config.messages import public_value
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.batching import batched_call
from socratic_agents.runtime.image_models import (
    ANSWER_COUNT,
    ANSWER_OPEN,
    ANSWER_YES_NO,
    CAPTION,
    READ_TEXT,
    WRITE,
    as_candidate_errors,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.runtime.image_models import ImageModels
    from socratic_agents.scheduler.worker import Worker

__all__ = (
    "LANGUAGE_MODEL",
    "by_language_model",
    "look_later",
    "looks_itself",
    "writes_too",
    "writing",
)

LANGUAGE_MODEL = "llm"
"""The captioner that is the language model, opened elsewhere, without a worker."""


def writes_too(settings: Settings) -> bool:
    """Return whether the captioner is the language model as well."""
    return isinstance(settings.llm, str) and settings.llm == "captioner"


def looks_itself(settings: Settings) -> bool:
    """Return whether the language model is the captioner as well."""
    return isinstance(settings.captioner, str) and settings.captioner == LANGUAGE_MODEL


def writing(captioner: Any, settings: Settings, worker: Worker) -> dict[str, Any]:
    """Return how a captioner writes, by the fields of ``ImageModels``.

    Args:
        captioner: The captioner itself.
        settings: Say where it runs and how.
        worker: Runs it.

    Raises:
        ConfigurationError: If it does not write.
    """
    writer = getattr(captioner, "writer", None)
    if writer is None:
        message = (
            "expected a captioner that can write for llm 'captioner', got "
            f"{public_value(settings.captioner)!r}; give one with a 'writer', or choose "
            "another llm"
        )
        raise ConfigurationError(message)
    # One call shows as many images to each: none, one, or the two that are compared.
    write = batched_call(
        WRITE, writer.write, settings, worker, group=lambda request: request.images
    )
    return {"write": write, "context": getattr(writer, "context", None)}


async def look_later(_: Image.Image) -> str:
    """Stand where ``by_language_model`` puts a language model."""
    message = "expected a language model that looks at images, got none; open one"
    raise ConfigurationError(message)


def by_language_model(
    models: ImageModels, llm: BaseChatModel, retries: RetryPolicy
) -> ImageModels:
    """Return models whose captioner is a language model.

    Args:
        models: Were opened without one.
        llm: Takes images.
        retries: How often a failed request is sent again, and at what rate.
    """
    from socratic_agents.agents.llm_captioner import LLMCaptioner

    eyes = LLMCaptioner(llm, retries=retries)
    return replace(
        models,
        caption=as_candidate_errors(CAPTION, eyes.caption),
        answer_yes_no=as_candidate_errors(ANSWER_YES_NO, eyes.answer_yes_no),
        answer_open=as_candidate_errors(ANSWER_OPEN, eyes.answer_open),
        answer_count=as_candidate_errors(ANSWER_COUNT, eyes.answer_count),
        # A reader that is named was opened with the other models.
        read_text=models.read_text or as_candidate_errors(READ_TEXT, eyes.read_text),
    )
