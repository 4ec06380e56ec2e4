"""What all plots of the lab share: colours, a figure, and its PNG; needs extra ``lab``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from socratic_agents.core.extras import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ("bare_axes", "new_figure", "save_png")

INK, SOFT, LINE = "#1d2129", "#5c6675", "#e4e1da"
"""The colours of the report."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind eyes too.

Source: Okabe and Ito, "Color Universal Design" (2008), without its yellow, which
is too light for a line on white.
"""

MARKERS = ("o", "s", "^", "D", "v", ">")


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty white figure.

    Args:
        width: In inches.
        height: In inches.
        options: As for ``matplotlib.figure.Figure``.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    with needs_extra("to draw plots"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), facecolor="white", **options)


def bare_axes(axes: Axes, *, grid: str = "y", label_size: int = 9) -> None:
    """Leave out of the frame what says nothing.

    Args:
        axes: Of a plot.
        grid: The axis whose values have lines: ``x`` or ``y``.
        label_size: Of the ticks, in points.
    """
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.grid(axis=grid, color=LINE, linewidth=0.8)  # type: ignore[arg-type] # one of two
    axes.tick_params(colors=SOFT, length=0, labelsize=label_size)


def save_png(figure: Figure, *, dpi: int = 200) -> bytes:
    """Return a figure as a PNG file, the same each time.

    Args:
        figure: What was drawn.
        dpi: Pixels in an inch.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
