"""Memory: how much of it models and images take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ("Memory",)

STATM = Path("/proc/self/statm")


class Memory:
    """The memory in use: the graphics card's, or the process's on a CPU.

    Args:
        device: Where the models are.
        statm: Where Linux tells a process's size, in pages.
    """

    def __init__(self, device: torch.device, *, statm: Path = STATM) -> None:
        self._device, self._statm = device, statm

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
        import resource

        try:
            pages = int(self._statm.read_text("ascii").split()[1])
        except OSError:
            # Elsewhere only the most since the process began is known.
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return pages * resource.getpagesize()
