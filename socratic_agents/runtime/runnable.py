"""The refiner as a LangChain runnable."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import Runnable
from langchain_core.runnables.config import get_config_list

from socratic_agents.core.outcome import Refinement

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from langchain_core.runnables import RunnableConfig

__all__ = ("RunnableRefiner",)

Result = TypeVar("Result")


class RunnableRefiner(Runnable[str, Refinement]):
    """What LangChain calls of a refiner: a user prompt in, a ``Refinement`` out."""

    @abstractmethod
    async def refine(self, prompt: str) -> Refinement:
        """Refine one user prompt."""

    @abstractmethod
    def admission(self) -> int:
        """Return how many prompts are refined at the same time, for now."""

    @abstractmethod
    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Return what a coroutine returns, for those who cannot await it."""

    @property
    def OutputType(self) -> Any:  # noqa: N802 - the runnable's own name
        """Anything, as far as a JSON schema can say: an image has none."""
        return Any

    async def ainvoke(
        self,
        input: str,  # noqa: A002 - the runnable's own name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Refinement:
        """Refine one user prompt."""
        return await self._acall_with_config(self.refine, input, config)

    def invoke(
        self,
        input: str,  # noqa: A002 - the runnable's own name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Refinement:
        """Refine one user prompt; blocks, also inside a running event loop."""
        return self.wait(self.ainvoke(input, config))

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[Refinement]:
        """Refine many user prompts; in order, at most ``in_flight`` at a time."""
        configs = get_config_list(config, len(inputs))
        for one in configs:
            if one.get("max_concurrency") is None:
                one["max_concurrency"] = self.admission()
        return await super().abatch(
            inputs, configs, return_exceptions=return_exceptions
        )

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[Refinement]:
        """Refine many user prompts; blocks, also inside a running event loop."""
        return self.wait(
            self.abatch(inputs, config, return_exceptions=return_exceptions)
        )
