"""How often intervals hold the truth, by simulation: ``python docs/coverage.py``."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

import numpy as np

from socratic_agents.lab.stats.bootstrap import mean_interval, paired_difference
from socratic_agents.lab.stats.preference import Vote, preference

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (20, 60, 150)
SHARES = (0.9, 0.97, 0.987)
DIFFERING = {"to both sides": (1.0, -1.0), "to one side": (1.0, 1 / 3)}
"""What the few pairs that do not tie differ by."""
FEW = 499
"""Resamples; an end then moves by a twentieth of the half width."""


def of_ones(n: int, share: float, times: int) -> tuple[int, int]:
    """Return how many intervals there are of means of zeros and ones, and hold them."""
    rng, held = np.random.default_rng(n), 0
    for seed in range(times):
        drawn = [float(one) for one in rng.random(n) < share]
        found = mean_interval(drawn, bounds=(0.0, 1.0), seed=seed, resamples=FEW)
        held += (found.low or 0.0) <= share <= (found.high or 0.0)
    return times, held


def of_ties(n: int, sides: tuple[float, float], times: int) -> tuple[int, int]:
    """Return the same of differences of which 98.7 % tie."""
    rng, shown, held = np.random.default_rng(n), 0, 0
    for seed in range(times):
        drawn = rng.choice([0.0, *sides], n, p=[0.987, 0.0065, 0.0065])
        ours = dict(enumerate(drawn.tolist()))
        theirs = dict.fromkeys(ours, 0.0)
        found = paired_difference(ours, theirs, seed=seed, resamples=FEW)
        if found.low is not None and found.high is not None:
            shown += 1
            held += found.low <= 0.0065 * sum(sides) <= found.high
    return shown, held


def of_strengths(n: int, share: float, times: int) -> tuple[int, int]:
    """Return the same of the strength of an arm that wins nearly always."""
    rng, held = np.random.default_rng(n), 0
    true = math.log(share / (1 - share)) / 2
    for seed in range(times):
        signs = [1 if rng.random() < share else -1 for _ in range(n)]
        votes = [
            Vote(prompt=prompt, one="a", other="b", sign=sign)
            for prompt, sign in enumerate(signs)
        ]
        found = preference(votes, seed=seed, resamples=FEW)
        arms = {arm.arm: arm for arm in found.strengths} if found else {}
        arm = arms.get("a")
        held += arm is not None and arm.low <= true <= arm.high
    return times, held


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000)
    times = parser.parse_args().times
    sizes = " | ".join(f"n = {n}" for n in SIZES)
    sys.stdout.write(f"| of {times:,} samples each | {sizes} |\n|---|---|---|---|\n")
    rows: dict[str, Callable[[int], tuple[int, int]]] = {
        f"mean, {share:.1%} ones": lambda n, p=share: of_ones(n, p, times)
        for share in SHARES
    }
    rows |= {
        f"difference, 98.7% ties, the rest {name}": lambda n, s=sides: of_ties(
            n, s, times
        )
        for name, sides in DIFFERING.items()
    }
    rows |= {
        f"strength, {share:.1%} won": lambda n, p=share: of_strengths(n, p, times)
        for share in SHARES
    }
    for name, simulate in rows.items():
        found = [simulate(n) for n in SIZES]
        cells = [_cell(shown, held, times) for shown, held in found]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


def _cell(shown: int, held: int, times: int) -> str:
    if not shown:
        return "refused"
    if shown == times:
        return f"{held / times:.3f}"
    return f"refused in {1 - shown / times:.1%}, wrong in {(shown - held) / times:.1%}"


if __name__ == "__main__":
    main()
