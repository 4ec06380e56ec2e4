"""Roles: who optimizes, judges and selects, as the settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from socratic_agents.agents.checklist_answerers import vision_answers
from socratic_agents.agents.checklist_writer import checklist_judge, checklist_writer
from socratic_agents.agents.guard import fidelity_guard
from socratic_agents.agents.images import accepts_images, vision_judge, vision_selector
from socratic_agents.agents.judges import caption_judge, never, score_judge
from socratic_agents.agents.optimizer import optimizer
from socratic_agents.agents.selectors import (
    caption_selector,
    checklist,
    clip,
    first,
    last,
)
from socratic_agents.core.concurrency import is_async
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.llm.template_files import find_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.config.settings import Settings
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template

__all__ = (
    "check_eyes",
    "find_templates",
    "guards",
    "inquires",
    "open_answerer",
    "open_inquirer",
    "open_judge",
    "open_optimizer",
    "open_selector",
)

WORDS_PER_TOKEN = 0.75
"""Of English prose, roughly; the generator's text encoder counts tokens."""


def find_templates(settings: Settings) -> dict[str, Template]:
    """Return the templates of the roles that a language model plays, by role.

    Raises:
        TemplateError: If a template cannot be found or read.
    """
    own = {"caption": "default", "vision": "vision"}
    # Lists, since a callable of one's own may have no hash.
    asks, picks = settings.judge in [*own], settings.selector in [*own]
    played = {
        "judge": asks and (settings.judge_template or own[settings.judge]),
        "optimizer": settings.optimizer == "llm" and settings.optimizer_template,
        "selector": picks and (settings.selector_template or own[settings.selector]),
        "checklist": inquires(settings) and settings.checklist_template,
        "answerer": settings.checks
        and settings.answerer == "llm"
        and settings.answerer_template,
        "guard": guards(settings) and settings.guard_template,
    }
    return {role: find_template(role, name) for role, name in played.items() if name}


def guards(settings: Settings) -> bool:
    """Return whether a language model checks the rewrites of another."""
    return (settings.guard, settings.optimizer) == ("llm", "llm")


def inquires(settings: Settings) -> bool:
    """Return whether a checklist is written: somebody holds something against it."""
    guarded = settings.guard is not None and settings.optimizer == "llm"
    return bool(settings.checks or guarded)


def check_eyes(
    settings: Settings, templates: Mapping[str, Template], llm: BaseChatModel | None
) -> None:
    """Check that a language model that shall see says nothing to the contrary.

    Raises:
        ConfigurationError: If it takes no images.
    """
    looking = [role for role, one in templates.items() if "image" in one.variables]
    looking += ["selector"] if settings.selector == "vision" else []
    if looking and llm is not None and accepts_images(llm) is False:
        message = (
            f"expected an llm that sees images for the {looking[0]}, got "
            f"{_shown(settings.llm)}, which takes none; choose another llm, or one that "
            "needs no eyes, such as judge 'checklist'"
        )
        raise ConfigurationError(message)


def _shown(llm: Any) -> str:
    return repr(llm) if isinstance(llm, str) else type(llm).__name__


def open_judge(
    settings: Settings,
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    look: Any = None,
    *,
    retries: RetryPolicy | None = None,
) -> Any:
    """Return who judges: a name's judge, or the callable itself.

    Args:
        settings: Names the judge.
        templates: As from ``find_templates``.
        llm: The language model, if there is one.
        look: Image, open question -> answer, for the checklist's judge.
        retries: How often a failed request is sent again, and at what rate.

    Raises:
        ConfigurationError: If a callable cannot be awaited.
    """
    if not isinstance(settings.judge, str):
        return _awaited(settings.judge, "judge")
    if settings.judge == "never":
        return never
    if settings.judge == "checklist":
        return checklist_judge(look)
    if settings.judge.startswith("score:"):
        return score_judge(float(settings.judge.removeprefix("score:")))
    ask = vision_judge if settings.judge == "vision" else caption_judge
    return ask(cast("BaseChatModel", llm), templates["judge"], retries=retries)


def open_selector(
    settings: Settings,
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    *,
    retries: RetryPolicy | None = None,
) -> Any:
    """Return who selects: a name's selector, or the callable itself.

    Raises:
        ConfigurationError: If a callable cannot be awaited.
    """
    if not isinstance(settings.selector, str):
        return _awaited(settings.selector, "selector")
    ready = {"checklist": checklist, "clip": clip, "first": first, "last": last}
    if settings.selector in ready:
        return ready[settings.selector]
    ask = vision_selector if settings.selector == "vision" else caption_selector
    return ask(cast("BaseChatModel", llm), templates["selector"], retries=retries)


def open_optimizer(
    settings: Settings,
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    max_tokens: int | None,
    *,
    retries: RetryPolicy | None = None,
) -> Any:
    """Return who optimizes: the language model, or the callable itself.

    Raises:
        ConfigurationError: If a callable cannot be awaited.
    """
    if not isinstance(settings.optimizer, str):
        return _awaited(settings.optimizer, "optimizer")
    guard = settings.guard
    if guards(settings):
        model = cast("BaseChatModel", llm)
        guard = fidelity_guard(model, templates["guard"], retries=retries)
    elif guard is not None:
        guard = _awaited(guard, "guard")
    return optimizer(
        cast("BaseChatModel", llm),
        templates["optimizer"],
        prompts=settings.prompts_per_round,
        # Two of the tokens are the marks of beginning and end.
        max_words=max_tokens and max(1, int((max_tokens - 2) * WORDS_PER_TOKEN)),
        guard=guard,
        retries=retries,
    )


def open_inquirer(
    settings: Settings,
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    *,
    retries: RetryPolicy | None = None,
) -> Any:
    """Return who writes the checklists, or ``None`` where there are none."""
    if not inquires(settings):
        return None
    model = cast("BaseChatModel", llm)
    return checklist_writer(model, templates["checklist"], retries=retries)


def open_answerer(
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    *,
    retries: RetryPolicy | None = None,
) -> Any:
    """Return the language model that answers checklists, or ``None`` if none does."""
    if "answerer" not in templates:
        return None
    model = cast("BaseChatModel", llm)
    return vision_answers(model, templates["answerer"], retries=retries)


def _awaited(given: Any, role: str) -> Any:
    if is_async(given):
        return given
    message = (
        f"expected the {role} to be a name or an async callable of a history, got "
        f"{getattr(given, '__qualname__', type(given).__name__)}; write 'async def'"
    )
    raise ConfigurationError(message)
