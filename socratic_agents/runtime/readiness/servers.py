"""Servers: at which addresses a choice asks, and whether there is a key for each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socratic_agents.config.final import final_settings
from socratic_agents.config.messages import public_value
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.build import check_keys
from socratic_agents.runtime.generators import OPENAI, images_key, images_server
from socratic_agents.runtime.language_model import (
    language_model_address,
    open_language_model,
)
from socratic_agents.runtime.readiness.finding import Finding
from socratic_agents.runtime.readiness.licences import licence_finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.config.settings import Settings

__all__ = ("server_findings",)


def server_findings(settings: Settings, *, speaks: bool) -> Iterator[Finding]:
    """Say who is asked over the network, and with which key; nothing is sent.

    Args:
        settings: Name the language model, and perhaps an images server.
        speaks: Whether a language model will be asked anything.
    """
    yield _language_model(settings, speaks=speaks)
    if language_model_address(settings) is not None:
        yield from licence_finding("llm", str(settings.llm), None)
    for name, one in (
        ("images server", settings),
        ("final images server", final_settings(settings)),
    ):
        server = None if one is None else images_server(one)
        if one is not None and server is not None:
            key = "image_api_key" if one.image_api_key else "api_key"
            said = f"the setting {key}" if images_key(one) else ""
            yield _asked(name, one, server[0], said, speaks=False)


def _language_model(settings: Settings, *, speaks: bool) -> Finding:
    shown = str(settings.public()["llm"])
    if not speaks:
        return Finding("ok", "llm", f"{shown}: no role asks it")
    address = language_model_address(settings)
    if address is None:
        what = "embedded" if settings.llm == "pocket" else "an object of a program"
        what = "of this machine" if settings.llm == "captioner" else what
        return Finding("ok", "llm", f"{shown}: {what}, no key is needed")
    said = "the setting api_key" if settings.api_key else ""
    found = _asked("llm", settings, address, said, speaks=True)
    if found.state == "problem":
        return found
    try:
        open_language_model(settings)
    except ConfigurationError as error:
        return Finding("problem", "llm", str(error))
    return found


def _asked(
    name: str, settings: Settings, address: str, said: str, *, speaks: bool
) -> Finding:
    """Say where a server is asked, and whether the key that it wants is there."""
    shown = settings.public()["llm" if speaks else "generator"]
    where = f"{shown} at {public_value(address)}"
    at_openai = urlsplit(address).hostname == urlsplit(OPENAI).hostname
    if at_openai and not said and os.environ.get("OPENAI_API_KEY"):
        said = "OPENAI_API_KEY"
    try:
        check_keys(settings, speaks=speaks)
    except ConfigurationError as error:
        if not said:
            return Finding("problem", name, str(error))
    key = f"with the key of {said}" if said else "with no key of ours"
    return Finding("ok", name, f"{where}, {key}; not asked now")
