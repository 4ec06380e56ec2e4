"""The results of a bench as tables and as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

__all__ = ("device_table", "efficiency_plot", "efficiency_table")

OURS = "ours"


def efficiency_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table for people: percent of the bound, a column for each scheduler.

    Args:
        results: As from ``simulate``; not empty.
    """
    names = list(dict.fromkeys(str(one["contender"]) for one in results))
    cells = {
        (one["curve"], one["llm_seconds"], one["n"], one["contender"]): one
        for one in results
    }
    head = ["percent of the bound", *names]
    rows = []
    for place in dict.fromkeys(place[:3] for place in cells):
        curve, seconds, loops = place
        found = [cells.get((*place, name)) for name in names]
        percents = [f"{one['efficiency']:.1%}" if one else "-" for one in found]
        rows.append([f"{curve}, llm {seconds:g} s, n {loops}", *percents])
    return _aligned([head, *rows])


def device_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table for people: what each scheduler reached on a device.

    Args:
        results: As from ``run_benchmark``; not empty.
    """
    head = ["contender", "loops/s", "lowest", "highest", "of bound", "x sequential"]
    head += ["images/s", "busy", "lag p99 ms", "cpu ms/image", "peak MB"]
    parts = []
    for place in dict.fromkeys(map(_place, results)):
        rows = [
            [str(one["contender"]), *_cells(one)]
            for one in results
            if _place(one) == place
        ]
        curve, seconds, loops = place
        parts.append(
            f"{curve}, llm {seconds:g} s, n {loops}\n{_aligned([head, *rows])}"
        )
    limit = results[0]["batching_limit"]
    parts.append(f"batching can bring {limit:.2f} times what single items do\n")
    return "\n".join(parts)


def _place(one: Mapping[str, Any]) -> tuple[str, float, int]:
    return one["curve"], one["llm_seconds"], one["n"]


def _cells(one: Mapping[str, Any]) -> list[str]:
    low, high = one["loops_per_second_range"]
    return [
        f"{one['loops_per_second']:.3f}",
        f"{low:.3f}",
        f"{high:.3f}",
        f"{one['efficiency']:.1%}",
        f"{one['ratio_to_sequential']:.2f}",
        f"{one['images_per_second']:.2f}",
        f"{one['busy']:.1%}",
        f"{1000 * one['event_loop_lag_p99']:.1f}",
        f"{one['cpu_ms_per_image']:.1f}",
        f"{one['peak_memory_mb']:.0f}",
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def efficiency_plot(results: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the efficiency by loops in flight, a panel for each setting, as PNG.

    Args:
        results: As from ``simulate``; not empty.

    Raises:
        ConfigurationError: If matplotlib is not installed.
    """
    settings = list(dict.fromkeys((r["curve"], r["llm_seconds"]) for r in results))
    names = list(dict.fromkeys(str(one["contender"]) for one in results))
    rows = (len(settings) + 1) // 2
    figure = new_figure(9.0, 3.2 * rows + 0.7)
    panels = figure.subplots(rows, 2, squeeze=False, sharey=True).flatten()
    for panel, setting in zip(panels, settings, strict=False):
        curve, seconds = setting
        shown = [r for r in results if (r["curve"], r["llm_seconds"]) == setting]
        _draw(panel, shown, names)
        title = f"{curve}, {seconds:g} s a call of the language model"
        panel.set_title(title, color=INK, fontsize=10, loc="left")
    for panel in panels[len(settings) :]:
        panel.set_visible(False)
    figure.supylabel("share of the bound", color=SOFT, fontsize=10)
    figure.supxlabel("loops in flight", color=SOFT, fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(names), frameon=False
    )
    figure.set_layout_engine("constrained")
    return save_png(figure)


def _draw(
    panel: Axes, results: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> None:
    """Draw a line for each scheduler."""
    others = [name for name in names if name != OURS]
    for name in names:
        points = [(r["n"], r["efficiency"]) for r in results if r["contender"] == name]
        place = others.index(name) if name in others else 0
        panel.plot(
            *zip(*sorted(points), strict=True),
            label=name,
            color=INK if name == OURS else COLOURS[place % len(COLOURS)],
            linestyle="-" if place < len(COLOURS) else "--",
            linewidth=2.4 if name == OURS else 1.4,
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            zorder=4 if name == OURS else 3,
        )
    loops = sorted({r["n"] for r in results})
    panel.set_xscale("log", base=2)
    panel.set_xticks(loops, [str(number) for number in loops])
    panel.minorticks_off()
    panel.set_ylim(0, 1.05)
    bare_axes(panel)
