"""Checks of an installation: what it has, and what stands in the way."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata, resources
from typing import TYPE_CHECKING

from socratic_agents.config.messages import TOML, unknown_variables
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ("Finding", "checks")

PACKAGES = (
    "socratic-agents",
    "torch",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "langchain",
    "langchain-openai",
    "pydantic",
    "pillow",
)
KEYS = ("OPENAI_API_KEY", "SOCRATIC_API_KEY", "HF_TOKEN")
YES = frozenset(("1", "on", "true", "yes"))


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: str
    """``ok``, ``warning`` (it works, but you should know) or ``problem``."""
    name: str
    detail: str


def checks(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Check versions, devices, settings, keys and weights, one after the other.

    No value of a key is ever shown, only whether there is one.
    """
    yield Finding("ok", "python", f"{platform.python_version()}, {platform.platform()}")
    for name in PACKAGES:
        yield _version(name)
    yield _checked("torch device", _device)
    yield _checked("settings", _settings)
    for name, text in unknown_variables(environment).items():
        yield Finding("warning", name, text)
    yield _checked("pocket weights", _weights)
    offline = environment.get("HF_HUB_OFFLINE", "").lower() in YES
    state = "offline, only models on this disk" if offline else "online where needed"
    yield Finding("ok", "hugging face hub", state)
    for name in KEYS:
        yield Finding("ok", name, "set" if environment.get(name) else "not set")
    yield _tracing(environment)


def _version(name: str) -> Finding:
    try:
        return Finding("ok", name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding("problem", name, f"not installed; run 'pip install {name}'")


def _checked(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", name, check())
    except (ConfigurationError, ImportError, OSError) as error:
        return Finding("problem", name, str(error))


def _device() -> str:
    from socratic_agents.models.devices import choose_device

    return str(choose_device())


def _settings() -> str:
    from socratic_agents.agents.registry import find_roles

    settings = Settings()
    find_roles(settings)
    where = f", with {TOML}" if os.path.exists(TOML) else ""  # noqa: PTH110 - a name in the working directory
    return f"profile {settings.profile}{where}"


def _weights() -> str:
    root = resources.files("socratic_agents") / "pocket" / "weights"
    with resources.as_file(root) as folder:
        files = sorted(folder.rglob("*.safetensors"))
        size = sum(file.stat().st_size for file in files) / 2**20
    if not files:
        message = "expected the pocket weights in the package, got none; reinstall it"
        raise ConfigurationError(message)
    return f"{len(files)} files, {size:.1f} MiB"


def _tracing(environment: Mapping[str, str]) -> Finding:
    names = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2")
    on = [name for name in names if environment.get(name, "").lower() in YES]
    if on:
        text = f"on ({on[0]}): prompts, captions and answers leave this machine"
        return Finding("warning", "tracing", text)
    return Finding("ok", "tracing", "off")
