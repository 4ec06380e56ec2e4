"""Workloads: the models that the bench runs on a device, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.config.fields import FIELDS, defaults_of
from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.bench.device.schedulers import Testbed

__all__ = ("Workload", "find_workload")

PROMPTS = 64
"""User prompts, over and over."""
POCKET: dict[str, Any] = {
    **defaults_of(name for name, field in FIELDS.items() if field.of),
    "profile": "pocket",
    "device": "cpu",
}
"""All that decides what the pocket models cost, whatever the surroundings say."""
KINDS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 4},
    "usual": {"steps": 12},
    "large": {"steps": 8, "width": 96, "height": 96},
}
"""What the mixed workload draws, by the key of its items."""
USERS = ("greedy", "greedy", "greedy", "modest")
"""Whose loops are in flight."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A workload, and how it is measured where nothing else is asked for."""

    open: Callable[[int], Testbed]
    """seed -> the models, opened"""
    loops: tuple[int, ...]
    """Numbers of loops in flight."""
    llm_seconds: float
    """Median of a call of the language model."""
    seconds: float
    """What a trial lasts at least."""


def find_workload(
    workload: str, *, tiny: bool, settings: Mapping[str, Any]
) -> Workload:
    """Return how a workload is opened and measured.

    Args:
        workload: ``pocket``, ``mixed``, ``profile``, or one of random models.
        tiny: Whether the random models are to be small.
        settings: The person's own, by name.

    Raises:
        ConfigurationError: If a setting cannot be used.
    """
    if workload == "pocket":
        return Workload(open=_pocket, loops=(1, 32), llm_seconds=0.1, seconds=5.0)
    if workload == "mixed":
        return Workload(open=_mixed, loops=(16,), llm_seconds=0.1, seconds=3.0)
    if workload == "profile":
        from socratic_agents.config.settings import FEWEST, Settings

        own = Settings(**settings)
        loops = tuple(dict.fromkeys((1, own.in_flight or FEWEST)))
        opened = partial(_profile, own)
        return Workload(open=opened, loops=loops, llm_seconds=1.0, seconds=3.0)
    opened = partial(_random, workload, tiny)
    if tiny:
        return Workload(open=opened, loops=(1, 8), llm_seconds=0.05, seconds=0.5)
    # All loops begin at once; it takes them a while to come apart.
    return Workload(open=opened, loops=(1, 32), llm_seconds=1.0, seconds=30.0)


def _pocket(seed: int) -> Testbed:
    """Open the pocket models, on the CPU."""
    from socratic_agents.lab.bench.device.testbeds import open_testbed

    return open_testbed("pocket", _pocket_settings(), _pocket_prompts(seed))


def _mixed(seed: int) -> Testbed:
    """Open the pocket models for images of several sizes and steps, and two users."""
    settings = _pocket_settings()  # before torch is loaded
    from socratic_agents.lab.bench.device.mixed_workload import open_mixed_testbed

    prompts = _pocket_prompts(seed)
    return open_mixed_testbed("mixed", settings, prompts, kinds=KINDS, users=USERS)


def _profile(settings: Settings, seed: int) -> Testbed:
    """Open what the person's own settings name."""
    if settings.generator == "pocket":
        _one_thread()
    from socratic_agents.lab.bench.device.testbeds import open_profile_testbed

    return open_profile_testbed(settings, _pocket_prompts(seed))


def _random(name: str, tiny: bool, seed: int) -> Testbed:  # noqa: ARG001, FBT001 - as the others
    """Build models of the size of known ones, with random weights."""
    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.bench.device.random_models import build
    from socratic_agents.lab.bench.device.testbeds import open_testbed
    from socratic_agents.models.devices import choose_device, choose_dtype

    device = choose_device()
    if device.type != "cuda" and not tiny:
        message = (
            f"expected a CUDA device for workload {name!r}, whose models take minutes "
            f"an image elsewhere, got {device.type}; add --tiny to try it out with "
            "small ones"
        )
        raise ConfigurationError(message)
    dtype = choose_dtype(None, device)
    generator, captioner, scorer = build(name, device=device, dtype=dtype, tiny=tiny)
    settings = Settings(
        **POCKET
        | {"generator": generator, "captioner": captioner, "scorer": scorer}
        | {"device": str(device), "dtype": str(dtype).removeprefix("torch.")}
        | {"judge": "never", "selector": "clip"}
    )
    prompts = [f"picture {number} of a thing" for number in range(PROMPTS)]
    return open_testbed(name, settings, prompts)


def _pocket_settings() -> Settings:
    from socratic_agents.config.settings import Settings

    _one_thread()
    return Settings(**POCKET)


def _one_thread() -> None:
    """Let models this small compute in one thread."""
    from socratic_agents.pocket.threads import prefer_one_thread

    prefer_one_thread()


def _pocket_prompts(seed: int) -> list[str]:
    from socratic_agents.pocket import sample_prompts

    return list(dict.fromkeys(sample_prompts(PROMPTS, seed)))
