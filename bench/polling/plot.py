"""Draw the times of `bench.polling`: `python plot.py FIGURES.json PLOT.png`.

Runs in an environment that has matplotlib and nothing of the project, so it imports none of it.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

N_COLUMNS = 3
COLOURS = {"datarun": "#b5482a", "plain": "#5b7c99"}
NAMES = {"datarun": "datarun", "plain": "plain serializer"}
STYLES = {"sqlite": ("-", "o"), "postgresql": ("--", "s")}


def main() -> None:
    """Draw one panel per request, and the legend where a last one would be."""
    figures: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    panels = figures["panels"]
    n_rows = len(panels) // N_COLUMNS + 1
    size = (4.2 * N_COLUMNS, 3.4 * n_rows + 0.6)
    canvas, axes = pyplot.subplots(n_rows, N_COLUMNS, figsize=size, sharey=True, squeeze=False)
    flat = list(axes.flat)
    for axis, panel in zip(flat, panels, strict=False):
        draw_panel(axis, panel)
    for axis in flat[len(panels) :]:
        axis.set_axis_off()
    handles, labels = flat[0].get_legend_handles_labels()
    flat[len(panels)].legend(handles, labels, loc="center", frameon=False, fontsize=10)
    for row in axes:
        row[0].set_ylabel("milliseconds")
    canvas.suptitle(figures["title"], fontsize=12)
    canvas.supxlabel(figures["caption"], fontsize=7, color="#555555")
    canvas.tight_layout()
    canvas.savefig(sys.argv[2], dpi=150)


def draw_panel(axis: Any, panel: dict[str, Any]) -> None:
    """Draw lines through the medians, with whiskers from minimum to maximum."""
    axis.set_title(panel["title"], fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(which="major", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_xscale("log")
    axis.set_yscale("log")
    sizes = sorted({one["n_folds"] for line in panel["lines"] for one in line["points"]})
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.tick_params(labelleft=True)
    axis.set_xlabel("folds")
    for line in panel["lines"]:
        draw_line(axis, line)


def draw_line(axis: Any, line: dict[str, Any]) -> None:
    """Draw one contender on one database."""
    points = line["points"]
    median, low, high = ([1e3 * one[name] for one in points] for name in ("median", "low", "high"))
    whiskers = [
        [middle - least for middle, least in zip(median, low, strict=True)],
        [most - middle for middle, most in zip(median, high, strict=True)],
    ]
    style, marker = STYLES[line["database"]]
    axis.errorbar(
        [one["n_folds"] for one in points],
        median,
        yerr=whiskers,
        color=COLOURS[line["contender"]],
        linestyle=style,
        marker=marker,
        markersize=5,
        capsize=3,
        linewidth=1.5,
        label=f"{NAMES[line['contender']]}, {line['database']}",
    )


if __name__ == "__main__":
    main()
