"""Plots of a study, as PNG; they need the extra ``lab``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.lab.metrics.scores import summarise
from socratic_agents.lab.plotting import (
    COLOURS,
    INK,
    SOFT,
    bare_axes,
    new_figure,
    save_png,
)
from socratic_agents.lab.study.significance import differences
from socratic_agents.lab.study.stopping import stop_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from socratic_agents.lab.study.aggregate import ArmValues, StudyValues

__all__ = ("study_plots",)

BLUE, ORANGE, *_ = COLOURS
DPI = 160
WIDTH, ROW = 7.2, 0.34
"""Inches: of a plot, and of an arm's row in it."""


def study_plots(values: StudyValues) -> dict[str, tuple[str, bytes]]:
    """Return the plots: file name to caption and PNG.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    metric = values.metrics[0]
    drawn = {
        "differences.png": (
            (
                f"{metric} of what is returned, minus that of {values.against}: mean and "
                "95 % interval."
            ),
            _differences(values),
        ),
        "arms.png": (
            (
                f"{metric} of the first image, of what is returned, and the highest: mean "
                "and 95 % interval."
            ),
            _arms(values),
        ),
        "iterations.png": (
            (
                f"{metric} by iteration, at the end, of what is returned, and the highest: "
                "quartiles, whiskers to 1.5 times their distance, means as points."
            ),
            _iterations(values),
        ),
        "stops.png": (
            "Where the judge stops: share of prompts by iteration, with 95 % intervals.",
            _stops(values),
        ),
    }
    return {
        name: (summary, png)
        for name, (summary, png) in drawn.items()
        if png is not None
    }


def _differences(values: StudyValues) -> bytes | None:
    tests = differences(values, values.metrics[0], values.sets[values.whole])
    known = {n: t.difference for n, t in tests.items() if t.difference.mean is not None}
    if not known:
        return None

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=SOFT, linewidth=1)
        for place, one in enumerate(known.values()):
            colour = {1: BLUE, 0: SOFT, -1: ORANGE}[one.sign]
            _bar(axes, place, one.mean, one.low, one.high, colour)

    return _rows(list(known), draw, f"{values.metrics[0]}, difference")


def _arms(values: StudyValues) -> bytes | None:
    marks = {"first": (SOFT, "s"), "selected": (BLUE, "o"), "maximum": (ORANGE, "^")}
    metric, places = values.metrics[0], values.sets[values.whole]

    def draw(axes: Axes) -> None:
        for row, arm in enumerate(values.arms.values()):
            for step, (name, (colour, mark)) in enumerate(marks.items()):
                summary = summarise(arm.quantity(metric, name).take(places))
                place = row + 0.2 * (step - 1)
                label = name if row == 0 else None
                _bar(
                    axes,
                    place,
                    summary.mean,
                    summary.low,
                    summary.high,
                    colour,
                    mark,
                    label,
                )
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, loc="best")

    return _rows(list(values.arms), draw, metric, tall=1.7)


def _iterations(values: StudyValues) -> bytes | None:
    metric, places = values.metrics[0], values.sets[values.whole]
    arm = _longest(values)
    boxes = {
        str(n): scores.take(places).known
        for n, scores in enumerate(arm.by_round(metric))
    }
    for label, name in (("end", "terminated"), ("returned", "selected")):
        boxes[label] = arm.quantity(metric, name).take(places).known
    boxes["highest"] = arm.quantity(metric, "maximum").take(places).known
    boxes = {label: known for label, known in boxes.items() if known}
    if not boxes:
        return None
    figure = new_figure(WIDTH, 3.6)
    axes = figure.add_axes((0.1, 0.15, 0.88, 0.74))
    axes.boxplot(
        list(boxes.values()),
        tick_labels=list(boxes),
        showmeans=True,
        flierprops={"markersize": 3, "markeredgecolor": SOFT},
        medianprops={"color": INK},
        meanprops={"marker": "o", "markerfacecolor": BLUE, "markeredgecolor": "white"},
    )
    bare_axes(axes)
    axes.set_axisbelow(True)
    axes.set_title(arm.name, loc="left", fontsize=10, color=INK, parse_math=False)
    axes.set_ylabel(metric, color=SOFT, parse_math=False)
    axes.set_xlabel("iteration", color=SOFT)
    return save_png(figure, dpi=DPI)


def _stops(values: StudyValues) -> bytes | None:
    table = stop_table(values)
    rows = [row for row in table.rows if row[0] == values.whole]
    arms = list(dict.fromkeys(row[1] for row in rows))
    if not arms:
        return None
    figure = new_figure(WIDTH, 3.4)
    axes = figure.add_axes((0.1, 0.15, 0.88, 0.8))
    labels = list(dict.fromkeys(row[2] for row in rows))
    labels.sort(key=lambda label: (label == "never", label))
    wide = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        of = {row[2]: row for row in rows if row[1] == arm}
        for label, row in of.items():
            share, low, high = row[5], row[6], row[7]
            x = labels.index(label) + (number - (len(arms) - 1) / 2) * wide
            axes.bar(
                x,
                share,
                width=wide * 0.9,
                color=f"C{number}",
                label=arm if label == labels[0] else None,
            )
            ends = [[share - low], [high - share]]
            axes.errorbar(x, share, yerr=ends, color=INK, linewidth=0.8, capsize=2)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, None)
    bare_axes(axes)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    axes.set_xlabel("iteration at which the judge is satisfied", color=SOFT)
    axes.set_ylabel("share of prompts", color=SOFT)
    return save_png(figure, dpi=DPI)


def _longest(values: StudyValues) -> ArmValues:
    """Return the arm that shows the most iterations, and does not stop if one does not."""
    metric = values.metrics[0]
    kept_on = {one["continued_by"] for one in values.manifest["arms"]}
    arms = [values.arms[n] for n in values.arms if n in kept_on]
    return max(arms or values.arms.values(), key=lambda arm: len(arm.by_round(metric)))


def _rows(
    names: Sequence[str], draw: Callable[[Axes], None], label: str, *, tall: float = 1.0
) -> bytes:
    """Draw a row for each name, the first at the top."""
    height = 1.0 + ROW * tall * len(names)
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0.28, 0.6 / height, 0.68, 1 - 0.75 / height))
    draw(axes)
    axes.set_yticks(range(len(names)), [name[:28] for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    bare_axes(axes, grid="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(label, color=SOFT, parse_math=False)
    return save_png(figure, dpi=DPI)


def _bar(
    axes: Axes,
    place: float,
    mean: float | None,
    low: float | None,
    high: float | None,
    colour: str,
    mark: str = "o",
    label: str | None = None,
) -> None:
    if mean is None:
        return
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.6)
    axes.plot(
        [mean], [place], marker=mark, color=colour, markersize=6, ls="", label=label
    )
