"""A tiny study whose images are painted by hand, for the tests of studies."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.pocket import Scene, SceneObject, render
from socratic_agents.runtime.refiner import Refiner

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


TINY = """\
title: Tiny
about: A study for tests.
notes: ["=1+1 is no formula"]
prompts:
  - {set: pocket, name: foreign, kind: foreign, n: 2}
  - {set: pocket, name: terse, kind: terse, n: 2}
settings: {preset: classic, rounds: 3, judge: never, selector: last}
arms:
  to_the_end: {about: All rounds.}
  early_stop: {about: Until the judge is content., judge: caption, continued_by: to_the_end}
  one: {policy: first, selector: first, scorer: none}
against: one
budget: {images: 3}
metrics: [oracle, sharpness]
"""

SMALL = TINY.replace("  - {set: pocket, name: terse, kind: terse, n: 2}\n", "")
SMALL = SMALL.replace("n: 2", "n: 4").replace(", sharpness]", "]")
"""The same with one set and one metric, for what is run several times."""


class Painter:
    """Paints without a model; counts, and fails where it is told to.

    Args:
        broken: Prompts with this word cannot be drawn.
        stop_at: The how manieth refiner is never opened: somebody interrupts there.
    """

    identity = "painter"
    """What it counts decides nothing."""

    def __init__(self, *, broken: str = "\0", stop_at: int | None = None) -> None:
        self.painted = Counter[tuple[str, int]]()
        self.opened = list[Settings]()
        self._broken, self._stop_at = broken, stop_at
        self._right = dict[bytes, str]()

    def open(self, settings: Settings) -> Refiner:
        if len(self.opened) == self._stop_at:
            raise KeyboardInterrupt
        self.opened.append(settings)
        # A function, since objects are told apart by their names.
        return Refiner(settings.but(generator=self.paint, captioner=self.describe))

    async def paint(self, prompt: str, seed: int) -> Image.Image:
        if self._broken in prompt.split():
            raise LookupError(prompt)
        self.painted[prompt, seed] += 1
        colour = ("red", "green", "blue")[(seed + len(prompt) + 1) % 3]
        # Each prompt has a place of its own, since images are told apart by pixels.
        place = hashlib.sha256(prompt.encode()).digest()
        thing = SceneObject(
            "circle", colour, "large", 24 + place[0] % 16, 24 + place[1] % 16
        )
        image = render(Scene((thing,), "white"))
        if colour == "blue":
            self._right[image.tobytes()] = prompt
        return image

    async def describe(self, image: Image.Image) -> str:
        """Say of the blue ones that they show what was asked."""
        return self._right.get(image.tobytes(), "a small green ring")


def written(folder: Path, text: str = SMALL, name: str = "tiny.yaml") -> str:
    """Write a study and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def ran(painter: Painter, *arguments: Any) -> int:
    """Run a command of the laboratory, and return its exit code."""
    given = ["lab", *map(str, arguments)]
    return partial(main, open_refiner=painter.open)(given)
