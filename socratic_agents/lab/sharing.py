"""Sharing: what one arm drew and saw, the others need not do again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from socratic_agents.chains.meter import Meter, current_meter, metered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from socratic_agents.checklist import Checklist
    from socratic_agents.voices import Voices

__all__ = ("WORK", "Sharing")

WORK: ContextVar[Counter[str]] = ContextVar("socratic_work")
"""How often the arm in force used each voice, shared or not."""


class Sharing:
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
        self._known: dict[Hashable, asyncio.Future[Any]] = {}
        self.voices = replace(
            voices,
            generate=self._shared("generator", voices.generate),
            caption=self._shared("captioner", voices.caption),
            decide=voices.decide and self._shared("decide", voices.decide),
            look=voices.look and self._shared("look", voices.look),
            score=voices.score and self._shared("scorer", voices.score),
        )
        self.inquire = inquire and self._charged(inquire)

    def _charged(
        self, inquire: Callable[[str], Awaitable[Checklist]]
    ) -> Callable[[str], Awaitable[Checklist]]:
        async def write(user_prompt: str) -> tuple[Checklist, Meter]:
            with metered(Meter()) as meter:
                return await inquire(user_prompt), meter

        shared: Callable[[str], Awaitable[tuple[Checklist, Meter]]]
        shared = self._shared("checklist", write)

        async def ask(user_prompt: str) -> Checklist:
            checklist, cost = await shared(user_prompt)
            meter = current_meter()
            for _ in range(cost.llm_calls):
                meter.add_call()
            tokens = {
                "input_tokens": cost.input_tokens,
                "output_tokens": cost.output_tokens,
            }
            meter.add_tokens(tokens)
            return checklist

        return ask

    def _shared(self, name: str, call: Callable[..., Awaitable[Any]]) -> Any:
        async def ask(*inputs: Any) -> Any:
            WORK.get(Counter())[name] += 1
            key = (name, *map(_identity, inputs))
            while (known := self._known.get(key)) is not None:
                await asyncio.wait([known])
                if not known.cancelled():
                    return known.result()
                # Who asked first was sent away: somebody else must do it.
            future = asyncio.get_running_loop().create_future()
            self._known[key] = future
            try:
                future.set_result(await call(*inputs))
            except asyncio.CancelledError:
                del self._known[key]
                future.cancel()
                raise
            except Exception as problem:
                future.set_exception(problem)
                future.exception()  # seen: nobody else may ever ask
                raise
            return future.result()

        return ask


def _identity(value: Any) -> Hashable:
    """Return what tells an input from others; the images live as long as we do."""
    return id(value) if isinstance(value, Image) else value
