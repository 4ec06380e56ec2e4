"""Small image models for processes of their own, which import them from here by name.

Light, because every child pays for what this module imports.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from PIL import Image

from socratic_agents.core.errors import AnswerError, CandidateError, LoadError
from socratic_agents.core.history import Status
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from socratic_agents.config.settings import Settings
    from socratic_agents.scheduler.worker import Worker

__all__ = ("HELD_BACK", "UnpicklableError", "open_child_models")

HELD_BACK = 3
"""So many drawings are held back before somebody hears of it."""


class UnpicklableError(Exception):
    """It cannot be made anew of its message alone."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}, {why}")


PROBLEMS = {
    "a secret": CandidateError(Status.SAFETY_FILTERED, "expected less"),
    "a lie": AnswerError("expected truth", raw="a lie"),
    "a bug": ZeroDivisionError("a\nbug"),
    "a mule": UnpicklableError("a mule", "no reason"),
    "a bolt": ValueError("a bolt", threading.Lock()),
}


def open_child_models(folder: Path, settings: Settings, worker: Worker) -> ImageModels:
    """Open models that do what the prompt says.

    As long as there is a file ``hold`` in the folder, nothing is drawn; its pipes
    ``begun`` (one for each device) and ``ended`` tell of it.
    """
    if settings.generator == "broken":
        raise LoadError("expected weights, got none")
    apart = _ChildModels(folder, str(settings.device), worker)
    return ImageModels(generate=apart.generate, caption=apart.caption)


class _ChildModels:
    def __init__(self, folder: Path, device: str, worker: Worker) -> None:
        self.folder, self.device, self.worker = folder, device, worker
        self.held = 0
        self.stage: Stage[tuple[str, int], Any] = Stage(name="generator", run=_draw)
        self.trap: Stage[None, None] = Stage(name="trap", run=self.snap, timeout=0.05)

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        if (self.folder / "hold").exists():
            await self.hold()
        if prompt in PROBLEMS:
            raise PROBLEMS[prompt]
        if prompt == "a trap":
            await self.worker.submit(self.trap, None)
        if prompt == "a bomb":
            os._exit(7)
        if prompt == "a noise":
            print("bang", flush=True)  # noqa: T201 - where it goes is what is tested
            os.write(1, b"boom\n")
        image: Image.Image = await self.worker.submit(self.stage, (prompt, seed))
        image.info["where"] = self.device
        return image

    async def caption(self, image: Image.Image) -> str:
        return f"{image.getpixel((0, 0))} in process {os.getpid()}"

    async def hold(self) -> None:
        self.held += 1
        if self.held == HELD_BACK:
            (self.folder / f"begun {self.device}").write_text("begun")
        try:
            await asyncio.Event().wait()
        finally:
            (self.folder / "ended").write_text("cancelled")

    def snap(self, nothing: list[None]) -> list[None]:
        """Never end, but only once."""
        if not (self.folder / "sprung").exists():
            (self.folder / "sprung").touch()
            threading.Event().wait()
        return nothing


def _draw(items: list[tuple[str, int]]) -> list[Any]:
    return [Image.new("RGB", (4, 4), (n % 256, len(text), 0)) for text, n in items]
