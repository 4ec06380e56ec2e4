"""The pocket world: small embedded models, scenes of shapes, and an exact oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from socratic_agents.pocket.chat_model import PocketChatModel
    from socratic_agents.pocket.oracle import read_scene
    from socratic_agents.pocket.prompt_parser import check
    from socratic_agents.pocket.prompt_writer import sample_prompts
from socratic_agents.pocket.scene import Scene, SceneObject, render, sample_scene

__all__ = (
    "SAMPLING",
    "PocketChatModel",
    "Scene",
    "SceneObject",
    "check",
    "read_scene",
    "render",
    "sample_prompts",
    "sample_scene",
    "weights_folder",
)

SAMPLING: dict[str, Any] = {"steps": 12, "guidance_scale": 3.0}
"""Sampling parameters that the pocket generator was trained for."""

_HOMES = {
    "PocketChatModel": "chat_model",
    "Scene": "scene",
    "SceneObject": "scene",
    "check": "prompt_parser",
    "read_scene": "oracle",
    "render": "scene",
    "sample_prompts": "prompt_writer",
    "sample_scene": "scene",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; scipy and LangChain take a while."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def weights_folder(role: Literal["generator", "captioner", "scorer"]) -> Path:
    """Return the folder of a pocket model's weights."""
    from pathlib import Path

    return Path(__file__).parent / "weights" / role
