"""Sharing: what one arm drew and saw, the others need not do again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from socratic_agents.core.errors import SocraticError
from socratic_agents.llm.usage import UsageMeter, current_meter, using_meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from socratic_agents.core.checklist import Checklist
    from socratic_agents.runtime.image_models import Voices

__all__ = ("WORK", "SharedCalls")

WORK: ContextVar[Counter[str]] = ContextVar("socratic_work")
"""How often the arm in force used each voice, shared or not."""


class SharedCalls:
    """Remembers all answers about one user prompt, for the arms that refine it.

    Who asks the same gets the same answer, also while it is still on its way, and is
    charged as if it had been for him alone.

    Args:
        voices: What the image models do.
        inquire: Who writes checklists, if anybody does.
    """

    def __init__(
        self,
        voices: Voices,
        inquire: Callable[[str], Awaitable[Checklist]] | None = None,
    ) -> None:
        self._known: dict[Hashable, asyncio.Future[_Outcome]] = {}
        self.voices = replace(
            voices,
            generate=self._shared("generator", voices.generate),
            caption=self._shared("captioner", voices.caption),
            decide=voices.decide and self._shared("decide", voices.decide),
            look=voices.look and self._shared("look", voices.look),
            score=voices.score and self._shared("scorer", voices.score),
        )
        self.inquire = inquire and self._shared("checklist", inquire)

    def _shared(self, name: str, call: Callable[..., Awaitable[Any]]) -> Any:
        async def ask(*inputs: Any) -> Any:
            WORK.get(Counter())[name] += 1
            key = (name, *map(_identity, inputs))
            while (known := self._known.get(key)) is not None:
                await asyncio.wait([known])
                if not known.cancelled():
                    return known.result().told()
                # Who asked first got no further: somebody else must do it.
            future = asyncio.get_running_loop().create_future()
            self._known[key] = future
            try:
                outcome = await _done(call, inputs)
            except BaseException:
                del self._known[key]
                future.cancel()
                raise
            future.set_result(outcome)
            return outcome.told()

        return ask


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What came of some work, good or bad, and what it cost."""

    cost: UsageMeter
    answer: Any = None
    problem: SocraticError | None = None

    def told(self) -> Any:
        """Charge who asks as if he had been the only one, and tell him."""
        meter, cost = current_meter(), self.cost
        meter.add_images(cost.images)
        for _ in range(cost.llm_calls):
            meter.add_call()
        meter.add_tokens(
            {"input_tokens": cost.input_tokens, "output_tokens": cost.output_tokens}
        )
        if self.problem is not None:
            raise self.problem
        return self.answer


async def _done(
    call: Callable[..., Awaitable[Any]], inputs: tuple[Any, ...]
) -> _Outcome:
    """Do the work on a meter of its own: one arm's budget is not the others'."""
    with using_meter(UsageMeter()) as cost:
        try:
            return _Outcome(cost=cost, answer=await call(*inputs))
        except SocraticError as problem:
            return _Outcome(cost=cost, problem=problem)


def _identity(value: Any) -> Hashable:
    """Return what tells an input from others; the images live as long as we do."""
    return id(value) if isinstance(value, Image) else value
