"""The page of a comparison: one HTML file, readable offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.lab.compare.findings import findings, warnings
from socratic_agents.lab.compare.tables import (
    ARM_HEADINGS,
    DIFFERENCE_HEADINGS,
    arm_rows,
    difference_rows,
)
from socratic_agents.report.html import data_uri, page_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.compare.result import Comparison
    from socratic_agents.lab.stats.bootstrap import Difference

__all__ = ("comparison_html",)

RELATIONS = {1: "above", 0: "not distinguished", -1: "below"}
"""Sign of a difference to the words beside its bar."""


def comparison_html(comparison: Comparison, *, plots: Mapping[str, bytes]) -> str:
    """Return a whole page about a comparison, its plots inside.

    Args:
        comparison: What to show.
        plots: Caption to PNG file, in the order in which to show them; may be empty.
    """
    return page_template("comparison.html.j2").render(
        comparison=comparison,
        arm_headings=ARM_HEADINGS,
        arms=arm_rows(comparison),
        difference_headings=DIFFERENCE_HEADINGS,
        differences=list(
            zip(difference_rows(comparison), _bars(comparison), strict=True)
        ),
        plots={text: data_uri(data, kind="png") for text, data in plots.items()},
        prompts=_prompts(comparison),
        findings=findings(comparison),
        warnings=warnings(comparison),
    )


def _bars(comparison: Comparison) -> list[dict[str, Any]]:
    """Return where each difference is drawn, in percent of the width; 50 is 0."""
    differences = comparison.differences.values()
    ends = [end for d in differences for end in (d.low, d.mean, d.high)]
    reach = max((abs(end) for end in ends if end is not None), default=0.0) or 1.0
    return [_bar(difference, reach) for difference in differences]


def _bar(difference: Difference, reach: float) -> dict[str, Any]:
    def place(value: float) -> float:
        return round(50 + 48 * value / reach, 2)

    bar: dict[str, Any] = {"said": RELATIONS[difference.sign], "sign": difference.sign}
    if difference.mean is None:
        return bar | {"mean": None, "low": None}
    if difference.low is None or difference.high is None:
        return bar | {"mean": place(difference.mean), "low": None}
    low, high = place(difference.low), place(difference.high)
    return bar | {
        "mean": place(difference.mean),
        "low": low,
        "width": round(high - low, 2),
    }


def _prompts(comparison: Comparison) -> list[tuple[int, str, Sequence[str]]]:
    """Return each prompt with its value in each arm, and ``-`` where it has none."""
    values = [arm.values for arm in comparison.arms]
    return [
        (index + 1, prompt, [_cell(arm.get(index)) for arm in values])
        for index, prompt in comparison.prompts.items()
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
