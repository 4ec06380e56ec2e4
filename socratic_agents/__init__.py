"""socratic_agents: refines a text-to-image prompt by looking at what was drawn.

The public names are loaded when they are first used, so that importing the package
costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socratic_agents.agents.search.default import DefaultSearch
    from socratic_agents.config.settings import Settings
    from socratic_agents.config.workers import ProcessWorkers, RayWorkers
    from socratic_agents.core.errors import SocraticError
    from socratic_agents.core.history import (
        Candidate,
        History,
        Round,
        Status,
        StopReason,
        Verdict,
    )
    from socratic_agents.core.loop import (
        Agents,
        Event,
        EventKind,
        Limits,
        refine_prompt,
    )
    from socratic_agents.core.outcome import Failure, Refinement, Usage
    from socratic_agents.runtime.langchain_tools import image_tools
    from socratic_agents.runtime.refine import refine, refine_many, refine_sync
    from socratic_agents.runtime.refiner import Refiner
    from socratic_agents.storage.run_directory import RunDirectory

__all__ = (
    "Agents",
    "Candidate",
    "DefaultSearch",
    "Event",
    "EventKind",
    "Failure",
    "History",
    "Limits",
    "ProcessWorkers",
    "RayWorkers",
    "Refinement",
    "Refiner",
    "Round",
    "RunDirectory",
    "Settings",
    "SocraticError",
    "Status",
    "StopReason",
    "Usage",
    "Verdict",
    "image_tools",
    "refine",
    "refine_many",
    "refine_prompt",
    "refine_sync",
)

_HOMES = {
    "agents.search.default": ("DefaultSearch",),
    "core.errors": ("SocraticError",),
    "core.history": (
        "Candidate",
        "History",
        "Round",
        "Status",
        "StopReason",
        "Verdict",
    ),
    "core.outcome": ("Failure", "Refinement", "Usage"),
    "core.loop": ("Agents", "Event", "EventKind", "Limits", "refine_prompt"),
    "runtime.refine": ("refine", "refine_many", "refine_sync"),
    "runtime.refiner": ("Refiner",),
    "config.settings": ("Settings",),
    "storage.run_directory": ("RunDirectory",),
    "runtime.langchain_tools": ("image_tools",),
    "config.workers": ("ProcessWorkers", "RayWorkers"),
}
"""Module to the public names that it owns."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
