"""The tables of a comparison: their cells as text, and printed for a terminal."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rich.console import Console

from socratic_agents.lab.compare.findings import findings, warnings
from socratic_agents.lab.table import Table, plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.compare.result import Comparison

__all__ = ("arm_rows", "difference_rows", "print_table")

ARM_HEADINGS = ("arm", "mean", "95 %", "whole", "images", "calls", "tokens", "s", "out")
"""``whole``: prompts with the value 1; ``out``: prompts that are left out."""

DIFFERENCE_HEADINGS = ("arm", "mean", "95 %", "won", "tied", "lost", "pairs")

STYLES = {1: "green", 0: "", -1: "red"}
"""Sign of a difference to its colour."""


def arm_rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    """Return a row of cells for each arm, in the order of ``ARM_HEADINGS``."""
    return tuple(
        (
            name,
            _number(arm["mean"], ".3f"),
            _ends(arm["ci"], ".3f"),
            _number(arm["whole"], ".0%"),
            _number(arm["images"], ".1f"),
            _number(arm["llm_calls"], ".1f"),
            _number(_sum(arm["input_tokens"], arm["output_tokens"]), ",.0f"),
            _number(arm["seconds"], ".1f"),
            str(arm["excluded"]),
        )
        for name, arm in comparison.figures()["arms"].items()
    )


def difference_rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    """Return a row of cells for each difference, by ``DIFFERENCE_HEADINGS``."""
    return tuple(
        (
            name,
            _number(difference["mean"], "+.3f"),
            _ends(difference["ci"], "+.3f"),
            *(str(difference[key]) for key in ("win", "tie", "loss", "n")),
        )
        for name, difference in comparison.figures()["differences"].items()
    )


def print_table(comparison: Comparison, file: IO[str]) -> None:
    """Print what came out: the arms, the differences, the findings, the warnings.

    Args:
        comparison: What to print.
        file: Where to; there are colours only if it is a terminal, and none with
            ``NO_COLOR``.
    """
    console = Console(file=file, highlight=False)
    prompts, budget = len(comparison.prompts), comparison.images
    title = f"{comparison.metric} on {prompts} prompts, up to {budget} images for each"
    console.print(plain_text(title))
    console.print(Table(columns=ARM_HEADINGS, rows=arm_rows(comparison)).as_rich())
    if comparison.differences:
        styles = [STYLES[d.sign] for d in comparison.differences.values()]
        console.print(
            plain_text(f"compared with {comparison.against}, prompt by prompt")
        )
        table = Table(columns=DIFFERENCE_HEADINGS, rows=difference_rows(comparison))
        console.print(table.as_rich(styles))
    for finding in findings(comparison):
        console.print(plain_text(finding), soft_wrap=True)
    for warning in warnings(comparison):
        console.print(plain_text(f"Warning: {warning}", "yellow"), soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _ends(ends: Sequence[float | None], form: str) -> str:
    low, high = ends
    if low is None or high is None:
        return "-"
    return f"{low:{form}} to {high:{form}}"


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
