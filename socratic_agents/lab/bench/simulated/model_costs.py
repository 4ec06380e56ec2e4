"""The models of the virtual bench: what their calls cost, from published figures.

Nothing here was measured on a device of ours. The generators are given by published
times of a denoising step; the captioner and the scorer are estimates of a model that
writes some twenty tokens, and of one that reads an image and a text once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.scheduler.cost_curve import CostCurve

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("MODELS", "ModelCosts")

CAPTIONER = CostCurve(tuple(0.2 + 0.012 * items for items in range(1, 33)))
SCORER = CostCurve(tuple(0.01 + 0.002 * items for items in range(1, 33)))


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    """A generator, a captioner and a scorer that share a device."""

    name: str
    steps: int
    """Denoising steps of an image."""
    step: CostCurve
    """One denoising step."""
    decode: float
    """Seconds that each image takes after its last step."""

    @property
    def curves(self) -> Mapping[str, CostCurve]:
        """What calls cost, by stage, in the order of a round."""
        images = enumerate(self.step.seconds, 1)
        drawing = tuple(self.steps * s + self.decode * items for items, s in images)
        return {
            "generator": CostCurve(drawing),
            "captioner": CAPTIONER,
            "scorer": SCORER,
        }


def _through(points: Mapping[int, float]) -> CostCurve:
    """Return the curve through some points, straight between them."""
    seconds, sizes = [], sorted(points)
    for low, high in itertools.pairwise(sizes):
        slope = (points[high] - points[low]) / (high - low)
        seconds += [points[low] + slope * step for step in range(high - low)]
    return CostCurve((*seconds, points[sizes[-1]]))


MODELS = (
    # Source: pull request 22183 of sgl-project/sglang, Qwen-Image on one H200,
    # compiled; the largest batch at 1024 pixels follows the two before it.
    ModelCosts(
        name="qwen512",
        steps=50,
        step=_through({1: 0.167, 2: 0.183, 3: 0.186, 4: 0.240, 8: 0.425}),
        decode=0.02,
    ),
    ModelCosts(
        name="qwen1024",
        steps=50,
        step=_through({1: 0.243, 2: 0.474, 3: 0.711, 4: 0.948}),
        decode=0.06,
    ),
    # Source: a batch of 8 as in MLPerf Inference 5.0 on one H200, 20 steps; smaller
    # ones are estimated.
    ModelCosts(
        name="sdxl",
        steps=20,
        step=_through({1: 0.030, 2: 0.050, 4: 0.094, 8: 0.1815}),
        decode=0.005,
    ),
    # Source: the model card of tlwu/sd-turbo-onnxruntime, one A100, one step against
    # four; a batch of 16 follows the one of 8.
    ModelCosts(
        name="sdturbo",
        steps=1,
        step=_through({1: 0.0101, 4: 0.0241, 8: 0.0446, 16: 0.0892}),
        decode=0.022,
    ),
)
