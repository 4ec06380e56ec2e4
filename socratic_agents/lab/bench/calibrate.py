"""Calibrate: what calls of the user's own models cost, measured before they are needed.

The worker learns it from its calls, too; measured beforehand it has large batches from
the first one on, and knows on an accelerator that still larger ones pay.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError, is_out_of_memory
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.cost_model import CostModel, cache_file
from socratic_agents.scheduler.tuning import DEFAULT_TUNING
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from socratic_agents.config.settings import Settings
    from socratic_agents.scheduler.stage import Stage

__all__ = ("MeasuredCall", "calibrate", "sizes_worth_forming")

LARGEST = 64
"""Items of the largest call that is tried."""
LONGEST = 60.0
"""Seconds of a call after which no larger one is tried."""
WORTH = 0.99
"""A larger call is tried as long as it brings an item at least 1 % below the best."""
PROMPT = "a red circle"
QUESTION = "Is there a red circle?"


@dataclass(frozen=True)
class MeasuredCall:
    """What a call of some size costs."""

    stage: str
    items: int
    seconds: float
    """Of the whole call: the median of some."""

    @property
    def each(self) -> float:
        """Seconds of one item."""
        return self.seconds / self.items


class _Tape(Worker):
    """A worker that remembers the first item of each stage."""

    def __init__(self, cost_model: CostModel) -> None:
        super().__init__("socratic-calibrate", cost_model=cost_model)
        self.first: dict[str, tuple[Stage[Any, Any], Any]] = {}

    async def submit(
        self, stage: Stage[Any, Any], item: Any, *, key: Hashable = None
    ) -> Any:
        if stage.model is not None:
            self.first.setdefault(stage.name, (stage, item))
        return await super().submit(stage, item, key=key)


async def calibrate(
    settings: Settings,
    *,
    path: Path | None = None,
    most: int = LARGEST,
    on_cost: Callable[[MeasuredCall], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[MeasuredCall]:
    """Measure calls of 1, 2, 4 … items of every model, and keep what they cost.

    Args:
        settings: Name the models, and say where and how they run.
        path: Where curves are kept; ``None``: the user's cache folder.
        most: Items of the largest call, at least 1.
        on_cost: Called for each size, as it is measured.
        clock: Seconds from any moment on.

    Raises:
        ConfigurationError: If no model runs here, or one cannot be opened.
    """
    cost_model = CostModel(cache_file() if path is None else path)
    costs: list[MeasuredCall] = []
    async with _Tape(cost_model) as worker:
        models = await worker.call(lambda: open_image_models(settings, worker))
        try:
            image = await models.generate(PROMPT, settings.seed)
            await models.caption(image)
            for ask in filter(None, (models.answer_yes_no, models.answer_open)):
                await ask(image, QUESTION)
            if models.score is not None:
                await models.score(PROMPT, image)
            for stage, item in worker.first.values():

                def measure(stage: Any = stage, item: Any = item) -> list[MeasuredCall]:
                    return _measured(stage, item, most, cost_model, on_cost, clock)

                costs += await worker.call(measure)
        finally:
            for close in models.closers:
                await close()
    if not costs:
        message = (
            "expected a model with a name that runs on this machine, got none; "
            "name a generator, a captioner or a scorer"
        )
        raise ConfigurationError(message)
    return costs


def sizes_worth_forming(costs: Sequence[MeasuredCall]) -> dict[str, int]:
    """Return for each stage the smallest call within 3 % of the best time of an item.

    Args:
        costs: As ``calibrate`` returns them.
    """
    best: dict[str, float] = {}
    for cost in costs:
        best[cost.stage] = min(cost.each, best.get(cost.stage, cost.each))
    return {
        stage: min(
            cost.items
            for cost in costs
            if cost.stage == stage
            and cost.each <= DEFAULT_TUNING.good_size_factor * least
        )
        for stage, least in best.items()
    }


def _measured(
    stage: Stage[Any, Any],
    item: Any,
    most: int,
    cost_model: CostModel,
    on_cost: Callable[[MeasuredCall], None] | None,
    clock: Callable[[], float],
) -> list[MeasuredCall]:
    """Measure calls of one stage, in the worker's thread, until larger ones bring none.

    The first call of each size is not counted: it may compile, or ask for memory.
    """
    costs: list[MeasuredCall] = []
    items = 1
    while items <= most:
        seconds: list[float] = []
        for _ in range(DEFAULT_TUNING.trusted_calls + 1):
            began = clock()
            if not _fits(stage, [item] * items):
                return costs
            seconds.append(clock() - began)
        for one in seconds[1:]:
            cost_model.observe(stage, None, items=items, seconds=one)
        cost = MeasuredCall(
            stage.name, items, sorted(seconds[1:])[DEFAULT_TUNING.trusted_calls // 2]
        )
        before = [one.each for one in costs]
        costs.append(cost)
        if on_cost is not None:
            on_cost(cost)
        # Twice in vain: a single size may be an unlucky one.
        if len(before) > 1 and min(cost.each, before[-1]) > WORTH * min(before[:-1]):
            break
        if seconds[-1] > LONGEST:
            break
        items *= 2
    return costs


def _fits(stage: Stage[Any, Any], items: list[Any]) -> bool:
    """Call a model, and return whether its memory was enough.

    The error is left behind here, for its traceback would keep the tensors alive.
    """
    try:
        stage.run(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    if stage.free_memory is not None:
        stage.free_memory()
    return False
