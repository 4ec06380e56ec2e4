"""Metrics by the pixels alone: the pocket oracle, sharpness and contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.core.extras import needs_extra
from socratic_agents.lab.metrics.metric import (
    SEEN,
    SHARE,
    Measure,
    MetricSpec,
    Need,
    only_pocket,
)
from socratic_agents.scheduler.worker import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from socratic_agents.lab.metrics.models import MetricModels
    from socratic_agents.lab.metrics.scores import Subject

__all__ = ("contrast", "oracle", "sharpness")

ORACLE = "oracle"
"""The pocket world's own: what the pixels really show."""
LAPLACE = "variance of the 4-neighbour Laplacian of luma in [0, 255]"
SPREAD = "standard deviation of luma in [0, 1]"


def oracle(models: MetricModels) -> Measure:
    """Return how far an image of the pocket world shows its prompt, in [0, 1]."""
    from socratic_agents.pocket import read_scene

    def read(pair: tuple[str, Image]) -> float:
        return read_scene(pair[1]).agreement(pair[0])

    return _by_pixels(models, "oracle", read, {"oracle": "the pocket world's"})


def sharpness(models: MetricModels) -> Measure:
    """Return how strongly neighbouring pixels differ: 0 or more, without a unit.

    Noise is as sharp as detail, and a large image less so than a small one, so it is
    compared between images of one generator and one size only.

    Source: J. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy"
    (ICPR 2000).
    """
    with needs_extra("for the metric 'sharpness'"):
        from scipy.ndimage import laplace

    def read(pair: tuple[str, Image]) -> float:
        return float(laplace(_luma(pair[1])).var())

    return _by_pixels(models, "sharpness", read, {"formula": LAPLACE})


def contrast(models: MetricModels) -> Measure:
    """Return how far light and dark are apart (RMS contrast), in [0, 0.5].

    Source: E. Peli, "Contrast in complex images", Journal of the Optical Society of
    America A 7 (1990).
    """

    def read(pair: tuple[str, Image]) -> float:
        return float((_luma(pair[1]) / 255).std())

    return _by_pixels(models, "contrast", read, {"formula": SPREAD})


def _by_pixels(
    models: MetricModels,
    name: str,
    read: Callable[[tuple[str, Image]], float],
    record: dict[str, Any],
) -> Measure:
    stage: Stage[tuple[str, Image], float] = Stage(
        name=name, run=lambda pairs: [read(p) for p in pairs], max_batch=16, priority=2
    )

    async def measure(subject: Subject) -> float:
        return await models.worker.submit(stage, (subject.user_prompt, subject.image))

    return Measure(record=record, measure=measure)


def _luma(image: Image) -> Any:
    import numpy as np

    return np.asarray(image.convert("L"), dtype=np.float64)


PIXEL_METRICS = (
    MetricSpec(
        name=ORACLE,
        title="what the pixels of the pocket world really show",
        needs=SEEN,
        open=oracle,
        bounds=SHARE,
        refuse=only_pocket,
    ),
    MetricSpec(
        name="sharpness",
        title="how strongly neighbouring pixels differ",
        needs=(Need.IMAGE,),
        open=sharpness,
        higher_is_better=None,
    ),
    MetricSpec(
        name="contrast",
        title="how far light and dark are apart",
        needs=(Need.IMAGE,),
        open=contrast,
        bounds=(0.0, 0.5),
        higher_is_better=None,
    ),
)
