"""The language model that the settings name, and its HTTP client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.text import error_line

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from socratic_agents.config.settings import Settings

__all__ = ("open_http_client", "open_language_model")


def open_language_model(settings: Settings, *, client: Any = None) -> BaseChatModel:
    """Return the language model that the settings name.

    Args:
        settings: Name it.
        client: As from ``open_http_client``.

    Raises:
        ConfigurationError: If it is of the wrong type, or cannot be opened.
    """
    from langchain_core.language_models import BaseChatModel

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
        from socratic_agents.pocket import PocketChatModel

        return cast("BaseChatModel", PocketChatModel(seed=settings.seed))
    if ":" not in given:
        # LangChain would guess a provider, and the key would be missed only later.
        message = (
            f"expected llm to be 'pocket' or a 'provider:model' name, got {given!r}; "
            f"write 'openai:{given}', for example"
        )
        raise ConfigurationError(message)
    from langchain.chat_models import init_chat_model

    key: Any = settings.api_key
    if settings.base_url and key is None and not os.environ.get("OPENAI_API_KEY"):
        key = "none"  # a server of one's own asks for none, but the client does
    options: dict[str, Any] = {
        "temperature": settings.temperature,
        "base_url": settings.base_url,
        "api_key": key,
    }
    options = {name: value for name, value in options.items() if value is not None}
    if client is not None:
        options["http_async_client"] = client
    try:
        # Retrying is the matter of ``llm.retry``; two layers would multiply.
        return cast(
            "BaseChatModel",
            init_chat_model(given, max_retries=0, timeout=settings.timeout, **options),
        )
    except Exception as problem:
        message = (
            f"expected a language model such as 'openai:gpt-5-mini', got {given!r}, "
            f"which cannot be opened ({error_line(problem)}); check the name and the key, "
            "and that its integration is installed"
        )
        raise ConfigurationError(message) from problem


def open_http_client(settings: Settings) -> Any:
    """Return the client for the language model, or ``None`` where it has its own.

    LangChain's would be shared by the whole program, and keep connections of event
    loops that have ended.
    """
    named = isinstance(settings.llm, str) and settings.llm.startswith("openai:")
    if not named:
        return None
    from socratic_agents.llm.http_clients import PerLoopClient

    return PerLoopClient(timeout=settings.timeout)
