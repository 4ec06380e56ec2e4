"""Metrics: how good an image really is, told by who took no part in choosing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from PIL.Image import Image

    from socratic_agents.scheduler import Worker
    from socratic_agents.settings import Settings

__all__ = ("ORACLE", "Metric", "open_metric")

ORACLE = "oracle"
"""The pocket world's own: what the pixels really show."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is reported of an image; higher is better."""

    name: str
    measure: Callable[[str, Image], Awaitable[float]]
    """user prompt, image -> value"""


def open_metric(name: str | None, settings: Settings, worker: Worker) -> Metric:
    """Return the metric of this name; blocks, in the worker's thread.

    Args:
        name: ``oracle``, or a scorer as in the settings; ``None``: the oracle.
        settings: With what the arms select.
        worker: Runs the metric's model.

    Raises:
        ConfigurationError: If it cannot be opened, or the arms select by it.
    """
    pocket = settings.generator == "pocket"
    if name is None and not pocket:
        message = (
            "expected --metric, a scorer that no arm selects with, since the oracle "
            f"knows the pocket world alone, got none for generator "
            f"{settings.public()['generator']!r}; name one, such as ViT-L-14/openai"
        )
        raise ConfigurationError(message)
    if name in {None, ORACLE}:
        if not pocket:
            message = (
                "expected a metric that knows what the generator draws, got the oracle, "
                "which knows the pocket world alone; name a scorer"
            )
            raise ConfigurationError(message)
        return Metric(name=ORACLE, measure=_oracle(worker))
    looks = settings.checks and settings.answerer == "captioner"
    if name == settings.scorer or (name == "captioner" and looks):
        message = (
            f"expected a metric that no arm selects with, got {name!r}, which does; "
            "what selects looks better than it is by its own measure"
        )
        raise ConfigurationError(message)
    from socratic_agents.voices import open_scorer  # noqa: PLC0415 - slow

    _, score = open_scorer(settings.but(scorer=name), worker)
    return Metric(name=str(name), measure=score)


def _oracle(worker: Worker) -> Any:
    from socratic_agents.pocket import read_scene  # noqa: PLC0415 - slow
    from socratic_agents.scheduler import Stage  # noqa: PLC0415 - slow

    def read(items: list[tuple[str, Image]]) -> list[float]:
        return [read_scene(image).agreement(prompt) for prompt, image in items]

    stage: Stage[tuple[str, Image], float] = Stage(
        name=ORACLE, run=read, max_batch=16, priority=2
    )

    async def measure(user_prompt: str, image: Image) -> float:
        return await worker.submit(stage, (user_prompt, image))

    return measure
