"""Sharing: what one arm drew and saw, the others need not do again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from PIL.Image import Image

from socratic_agents.core.errors import SocraticError
from socratic_agents.llm.usage import UsageMeter, current_meter, using_meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from socratic_agents.core.checklist import Checklist
    from socratic_agents.runtime.image_models import ImageModels

__all__ = ("WORK", "SharedCalls")

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

WORK: ContextVar[Counter[str]] = ContextVar("socratic_work")
"""How often the arm in force used each model, shared or not."""


class SharedCalls:
    """Remembers all answers about one user prompt, for the arms that refine it.

    Who asks the same gets the same answer, also while it is still in flight, and is
    charged as if it had been for him alone.

    Args:
        models: What the image models do.
        inquire: Who writes checklists, if anybody does.
    """

    def __init__(
        self,
        models: ImageModels,
        inquire: Callable[[str], Awaitable[Checklist]] | None = None,
    ) -> None:
        self._known: dict[Hashable, asyncio.Future[_Outcome[Any]]] = {}
        self.models = models.map(lambda kind, call: self._once(kind.stage, call))
        self.inquire = inquire and self._once("checklist", inquire)

    def _once(
        self, name: str, call: Callable[Inputs, Awaitable[Output]]
    ) -> Callable[Inputs, Awaitable[Output]]:
        async def ask(*inputs: Inputs.args, **named: Inputs.kwargs) -> Output:
            WORK.get(Counter())[name] += 1
            key = (name, *map(_identity, inputs))
            while (known := self._known.get(key)) is not None:
                await asyncio.wait([known])
                if not known.cancelled():
                    return cast("Output", known.result().charge())
                # Who asked first got no further: somebody else must do it.
            future = asyncio.get_running_loop().create_future()
            self._known[key] = future
            try:
                outcome = await _done(call(*inputs, **named))
            except BaseException:
                del self._known[key]
                future.cancel()
                raise
            future.set_result(outcome)
            return outcome.charge()

        return ask


@dataclass(frozen=True, kw_only=True)
class _Outcome(Generic[Output]):
    """What came of some work, good or bad, and what it cost."""

    cost: UsageMeter
    answer: Output | None = None
    problem: SocraticError | None = None

    def charge(self) -> Output:
        """Charge the caller as if nobody else had asked, and return the answer."""
        meter, cost = current_meter(), self.cost
        meter.add_images(cost.images)
        for _ in range(cost.llm_calls):
            meter.add_call()
        meter.add_tokens(
            {"input_tokens": cost.input_tokens, "output_tokens": cost.output_tokens}
        )
        if self.problem is not None:
            raise self.problem
        return cast("Output", self.answer)


async def _done(work: Awaitable[Output]) -> _Outcome[Output]:
    """Do the work on a meter of its own: one arm's budget is not the others'."""
    with using_meter(UsageMeter()) as cost:
        try:
            return _Outcome(cost=cost, answer=await work)
        except SocraticError as problem:
            return _Outcome(cost=cost, problem=problem)


def _identity(value: Any) -> Hashable:
    """Return what distinguishes an input from others; the images live as long as we do."""
    return id(value) if isinstance(value, Image) else value
