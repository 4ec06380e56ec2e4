"""The language model that the settings name, its HTTP client and its rate limiter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from socratic_agents.config.catalog import LANGUAGE_MODEL
from socratic_agents.config.messages import public_value
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.text import error_line
from socratic_agents.network.rate_limit import RateLimiter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from socratic_agents.config.settings import Settings

__all__ = (
    "is_own_server",
    "language_model_address",
    "open_http_client",
    "open_language_model",
    "open_rate_limiter",
)

MANY = 64
"""Concurrent requests to a provider."""
FEW = 4
"""To a server of one's own, which has a few slots and makes the others wait."""
PROVIDERS = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "deepseek": "api.deepseek.com",
    "google_genai": "generativelanguage.googleapis.com",
    "groq": "api.groq.com",
    "mistralai": "api.mistral.ai",
    "openrouter": "openrouter.ai",
    "xai": "api.x.ai",
}
"""Where providers answer themselves; the keys from their own variables go there alone."""

_OPENAI_ADDRESSES = ("OPENAI_API_BASE", "OPENAI_BASE_URL")
"""Where its clients look for an address that nobody gave them."""

_one_at_a_time = WeakValueDictionary[tuple[int, float | None], RateLimiter]()
"""By the id of a chat model object, which lives as long as those who ask it, and rate."""


def open_language_model(settings: Settings, *, client: Any = None) -> BaseChatModel:
    """Return the language model that the settings name.

    Args:
        settings: Name it.
        client: As from ``open_http_client``.

    Raises:
        ConfigurationError: If it is of the wrong type, or cannot be opened.
    """
    from langchain_core.language_models import BaseChatModel, BaseLLM

    given = settings.llm
    if isinstance(given, BaseChatModel):
        return given
    if isinstance(given, BaseLLM):
        from socratic_agents.llm.completion import CompletionModel

        return CompletionModel(llm=given)
    if not isinstance(given, str):
        message = (
            "expected llm to be 'pocket', 'captioner', a 'provider:model' name or a "
            f"LangChain chat model or base model, got {type(given).__name__}"
        )
        raise ConfigurationError(message)
    if given == "pocket":
        from socratic_agents.pocket import PocketChatModel

        return cast("BaseChatModel", PocketChatModel(seed=settings.seed))
    if given == "captioner":
        from socratic_agents.runtime.captioner_llm.chat_model import CaptionerChatModel

        return CaptionerChatModel(
            model=str(public_value(settings.captioner)),
            temperature=settings.temperature,
            seed=settings.seed,
        )
    if ":" not in given:
        # LangChain would guess a provider, and the key would be missed only later.
        message = (
            "expected llm to be 'pocket', 'captioner' or a 'provider:model' name, got "
            f"{given!r}; "
            f"write 'openai:{given}', for example"
        )
        raise ConfigurationError(message)
    from langchain.chat_models import init_chat_model

    key: Any = settings.api_key
    if key is None and settings.base_url and not _at_home(given, settings.base_url):
        # The client would send the key from its own variable, and the address may
        # come from a file in a folder of somebody else's.
        key = "none"
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
            f"expected a language model such as {LANGUAGE_MODEL!r}, got {given!r}, "
            f"which cannot be opened ({error_line(problem)}); check the name and the key, "
            "and that its integration is installed"
        )
        raise ConfigurationError(message) from problem


def _at_home(model: str, base_url: str) -> bool:
    """Return whether an address is the provider's own, where its key belongs."""
    address, provider = urlsplit(base_url), model.partition(":")[0]
    return address.scheme == "https" and address.hostname == PROVIDERS.get(provider)


def language_model_address(settings: Settings) -> str | None:
    """Return where the language model answers that ``api_key`` is sent to.

    ``None``: it is embedded, or an object, which has a key of its own. An address that
    nobody knows is an empty one's, ``"https:"``.
    """
    if not isinstance(settings.llm, str) or ":" not in settings.llm:
        return None
    provider = settings.llm.partition(":")[0]
    own = {"openai": _OPENAI_ADDRESSES}.get(provider, ())
    said = (os.environ.get(name) for name in own)
    known = f"https://{PROVIDERS.get(provider, '')}"
    return settings.base_url or next(filter(None, said), known)


def open_http_client(settings: Settings) -> Any:
    """Return the client for the language model, or ``None`` where it has its own.

    LangChain's would be shared by the whole program, and keep connections of event
    loops that have ended.
    """
    named = isinstance(settings.llm, str) and settings.llm.startswith("openai:")
    if not named:
        return None
    from socratic_agents.network.openai_client import PerLoopClient

    return PerLoopClient(timeout=settings.timeout)


def open_rate_limiter(settings: Settings, llm: BaseChatModel | None) -> RateLimiter:
    """Return what limits the requests to the language model.

    Where the settings do not say how many may be sent at the same time, a chat model
    object that has no async call of its own is asked one at a time by all refiners
    together: most of those compute here, and not all can be called from two threads.

    Args:
        settings: They may say how many, and at what rate.
        llm: As from ``open_language_model``, if any is asked.
    """
    concurrency, rate = settings.llm_concurrency, settings.llm_rate
    if concurrency is None and _is_blocking(settings.llm):
        fresh = RateLimiter(concurrency=1, rate=rate)
        return _one_at_a_time.setdefault((id(settings.llm), rate), fresh)
    if concurrency is None:
        concurrency = FEW if is_own_server(settings, llm) else MANY
    return RateLimiter(concurrency=concurrency, rate=rate)


def _is_blocking(llm: object) -> bool:
    """Return whether this is a chat model that LangChain would call in a thread."""
    call = getattr(type(llm), "_agenerate", None)
    return getattr(call, "__module__", "").startswith("langchain_core.")


def is_own_server(settings: Settings, llm: BaseChatModel | None) -> bool:
    """Return whether somebody else than its provider serves the language model."""
    name = settings.llm if isinstance(settings.llm, str) else ""
    provider, address = name.partition(":")[0], settings.base_url
    if type(llm).__name__ == "ChatOpenAI":
        # Its client knows the address of an object or of the environment, too.
        provider, address = "openai", str(llm.root_async_client.base_url)  # type: ignore[union-attr]
    if not address:
        return provider == "ollama"
    host, own = urlsplit(address).hostname or "", PROVIDERS.get(provider)
    return own is None or not f".{host}".endswith(f".{own}")
