"""Roles: who optimizes, judges and selects, as the settings name them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.callables import is_async, one_line
from socratic_agents.chains.judge import caption_judge, never, score_judge
from socratic_agents.chains.optimizer import optimizer
from socratic_agents.chains.selector import caption_selector, clip, first, last
from socratic_agents.chains.templates import find_template
from socratic_agents.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.chains.templates import Template
    from socratic_agents.settings import Settings

__all__ = (
    "find_templates",
    "open_judge",
    "open_language_model",
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
    played = {
        "judge": settings.judge == "caption" and settings.judge_template,
        "optimizer": settings.optimizer == "llm" and settings.optimizer_template,
        "selector": settings.selector == "caption" and settings.selector_template,
    }
    return {role: find_template(role, name) for role, name in played.items() if name}


def open_language_model(settings: Settings) -> BaseChatModel:
    """Return the language model that the settings name.

    Raises:
        ConfigurationError: If it is of the wrong type, or cannot be opened.
    """
    from langchain_core.language_models import BaseChatModel  # noqa: PLC0415 - slow

    given = settings.llm
    if isinstance(given, BaseChatModel):
        return given
    if not isinstance(given, str):
        message = (
            "expected llm to be 'pocket', a 'provider:model' name or a LangChain chat "
            f"model, got {type(given).__name__}"
        )
        raise ConfigurationError(message)
    if given == "pocket":
        from socratic_agents.pocket import PocketChatModel  # noqa: PLC0415 - slow

        return cast("BaseChatModel", PocketChatModel(seed=settings.seed))
    if ":" not in given:
        # LangChain would guess a provider, and the key would be missed only later.
        message = (
            f"expected llm to be 'pocket' or a 'provider:model' name, got {given!r}; "
            f"write 'openai:{given}', for example"
        )
        raise ConfigurationError(message)
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow

    key: Any = settings.api_key
    if settings.base_url and key is None and not os.environ.get("OPENAI_API_KEY"):
        key = "none"  # a server of one's own asks for none, but the client does
    options: dict[str, Any] = {
        "temperature": settings.temperature,
        "base_url": settings.base_url,
        "api_key": key,
    }
    options = {name: value for name, value in options.items() if value is not None}
    if given.startswith("openai:"):
        options["http_async_client"] = _loopless_client(settings.timeout)
    try:
        # Retrying is the chains' own matter; two layers would multiply.
        return cast(
            "BaseChatModel",
            init_chat_model(given, max_retries=0, timeout=settings.timeout, **options),
        )
    except Exception as problem:
        message = (
            f"expected a language model such as 'openai:gpt-5-mini', got {given!r}, "
            f"which cannot be opened ({one_line(problem)}); check the name and the key, "
            "and that its integration is installed"
        )
        raise ConfigurationError(message) from problem


def _loopless_client(timeout: float) -> Any:
    """Return a client that keeps no connection, to be used from any event loop.

    A kept connection belongs to the loop that opened it, and fails or hangs in
    another. LangChain's own client is shared by the whole program, and keeps them.
    """
    import openai  # noqa: PLC0415 - slow

    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_keepalive_connections=0)
    return openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout)


def open_judge(
    settings: Settings, templates: Mapping[str, Template], llm: BaseChatModel | None
) -> Any:
    """Return who judges: a name's judge, or the callable itself.

    Raises:
        ConfigurationError: If a callable cannot be awaited.
    """
    if not isinstance(settings.judge, str):
        return _awaited(settings.judge, "judge")
    if settings.judge == "never":
        return never
    if settings.judge.startswith("score:"):
        return score_judge(float(settings.judge.removeprefix("score:")))
    return caption_judge(cast("BaseChatModel", llm), templates["judge"])


def open_selector(
    settings: Settings, templates: Mapping[str, Template], llm: BaseChatModel | None
) -> Any:
    """Return who selects: a name's selector, or the callable itself.

    Raises:
        ConfigurationError: If a callable cannot be awaited.
    """
    if not isinstance(settings.selector, str):
        return _awaited(settings.selector, "selector")
    ready = {"clip": clip, "first": first, "last": last}
    if settings.selector in ready:
        return ready[settings.selector]
    return caption_selector(cast("BaseChatModel", llm), templates["selector"])


def open_optimizer(
    settings: Settings,
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    max_tokens: int | None,
) -> Any:
    """Return who optimizes: the language model, or the callable itself.

    Raises:
        ConfigurationError: If a callable cannot be awaited.
    """
    if not isinstance(settings.optimizer, str):
        return _awaited(settings.optimizer, "optimizer")
    return optimizer(
        cast("BaseChatModel", llm),
        templates["optimizer"],
        prompts=settings.prompts_per_round,
        # Two of the tokens are the marks of beginning and end.
        max_words=max_tokens and max(1, int((max_tokens - 2) * WORDS_PER_TOKEN)),
    )


def _awaited(given: Any, role: str) -> Any:
    if is_async(given):
        return given
    message = (
        f"expected the {role} to be a name or an async callable of a history, got "
        f"{getattr(given, '__qualname__', type(given).__name__)}; write 'async def'"
    )
    raise ConfigurationError(message)
