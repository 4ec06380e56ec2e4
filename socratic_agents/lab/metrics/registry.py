"""Every metric by its name: those of this package, and what others add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.caption import CAPTION_METRICS
from socratic_agents.lab.metrics.clip import CLIP_METRICS
from socratic_agents.lab.metrics.metric import CAPTIONER, MetricSpec
from socratic_agents.lab.metrics.pixels import PIXEL_METRICS
from socratic_agents.lab.metrics.vqa import VQA_METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.config.settings import Settings

__all__ = ("find_metrics", "metrics_that_select")

METRICS = Registry(
    "a metric",
    (*CLIP_METRICS, *CAPTION_METRICS, *VQA_METRICS, *PIXEL_METRICS),
    spec=MetricSpec,
    group="socratic_agents.metrics",
)
"""Every metric of single images."""

_ALONE = (
    "does not install beside this package; run it in an environment of its own "
    "({what}), and read its values with Scores.from_json, see docs/metrics.md"
)
_SETS = "is of whole sets of images; use evaluate_set, see docs/metrics.md"
ELSEWHERE: dict[str, str] = {
    "image_reward": _ALONE.format(what="pip install image-reward, which pins timm"),
    "pick_score": _ALONE.format(what="transformers below 5"),
    "hps": _ALONE.format(what="pip install hpsv2, which pins protobuf"),
    "fid": _SETS,
    "inception_score": _SETS,
}
"""What is no metric here, by its name, and what to do instead."""


def find_metrics(names: Sequence[str], settings: Settings) -> tuple[MetricSpec, ...]:
    """Return the metrics of these names; nothing is opened.

    Args:
        names: Each once, in any order; see ``METRICS``.
        settings: What draws the images.

    Raises:
        ConfigurationError: If there is no such metric, it is named twice, or it cannot
            measure what these settings draw.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"expected each metric once, got {', '.join(twice)} twice; drop one"
        raise ConfigurationError(message)
    return tuple(_found(name, settings) for name in names)


def metrics_that_select(
    specs: Sequence[MetricSpec], settings: Settings
) -> tuple[str, ...]:
    """Return the names of the metrics whose model selects in the loop.

    What selects looks better than it is by its own measure, so these may describe a
    loop, and are no evidence for it.

    Args:
        specs: Metrics of ``find_metrics``.
        settings: Of the loop.
    """
    from socratic_agents.agents.registry import find_roles

    answerer = find_roles(settings).answerer
    looks = answerer is not None and answerer.needs_captioner
    return tuple(
        spec.name
        for spec in specs
        for model in [spec.model(settings)]
        if model is not None
        and (model == settings.scorer or (looks and model == CAPTIONER))
    )


def _found(name: str, settings: Settings) -> MetricSpec:
    if name in ELSEWHERE:
        message = (
            f"expected a metric of single images, got {name!r}, which {ELSEWHERE[name]}"
        )
        raise ConfigurationError(message)
    spec = METRICS.find(name)
    reason = spec.refuse(settings)
    if reason is not None:
        message = (
            f"expected a metric that can measure what these settings draw, got {name!r}, "
            f"{reason}; name another one"
        )
        raise ConfigurationError(message)
    return spec
