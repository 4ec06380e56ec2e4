"""Plots of a comparison, as PNG; they need the extra ``lab``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.lab.plotting import (
    COLOURS,
    INK,
    MARKERS,
    SOFT,
    bare_axes,
    new_figure,
    save_png,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from socratic_agents.lab.compare.result import Comparison

__all__ = ("anytime_plot", "round_plot")

SIZE = (6.4, 4.0)
"""Inches; 200 pixels in each are sharp where it is shown 600 pixels wide."""

GAP = 0.062
"""Least distance of two labels, as a share of the plot's height."""


def anytime_plot(comparison: Comparison) -> bytes:
    """Draw the mean value of what each arm would return, by images spent.

    An arm that stopped early keeps its value.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    lines = {arm.name: arm.anytime(comparison.images) for arm in comparison.arms}
    return _plot(comparison, lines, across="images spent", up="of the returned image")


def round_plot(comparison: Comparison) -> bytes:
    """Draw the mean value of the images of each round, by arm.

    Only the prompts that came so far are in the mean of a late round.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    lines = {arm.name: arm.by_round() for arm in comparison.arms}
    return _plot(comparison, lines, across="round", up="of the images of a round")


def _plot(
    comparison: Comparison,
    lines: Mapping[str, Sequence[float | None]],
    *,
    across: str,
    up: str,
) -> bytes:
    figure = new_figure(*SIZE)
    axes = figure.add_axes((0.115, 0.135, 0.625, 0.82))
    colours = _colours(lines, comparison.against)
    ends = {}
    for place, (name, values) in enumerate(lines.items()):
        points = [(x, y) for x, y in enumerate(values, 1) if y is not None]
        if not points:
            continue
        ends[name] = points[-1]
        axes.plot(
            *zip(*points, strict=True),
            color=colours[name],
            linestyle="--" if name == comparison.against else "-",
            linewidth=1.8,
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            clip_on=False,
            zorder=3,
        )
    longest = max((len(values) for values in lines.values()), default=1)
    _dress(axes, longest)
    axes.set_xlabel(across, color=SOFT)
    # A metric's name is data: a dollar in it is no formula.
    axes.set_ylabel(f"mean {comparison.metric} {up}", color=SOFT, parse_math=False)
    _label(axes, ends, colours)
    return save_png(figure)


def _colours(names: Iterable[str], against: str) -> dict[str, str]:
    """Give ink to the arm that all are compared with, and colours to the others."""
    others = [name for name in names if name != against]
    coloured = {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(others)}
    return {**coloured, against: INK}


def _dress(axes: Axes, longest: int) -> None:
    """Leave out of the frame what says nothing."""
    from matplotlib.ticker import MaxNLocator

    bare_axes(axes, label_size=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = 0.04 * max(longest - 1, 1)
    axes.set_xlim(1 - margin, longest + margin)
    axes.margins(y=0.08)


def _label(
    axes: Axes,
    ends: Mapping[str, tuple[int, float]],
    colours: Mapping[str, str],
) -> None:
    """Write each arm's name beside the end of its line, the names apart."""
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    wanted = {n: (y - low) / (high - low) for n, (_, y) in ends.items()}
    for name, height in _spread(wanted).items():
        x, y = ends[name]
        axes.annotate(
            name if len(name) <= 16 else f"{name[:15]}…",
            xy=(x, y),
            xytext=(1.045, height),
            textcoords="axes fraction",
            color=INK,
            fontsize=10,
            va="center",
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[name],
                # Across the plot it must not be taken for a part of the line.
                "linestyle": "-" if x > right - 1 else (0, (1, 4)),
                "linewidth": 1.2,
                "shrinkA": 1,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )


def _spread(wanted: Mapping[str, float]) -> dict[str, float]:
    """Move heights between 0 and 1 apart, in order, as little as their order allows."""
    names = sorted(wanted, key=wanted.__getitem__)
    gap = min(GAP, 1 / max(len(names) - 1, 1))
    heights: list[float] = []
    for place, name in enumerate(names):
        floor = heights[-1] + gap if place else 0.0
        heights.append(max(wanted[name], floor))
    # What was pushed beyond the top comes back, and pushes the others down.
    ceiling = 1.0
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - gap
    return dict(zip(names, heights, strict=True))
