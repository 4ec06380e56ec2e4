"""Strict: a refinement is the same to the last bit alone and among any others.

* How many others there are, which, in what order they come and how many of them are on
  their way does not show in an image, a caption, an answer, a score or a decision.
* Neither does another program that keeps every processor busy.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from socratic_agents.core.outcome import Refinement
from socratic_agents.pocket import sample_prompts
from socratic_agents.runtime.refiner import Refiner

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPTS = (
    "a crimson ball above an azure box",
    "a lemon disc",
    "a green ring left of a red cross",
)
"""Whose refinements are compared; one of them has words that the generator lacks."""
MOST = 3
"""Others beside."""


@pytest.fixture
def _load() -> Iterator[None]:
    """Keep every processor busy."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        yield


def bits(refinement: Refinement) -> tuple[object, ...]:
    """Return all that a refinement says and shows, but for how long it took."""
    usage = replace(refinement.usage, seconds=0.0)
    return (
        refinement.history,
        [c.image and c.image.tobytes() for c in refinement.history.candidates],
        refinement.best,
        refinement.stop,
        usage,
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("_load")
@pytest.mark.parametrize("trials", [2, pytest.param(200, marks=[pytest.mark.nightly])])
async def test_a_refinement_is_the_same_alone_and_among_others(trials: int) -> None:
    """Whatever the scheduler makes of the calls."""
    chance = random.Random(trials)
    others = sample_prompts(40, 5, "canonical")
    alone = dict[str, tuple[object, ...]]()
    async with Refiner(strict=True, seed=7, rounds=2) as refiner:
        for trial in range(trials):
            prompt = PROMPTS[trial % len(PROMPTS)]
            if prompt not in alone:
                alone[prompt] = bits(await refiner.refine(prompt))
            asked = [prompt, *chance.sample(others, chance.randint(1, MOST))]
            chance.shuffle(asked)
            place = asked.index(prompt)
            # Any of them may be the first that is done, and those who come later wait.
            refiner.settings = refiner.settings.but(in_flight=chance.randint(1, MOST))
            async for outcome in refiner.refine_many(asked):
                if outcome.index == place:
                    assert isinstance(outcome, Refinement)
                    assert alone[prompt] == bits(outcome), (trial, asked)
