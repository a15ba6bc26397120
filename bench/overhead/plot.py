"""Draw the ratios of `bench.overhead`: `python plot.py FIGURES.json PLOT.png`.

Runs in an environment that has matplotlib and nothing of the project, so it imports none of it.
"""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

# Where a linear axis would squeeze all bars but one.
LOG_FROM = 8
LABEL_WIDTH, TITLE_WIDTH = 26, 48
OWN, OTHER = "#b5482a", "#5b7c99"


def main() -> None:
    """Draw one panel per work."""
    figures: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    panels, labels = figures["panels"], figures["labels"]
    size = (5 * len(panels) + 3, 1.8 + 0.55 * len(labels))
    canvas, axes = pyplot.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True)
    for axis, panel in zip(axes[0], panels, strict=True):
        draw_panel(axis, panel, are_own=figures["is_own"])
    wrapped = [textwrap.fill(label, LABEL_WIDTH) for label in labels]
    axes[0][0].set_yticks(range(len(labels)), wrapped, fontsize=9)
    # The axis is shared: turned for one panel, it is turned for all.
    axes[0][0].invert_yaxis()
    canvas.suptitle(figures["title"], fontsize=11)
    canvas.supxlabel(figures["caption"], fontsize=7, color="#555555")
    canvas.tight_layout()
    canvas.savefig(sys.argv[2], dpi=150)


def draw_panel(axis: Any, panel: dict[str, Any], *, are_own: list[bool]) -> None:
    """Draw horizontal bars of the medians, with whiskers from minimum to maximum."""
    bars = [(place, bar) for place, bar in enumerate(panel["bars"]) if bar is not None]
    axis.set_title(textwrap.fill(panel["title"], TITLE_WIDTH), fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.axvline(1, color="black", linewidth=0.8, linestyle="--")
    for place, bar in bars:
        whisker = [[bar["median"] - bar["low"]], [bar["high"] - bar["median"]]]
        colour = OWN if are_own[place] else OTHER
        axis.barh(place, bar["median"], xerr=whisker, color=colour, capsize=3, height=0.65)
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        axis.annotate(bar["shown"], (bar["high"], place), (6, 0), **beside)
    if bars:
        _scale(axis, low=min(one["low"] for _, one in bars), high=max(b["high"] for _, b in bars))


def _scale(axis: Any, *, low: float, high: float) -> None:
    if high <= LOG_FROM:
        axis.set_xlim(0, high * 1.15)
        axis.set_xlabel("times as long as bare")
        return
    axis.set_xscale("log")
    axis.set_xlim(min(0.8, low * 0.9), high * 2.2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("times as long as bare, log scale")


if __name__ == "__main__":
    main()
