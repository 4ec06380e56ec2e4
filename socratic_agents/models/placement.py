"""Placement: the weights of a model that is open, and how they leave and come back."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.models.devices import empty_caches
from socratic_agents.scheduler.residency import Resident

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import torch

__all__ = ("free_bytes", "resident_of")

DEPTH = 2
"""So deep a model's own attributes are looked through for its networks."""
FIXED = ("_hf_hook", "hf_device_map", "is_loaded_in_8bit")
"""Attributes of networks whose library moves them by itself, or cannot move them."""


def resident_of(name: str, model: object, *, on_cpu: bool = False) -> Resident | None:
    """Return a model's weights as what can leave its device, and come back there.

    Args:
        name: What the stages that run it hold.
        model: A pipeline, a captioner, a scorer, or whatever holds networks.
        on_cpu: Count models on the CPU, too, where moving changes nothing.

    Returns:
        ``None`` where it has no networks, or they lie where there is nothing to save.
    """
    networks = list({id(one): one for one in _networks(model, DEPTH)}.values())
    tensors = {id(one): one for part in networks for one in _tensors(part)}.values()
    device = _device(networks)
    if device is None or (device.type in {"cpu", "meta"} and not on_cpu):
        return None
    size = sum(one.numel() * one.element_size() for one in tensors)
    fixed = any(getattr(one, mark, None) for one in networks for mark in FIXED)
    return Resident(
        name=name,
        size=size,
        load=partial(_move, networks, device),
        unload=None if fixed else partial(_leave, networks, device),
    )


def free_bytes(model: object) -> int | None:
    """Return how much memory is left where a model lies; ``None``: on no NVIDIA card.

    Args:
        model: As for ``resident_of``.
    """
    device = _device(_networks(model, DEPTH))
    if device is None or device.type != "cuda":
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free


def _device(networks: Iterable[torch.nn.Module]) -> torch.device | None:
    """Return where the first tensor lies; ``None``: there is none."""
    tensors = (tensor for network in networks for tensor in _tensors(network))
    return next((tensor.device for tensor in tensors), None)


def _networks(model: Any, depth: int) -> Iterator[torch.nn.Module]:
    """Yield the networks that a model holds."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if isinstance(model, torch.nn.Module):
        yield model
        return
    pipeline = getattr(model, "pipeline", model)
    parts = getattr(pipeline, "components", None)
    if not isinstance(parts, dict):
        parts = getattr(model, "__dict__", {}) if depth else {}
    for part in parts.values():
        yield from _networks(part, depth - 1)


def _tensors(network: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def _move(networks: Sequence[torch.nn.Module], device: torch.device | str) -> None:
    for network in networks:
        network.to(device)


def _leave(networks: Sequence[torch.nn.Module], device: torch.device) -> None:
    """Go to the main memory, and give back what the device's allocator would keep."""
    _move(networks, "cpu")
    if device.type in {"cuda", "mps"}:
        empty_caches()
