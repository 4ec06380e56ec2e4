"""Callables: other people's models as coroutine functions, with their failures tamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from PIL import Image

from socratic_agents.core.concurrency import is_async
from socratic_agents.core.errors import (
    CandidateError,
    ConfigurationError,
    SocraticError,
)
from socratic_agents.core.history import Status
from socratic_agents.core.text import error_line
from socratic_agents.llm.usage import current_meter
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("called", "drawn", "guarded")

Output = TypeVar("Output")


def called(given: Any, part: str, worker: Worker) -> Callable[..., Awaitable[Any]]:
    """Return a callable as a coroutine function; one that blocks runs in the worker."""
    if not callable(given):
        message = (
            f"expected a {part}'s name, model or callable, got {type(given).__name__}; "
            "see docs/models.md for what can be given"
        )
        raise ConfigurationError(message)
    if is_async(given):
        return cast("Callable[..., Awaitable[Any]]", given)
    stage: Stage[tuple[Any, ...], Any] = Stage(
        name=part,
        run=lambda inputs: [given(*one) for one in inputs],
        max_batch=1,
        priority=0 if part == "generator" else 1,
    )

    async def call(*inputs: Any) -> Any:
        return await worker.submit(stage, inputs)

    return call


def guarded(
    call: Callable[..., Awaitable[Output]], status: Status
) -> Callable[..., Awaitable[Output]]:
    """Turn whatever a model raises into the failure of one candidate."""

    async def safe(*inputs: Any) -> Output:
        try:
            return await call(*inputs)
        except SocraticError:
            raise
        except Exception as problem:
            raise CandidateError(status, error_line(problem)) from problem

    return safe


def drawn(
    generate: Callable[[str, int], Awaitable[Any]],
) -> Callable[[str, int], Awaitable[Image.Image]]:
    """Hold a generator to its promise, a PIL image in RGB, and count what is drawn."""

    async def draw(prompt: str, seed: int) -> Image.Image:
        current_meter().add_images()
        image = await generate(prompt, seed)
        if not isinstance(image, Image.Image):
            message = (
                f"expected the generator to return a PIL image, got "
                f"{type(image).__name__}; convert it"
            )
            raise CandidateError(Status.GENERATION_FAILED, message)
        return image if image.mode == "RGB" else image.convert("RGB")

    return draw
