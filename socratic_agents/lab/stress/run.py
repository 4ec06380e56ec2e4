"""Running the stress table: arms against every dial at every number of images."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import fmean
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.stats.bootstrap import paired_difference
from socratic_agents.lab.stats.permutation import holm, sign_flip_test
from socratic_agents.lab.stress.dials import STRESSES
from socratic_agents.lab.stress.world import (
    Dials,
    SimulatedCaptioner,
    SimulatedGenerator,
    SimulatedScorer,
    seen,
)
from socratic_agents.lab.table import Table, ends_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from PIL import Image

    from socratic_agents.lab.compare.result import Trial

__all__ = (
    "Cell",
    "CellResult",
    "run_cell",
    "run_stress",
    "stress_cells",
    "stress_table",
)

OURS = "default"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One world, and how many images each arm may draw in it for a prompt."""

    dial: str
    value: float
    dials: Dials
    images: int
    prompts: tuple[str, ...]
    arms: tuple[str, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What each arm came to in a cell, prompt by prompt."""

    cell: Cell
    agreement: Mapping[str, tuple[float | None, ...]]
    """Arm to the true agreement of what it returned, in [0, 1]; ``None``: it failed."""
    images: Mapping[str, float]
    """Arm to the images that it drew on average."""
    llm_calls: Mapping[str, float]


def stress_cells(
    *,
    dials: Sequence[str] = (),
    images: Sequence[int] = (3, 6, 12, 24),
    prompts: int = 100,
    arms: Sequence[str] = ("best_of_n", "expand", "default"),
    seed: int = 0,
    values: Sequence[float] = (),
) -> list[Cell]:
    """Return the cells of a table.

    Args:
        dials: Names of ``STRESSES``; none: all.
        images: What each arm may draw for a prompt, from 1 to 64 each.
        prompts: How many in each cell, at least 2; those of a dial are the same at
            each of its settings.
        arms: What is compared; see ``socratic lab compare``.
        seed: Of the prompts and of the images.
        values: Settings of the dials; none: each dial's own.

    Raises:
        ConfigurationError: If a name is unknown, or a number out of range.
    """
    from socratic_agents.lab.compare.arms import find_arms
    from socratic_agents.pocket.prompt_writer import sample_prompts

    unknown = [name for name in dials if name not in STRESSES]
    if unknown:
        message = (
            f"expected dials ({', '.join(STRESSES)}), got {', '.join(unknown)}; "
            "name some of them"
        )
        raise ConfigurationError(message)
    if prompts < 2:
        message = f"expected at least 2 prompts a cell, got {prompts}; raise it"
        raise ConfigurationError(message)
    for most in images:
        find_arms(arms, images=most)
    return [
        Cell(
            dial=stress.name,
            value=value,
            dials=stress.at(value),
            images=most,
            prompts=tuple(sample_prompts(prompts, seed, stress.prompts)),
            arms=tuple(arms),
            seed=seed,
        )
        for stress in (STRESSES[name] for name in dials or STRESSES)
        for value in values or stress.values
        for most in images
    ]


def run_stress(
    cells: Sequence[Cell],
    *,
    processes: int = 2,
    on_cell: Callable[[CellResult], None] = lambda _: None,
) -> list[CellResult]:
    """Run all cells, several at the same time.

    Args:
        cells: As from ``stress_cells``.
        processes: How many cells are run at the same time, at least 1.
        on_cell: Called with each result as it comes, in the order of the cells.
    """
    results = list[CellResult]()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for result in pool.map(run_cell, cells):
            on_cell(result)
            results.append(result)
    return results


def run_cell(cell: Cell) -> CellResult:
    """Run one cell: each arm on each prompt, in this process."""
    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.compare.run import compare
    from socratic_agents.pocket import PocketChatModel

    dials = cell.dials
    settings = Settings(
        profile="pocket",
        generator=SimulatedGenerator(dials),
        captioner=SimulatedCaptioner(dials),
        scorer=SimulatedScorer(dials),
        llm=PocketChatModel(error_rate=dials.llm_error, seed=cell.seed),
        seed=cell.seed,
        in_flight=IN_FLIGHT,
        llm_concurrency=IN_FLIGHT,
    )

    async def truth(prompt: str, image: Image.Image) -> float:
        return seen(image)[1].agreement(prompt)

    compared = asyncio.run(
        compare(
            cell.prompts, settings, arms=cell.arms, images=cell.images, metric=truth
        )
    )
    arms = {arm.name: arm.trials for arm in compared.arms}

    def mean(trials: Sequence[Trial], what: str) -> float:
        return fmean(getattr(trial, what) for trial in trials)

    return CellResult(
        cell=cell,
        agreement={n: tuple(t.reported for t in trials) for n, trials in arms.items()},
        images={name: mean(trials, "images") for name, trials in arms.items()},
        llm_calls={name: mean(trials, "llm_calls") for name, trials in arms.items()},
    )


IN_FLIGHT = 64


def stress_table(results: Sequence[CellResult], *, ours: str = OURS) -> Table:
    """Return how far one arm is above each other, cell by cell.

    p is of the sign-flip test, after Holm over the whole table: what is below 0.05 and
    negative is a loss that is no chance.

    Args:
        results: As from ``run_stress``.
        ours: The arm that the others are held against.
    """
    tested = {
        f"{place} {theirs}": sign_flip_test(_differences(result, ours, theirs)).p
        for place, result in enumerate(results)
        for theirs in _others(result, ours)
    }
    adjusted = holm(tested)
    rows = []
    for place, result in enumerate(results):
        for theirs in _others(result, ours):
            found = paired_difference(
                dict(enumerate(result.agreement[ours])),
                dict(enumerate(result.agreement[theirs])),
            )
            cell = result.cell
            rows.append(
                (
                    *(cell.dial, cell.value, cell.images, theirs, found.n),
                    *(found.mean, found.low, found.high),
                    adjusted[f"{place} {theirs}"],
                    *(result.images[ours], result.llm_calls[ours]),
                )
            )
    return Table(
        columns=(
            *("dial", "value", "images", "against", "n"),
            *("difference", *ends_of("difference")),
            *("p (Holm)", "images drawn", "LLM calls"),
        ),
        rows=tuple(rows),
        name="stress",
        title=f"{ours} minus the others",
        note="Mean true agreement, paired by prompt, with 95 % intervals.",
    )


def _others(result: CellResult, ours: str) -> Iterable[str]:
    return (name for name in result.agreement if name != ours)


def _differences(result: CellResult, ours: str, theirs: str) -> list[float]:
    pairs = zip(result.agreement[ours], result.agreement[theirs], strict=True)
    return [a - b for a, b in pairs if a is not None and b is not None]
