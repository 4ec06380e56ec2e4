"""Where a model runs, in which number format, and with how much memory."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import needs_extra

if TYPE_CHECKING:
    import torch

__all__ = (
    "choose_device",
    "choose_dtype",
    "device_type",
    "empty_caches",
    "free_memory",
)


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device to use: what was asked for, else the best of this machine.

    Args:
        device: A name such as ``"cuda:1"``, ``"mps"`` or ``"cpu"``; ``None`` takes
            the first of cuda, mps and cpu that is there.

    Raises:
        ConfigurationError: If this machine has no such device.
    """
    with needs_extra("to run models on this machine"):
        import torch

    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    if device is None:
        return torch.device(present[0])
    problem = (
        f"expected a device of this machine ({', '.join(present)}), got "
        f"{str(device)!r}; choose one of them, or none to take the first"
    )
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(problem) from error
    cards = torch.cuda.device_count() if chosen.type == "cuda" else 1
    if chosen.type not in present or (chosen.index or 0) >= cards:
        raise ConfigurationError(problem)
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the number format: what was asked for, else what suits the device.

    Graphics cards take bfloat16 where they have it, since its range keeps large
    activations finite where float16 gives black images. A CPU takes float32.

    Args:
        dtype: A floating-point format or its name, such as ``"float16"``.
        device: Where the model will run.

    Raises:
        ConfigurationError: If there is no such floating-point format, or the device
            cannot compute in it.
    """
    import torch

    if dtype is not None:
        chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
            message = (
                "expected a floating-point dtype such as 'float32', 'float16' or "
                f"'bfloat16', got {dtype!r}; choose one of them, or none"
            )
            raise ConfigurationError(message)
        if device.type == "mps" and chosen not in _apple_dtypes():
            message = (
                "expected a dtype that Apple's graphics have here "
                f"({', '.join(map(str, _apple_dtypes()))}), got {chosen}; choose one "
                "of them, or none"
            )
            raise ConfigurationError(message)
        return chosen
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "mps":
        return _apple_dtypes()[-1]
    return torch.float32


def _apple_dtypes() -> list[torch.dtype]:
    """Return the formats of Apple's graphics, the best one for models last."""
    import torch

    native = torch.backends.mps.is_macos_or_newer(14, 0)
    return [torch.float32, torch.float16, *([torch.bfloat16] if native else ())]


def device_type(device: str | None) -> str:
    """Return what kind of device models run on: ``cuda``, ``mps`` or ``cpu``.

    Where torch is not installed it is the CPU: no model of this package runs, and
    what others bring does not say where it does.

    Args:
        device: As for ``choose_device``.

    Raises:
        ConfigurationError: If this machine has no such device.
    """
    try:
        import torch  # noqa: F401 - only whether it is there
    except ImportError:
        return "cpu"
    return choose_device(device).type


def free_memory() -> None:
    """Free what nobody needs any more, and what the allocators only keep."""
    gc.collect()
    empty_caches()


def empty_caches() -> None:
    """Give back what the allocators keep, though nobody uses it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return  # nobody has allocated anything
    for kind in (torch.cuda, torch.mps):
        if kind.is_available():
            kind.empty_cache()
