"""The curves of a stress table: a panel for each dial; they need the extra ``lab``."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from socratic_agents.lab.plotting import (
    COLOURS,
    MARKERS,
    SOFT,
    bare_axes,
    new_figure,
    save_png,
)
from socratic_agents.lab.stats.bootstrap import paired_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.lab.stress.run import CellResult

__all__ = ("stress_plot",)

ACROSS = 3
PANEL = (3.2, 2.3)
"""Inches."""
DODGE = 0.012
"""How far curves stand beside each other, so that no interval covers another."""


def stress_plot(
    results: Sequence[CellResult], *, ours: str = "default", theirs: str = "best_of_n"
) -> bytes:
    """Draw how far one arm is above another against each dial, as a PNG file.

    Args:
        results: As from ``run_stress``.
        ours: The arm that is to be above.
        theirs: The other one.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    dials = list(dict.fromkeys(result.cell.dial for result in results))
    sizes = sorted({result.cell.images for result in results})
    rows = ceil(len(dials) / ACROSS)
    figure = new_figure(PANEL[0] * ACROSS, PANEL[1] * rows + 0.4, layout="constrained")
    panels = figure.subplots(rows, ACROSS, squeeze=False, sharey=True).flatten()
    for panel, dial in zip(panels, dials, strict=False):
        for place, images in enumerate(sizes):
            cells = [
                r for r in results if (r.cell.dial, r.cell.images) == (dial, images)
            ]
            found = [
                paired_difference(
                    dict(enumerate(one.agreement[ours])),
                    dict(enumerate(one.agreement[theirs])),
                )
                for one in cells
            ]
            means = [one.mean or 0.0 for one in found]
            below = [0.0 if f.low is None else (f.mean or 0) - f.low for f in found]
            above = [0.0 if f.high is None else f.high - (f.mean or 0) for f in found]
            beside = DODGE * (place - (len(sizes) - 1) / 2)
            panel.errorbar(
                [result.cell.value + beside for result in cells],
                means,
                yerr=[below, above],
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                markersize=4,
                linewidth=1.2,
                label=f"{images} images",
            )
        panel.axhline(0, color=SOFT, linewidth=0.8)
        panel.set_title(dial, fontsize=9, color=SOFT, parse_math=False)
        bare_axes(panel)
    for panel in panels[len(dials) :]:
        panel.set_visible(False)
    figure.supylabel(f"{ours} minus {theirs}", color=SOFT, fontsize=9, parse_math=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(sizes), frameon=False
    )
    return save_png(figure, dpi=110)
