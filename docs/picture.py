"""Draw the pictures of the pages from real images: ``python docs/picture.py``."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from socratic_agents import Refinement, Refiner, refine
from socratic_agents.pocket import sample_prompts

if TYPE_CHECKING:
    from socratic_agents import Candidate

PROMPT, SEED, ROUNDS = "a ruby loop under a jade block", 7, 5
SIDE, GAP, TEXT = 112, 20, 74
COLUMNS = 10
INK, PALE, MARK = "#1c2330", "#5b6675", "#0a7d4f"


def _cell(draw: ImageDraw.ImageDraw, candidate: Candidate, x: int, y: int) -> None:
    font = ImageFont.load_default(size=11)
    lines = textwrap.wrap(candidate.prompt, 20)[:3]
    draw.multiline_text((x, y + SIDE + 6), "\n".join(lines), INK, font, spacing=2)
    score = "" if candidate.score is None else f"score {candidate.score:.2f}"
    draw.text((x, y + SIDE + 50), score, PALE, font)


async def main() -> None:
    """Refine a prompt, and put every round in a row."""
    result = await refine(PROMPT, seed=SEED, rounds=ROUNDS)
    columns = max(len(round_.candidates) for round_ in result.rounds)
    width = GAP + columns * (SIDE + GAP)
    height = 64 + len(result.rounds) * (SIDE + TEXT + GAP)
    picture = Image.new("RGB", (width, height), "#f6f7f9")
    draw = ImageDraw.Draw(picture)
    title = f"asked: {PROMPT}"
    draw.text((GAP, 20), title, INK, ImageFont.load_default(size=22))
    for row, round_ in enumerate(result.rounds):
        for column, candidate in enumerate(round_.candidates):
            x = GAP + column * (SIDE + GAP)
            y = 64 + row * (SIDE + TEXT + GAP)
            if candidate.image is not None:
                shown = candidate.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                picture.paste(shown, (x, y))
            if candidate is result.best:
                frame = (x - 5, y - 5, x + SIDE + 4, y + SIDE + 4)
                draw.rectangle(frame, outline=MARK, width=5)
            _cell(draw, candidate, x, y)
    picture.save(Path(__file__).parent / "refinement.png", optimize=True)


async def samples() -> None:
    """Draw canonical prompts, one image each, in the order of the prompts."""
    prompts = sample_prompts(COLUMNS * 4, 2026, "canonical")
    async with Refiner(rounds=1, judge="never", seed=2026) as refiner:
        done = [outcome async for outcome in refiner.refine_many(prompts)]
    side, grid = 96, Image.new("RGB", (COLUMNS * 96, 4 * 96))
    for outcome in done:
        if isinstance(outcome, Refinement) and outcome.best.image is not None:
            row, column = divmod(outcome.index, COLUMNS)
            shown = outcome.best.image.resize((side, side), Image.Resampling.LANCZOS)
            grid.paste(shown, (column * side, row * side))
    grid.save(Path(__file__).parent / "samples.png", optimize=True)


if __name__ == "__main__":
    asyncio.run(main())
    asyncio.run(samples())
