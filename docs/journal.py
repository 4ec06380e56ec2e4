"""Measures what the journal costs a batch: the same prompts with it and without.

Run it on a machine that does nothing else: ``OMP_NUM_THREADS=1 python docs/journal.py``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from socratic_agents import Refiner, RunDirectory
from socratic_agents.pocket import sample_prompts

PROMPTS = 12
REPEATS = 6


async def seconds(
    refiner: Refiner, prompts: list[str], run: RunDirectory | None
) -> float:
    """Return how long a batch takes, its results written like those of a command."""
    began = time.perf_counter()
    async for outcome in refiner.refine_many(prompts):
        if run is not None:
            run.save(outcome)
    return time.perf_counter() - began


async def main() -> None:
    """Let both have their turns over the same prompts: A B, B A, and so on."""
    taken: dict[str, list[float]] = {"without": [], "with": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        RunDirectory(Path(folder), settings={}) as run,
    ):
        async with Refiner() as bare, Refiner().remember(run) as kept:
            turns = {"without": (bare, None), "with": (kept, run)}
            for repeat in range(REPEATS + 1):
                prompts = sample_prompts(PROMPTS, repeat, "foreign")
                order = list(turns)[:: 1 if repeat % 2 else -1]
                for name in order:
                    refiner, where = turns[name]
                    lasted = await seconds(refiner, prompts, where)
                    if repeat:  # the first warms everything up
                        taken[name].append(lasted)
        steps = sum(run.journal.added.values())
    ratios = [b / a for a, b in zip(taken["without"], taken["with"], strict=True)]
    told = {
        **{name: [round(one, 2) for one in values] for name, values in taken.items()},
        "ratios": [round(one, 3) for one in ratios],
        "median ratio": round(statistics.median(ratios), 4),
        "steps": steps,
    }
    for name, value in told.items():
        sys.stdout.write(f"{name}: {value}\n")


asyncio.run(main())
