"""Metrics: how good an image really is, by models that took no part in selecting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.metric import CAPTIONER, POCKET, SEEN, Measure, Metric
from socratic_agents.lab.metrics.models import MetricModels
from socratic_agents.lab.metrics.pixels import ORACLE
from socratic_agents.lab.metrics.registry import (
    METRICS,
    find_metrics,
    metrics_that_select,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.metrics.metric import MetricSpec
    from socratic_agents.lab.metrics.scores import Subject
    from socratic_agents.scheduler.worker import Worker

__all__ = ("Metric", "open_metric", "open_metrics")


def open_metrics(
    specs: Sequence[MetricSpec], models: MetricModels
) -> tuple[Metric, ...]:
    """Open metrics; blocks, in the worker's thread.

    Args:
        specs: Metrics of ``find_metrics``.
        models: Opens each model once.

    Raises:
        ConfigurationError: If a model cannot be opened, or a package is missing.
    """
    return tuple(
        Metric(
            name=spec.name,
            needs=spec.needs,
            higher_is_better=spec.higher_is_better,
            how=spec.open(models),
            bounds=spec.bounds,
        )
        for spec in specs
    )


def open_metric(name: Any, settings: Settings, worker: Worker) -> Metric:
    """Return the metric of a comparison; blocks, in the worker's thread.

    Args:
        name: One of ``METRICS`` that needs only the image and its prompt, or a scorer
            as in the settings, an object among them; ``None``: the oracle.
        settings: With what the arms select.
        worker: Runs the metric's model.

    Raises:
        ConfigurationError: If it cannot be opened, or the arms select by it.
    """
    pocket = settings.generator == POCKET
    if name is None and not pocket:
        message = (
            "expected --metric, a scorer that no arm selects with, since the oracle "
            f"knows the pocket world alone, got none for generator "
            f"{settings.public()['generator']!r}; name one, such as ViT-L-14/openai"
        )
        raise ConfigurationError(message)
    from socratic_agents.agents.registry import find_roles

    answerer = find_roles(settings).answerer
    looks = answerer is not None and answerer.needs_captioner
    specs: tuple[MetricSpec, ...] = ()
    if name is None or (isinstance(name, str) and name in METRICS):
        specs = find_metrics([name or ORACLE], settings)
    if (
        metrics_that_select(specs, settings)
        or name == settings.scorer
        or (name == CAPTIONER and looks)
    ):
        message = (
            f"expected a metric that no arm selects with, got {name!r}, which does; "
            "what selects looks better than it is by its own measure"
        )
        raise ConfigurationError(message)
    if specs:
        (spec,) = specs
        if not set(spec.needs) <= set(SEEN) or not spec.higher_is_better:
            message = (
                "expected a metric of the image and its prompt, of which more is better, "
                f"got {name!r}, which is {spec.title}; name another one"
            )
            raise ConfigurationError(message)
        (metric,) = open_metrics(specs, MetricModels(settings=settings, worker=worker))
        return metric
    return _scorer(name, settings, worker)


def _scorer(given: Any, settings: Settings, worker: Worker) -> Metric:
    from socratic_agents.runtime.open_models import open_scorer

    own = settings.but(scorer=given)
    _, score = open_scorer(own, worker)
    name = str(own.public()["scorer"])

    async def measure(subject: Subject) -> float:
        return float(await score(subject.user_prompt, subject.image))

    how = Measure(record={"scorer": name}, measure=measure)
    return Metric(name=name, needs=SEEN, higher_is_better=True, how=how)
