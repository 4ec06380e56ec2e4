"""Endings: models of the settings that nobody can use any more, or not for long."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socratic_agents.config.catalog import ENDS
from socratic_agents.runtime.generators import OPENAI, images_server
from socratic_agents.runtime.language_model import language_model_address
from socratic_agents.runtime.readiness.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from socratic_agents.config.settings import Settings

__all__ = ("endings",)


def endings(settings: Settings, today: date) -> Iterator[Finding]:
    """Say which models of the settings end, or have ended.

    Args:
        settings: Name them.
        today: A model has ended from its last day on.
    """
    for part, name in _names(settings):
        end = ENDS.get(name)
        if end is None:
            continue
        over = today >= end.day
        when = f"{'ended' if over else 'ends'} on {end.day}"
        yield Finding(
            "problem" if over else "warning",
            part,
            f"{name} {when}; use another, such as {end.successor}",
        )


def _names(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the names that the settings give to somebody who may not have them.

    Who serves a model of that name at another address decides by himself.
    """
    server = images_server(settings)
    if server is None:
        yield "generator", str(settings.generator)
    elif urlsplit(server[0]).hostname == urlsplit(OPENAI).hostname:
        yield "generator", f"openai:{server[1]}"
    yield "captioner", str(settings.captioner)
    address = urlsplit(language_model_address(settings) or "")
    if address.hostname == urlsplit(OPENAI).hostname:
        yield "llm", str(settings.llm)
