"""The determinism check: whether all schedulers draw the same image for a prompt and a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from socratic_agents.core.errors import BatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ("DeterminismCheck",)

KEPT = 64
"""Images that are kept to compare with; the others are only counted."""
LEVELS, SHARE = 2, 0.01
"""In float32 the size of a batch moves no value by more than so many of 255 levels, and
no larger share of them at all."""
PSNR = 30.0
"""Decibels that images have at least in common in a coarser number format."""


@dataclass(eq=False)
class DeterminismCheck:
    """Compares images with those that were drawn one by one.

    Args:
        exact: Whether equal sizes of calls give equal bits, as on a CPU.
        fine: Whether the numbers are float32.
    """

    exact: bool
    fine: bool
    compared: int = 0
    differing: int = 0
    """Images with a value that is not the same."""
    levels: int = 0
    """Of 255, by how many any value differed."""
    psnr: float = math.inf
    """The least one, in decibels."""
    _kept: dict[tuple[str, str, int], NDArray[np.uint8]] = field(default_factory=dict)

    def see(self, who: str, rule: str, prompt: str, seed: int, image: Image) -> None:
        """Check an image that a scheduler got.

        Args:
            who: The scheduler.
            rule: ``"single"`` for calls of one item, ``"strict"`` for calls of one
                other size, anything else for calls of several sizes.
            prompt: What was to be drawn.
            seed: Of its noise.
            image: What was drawn.

        Raises:
            BatchError: If it is not what it ought to be.
        """
        pixels = np.asarray(image, dtype=np.uint8)
        if rule == "strict":
            self._equal(who, ("strict", prompt, seed), pixels)
        single = ("single", prompt, seed)
        if rule == "single":
            self._equal(who, single, pixels)
        if single in self._kept:
            self._alike(who, self._kept[single], pixels)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "compared": self.compared,
            "differing": self.differing,
            "largest_difference": self.levels,
            "least_psnr": None if math.isinf(self.psnr) else round(self.psnr, 2),
        }

    def _equal(
        self, who: str, place: tuple[str, str, int], pixels: NDArray[np.uint8]
    ) -> None:
        """Keep an image, or hold it against the one that was kept."""
        if place not in self._kept:
            if len(self._kept) < 2 * KEPT:
                self._kept[place] = pixels
        elif self.exact and not np.array_equal(self._kept[place], pixels):
            message = (
                f"expected {who} to draw the same image to the last bit with calls of "
                "the same size, got another one; see whether the generator is "
                "deterministic"
            )
            raise BatchError(message)

    def _alike(
        self, who: str, ours: NDArray[np.uint8], pixels: NDArray[np.uint8]
    ) -> None:
        if ours.shape != pixels.shape:
            message = (
                f"expected {who} to draw an image of shape {ours.shape}, got "
                f"{pixels.shape}; fix the scheduler"
            )
            raise BatchError(message)
        apart = np.abs(ours.astype(int) - pixels.astype(int))
        levels, error = int(apart.max()), float((apart.astype(float) ** 2).mean())
        psnr = 10 * math.log10(255**2 / error) if error else math.inf
        self.compared += 1
        self.differing += levels > 0
        self.levels, self.psnr = max(self.levels, levels), min(self.psnr, psnr)
        off = float((apart > 0).mean()) > SHARE or levels > LEVELS
        if off if self.fine else psnr < PSNR:
            message = (
                f"expected {who} to draw the image that is drawn alone, up to "
                f"rounding, got one that differs by {levels} of 255 levels "
                f"({psnr:.1f} dB); see whether items of a batch are mixed up"
            )
            raise BatchError(message)
