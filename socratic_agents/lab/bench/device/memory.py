"""Memory: how much of it models and images take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ("Memory",)


class Memory:
    """The memory in use: the graphics card's, or the process's on a CPU.

    Args:
        device: Where the models are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """Forget how much it was."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        """Return the bytes in use: on a graphics card, the most since the reset."""
        if self._device.type == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated(self._device))
        import psutil

        return int(psutil.Process().memory_info().rss)
