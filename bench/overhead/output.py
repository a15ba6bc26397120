"""Where the figures of `bench.overhead` go: the terminal, a page and a plot."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.overhead import plot as plot_module
from bench.overhead.environments import make_cache, make_environment
from bench.overhead.report import (
    REFERENCE,
    Entry,
    Report,
    list_part_names,
    make_part_rows,
    make_rows,
    render_table,
    show_number,
    spread_ratios,
    tell_starts,
)
from bench.overhead.server import START_PART
from bench.overhead.work import Unavailable

# The contenders that are datarun itself, and the two whose folds' times have names.
OWN = ("runner", "datarun")
NAMED = (REFERENCE, "runner")
PART_HEADERS = ("part", "bare", "runner alone")


def write_page(report: Report, folder: Path, *, plot: str) -> None:
    """Write `overhead.md`; `plot` is the line about the plot."""
    sections = [
        "# What a fold costs beyond its own computation",
        "Time from the first start to the last finish over that of two bare processes that train "
        "the same folds at once, measured in the same round: median [minimum-maximum] of "
        f"{_tell_rounds(report)}, two folds at a time.",
        "\n".join(f"* {name}: {title}" for name, title in report.works.items()),
        render_table(_make_headers(report), make_rows(report)),
        *_tell_start(report),
        *(part for work in _list_named_works(report) for part in _make_parts_section(report, work)),
        plot,
        "\n".join(f"* {line}" for line in report.machine),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overhead.md").write_text("\n\n".join(sections) + "\n")


def _tell_rounds(report: Report) -> str:
    count = len({one.round for one in report.samples})
    return f"{count} round{'' if count == 1 else 's'}"


def _make_headers(report: Report) -> list[str]:
    return ["contender", "isolation", *(f"{name} folds" for name in report.works), "remarks"]


def _tell_start(report: Report) -> list[str]:
    if "datarun" not in {entry.name for entry in report.entries}:
        return []
    start = tell_starts(report, contender="datarun", part=START_PART)
    return [f"From claim to the submission's first line, both slots busy: {start}."]


def _list_named_works(report: Report) -> list[str]:
    """List the works of which the runner's folds have named parts."""
    return [
        work for work in report.works if list_part_names(report, work=work, contenders=["runner"])
    ]


def _head_parts(work: str) -> str:
    return (
        f"What one {work} fold is made of, by the marks of its stages: ms, median of all folds "
        "(medians of parts need not add up)."
    )


def _make_parts_section(report: Report, work: str) -> list[str]:
    rows = make_part_rows(report, work=work, contenders=NAMED)
    return [_head_parts(work), render_table(PART_HEADERS, rows)]


def print_report(report: Report) -> None:
    """Print the tables on the terminal."""
    console = Console()
    title = "Time over that of two bare processes, median [minimum-maximum]"
    console.print(_make_table(_make_headers(report), make_rows(report), title=title))
    for work in _list_named_works(report):
        rows = make_part_rows(report, work=work, contenders=NAMED)
        console.print(_make_table(PART_HEADERS, rows, title=_head_parts(work)))
    for line in (*_tell_start(report), *report.machine):
        console.print(line, markup=False, highlight=False)


def _make_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> Table:
    table = Table(title=escape(title), title_justify="left", show_lines=True)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def draw_plot(report: Report, folder: Path) -> str:
    """Draw `overhead.png`; return the line about it, or why there is none."""
    figures = make_cache() / "overhead.json"
    figures.write_text(json.dumps(make_figures(report)))
    path = folder / "overhead.png"
    # One of an earlier run would pass for this one's.
    path.unlink(missing_ok=True)
    try:
        python = make_environment("matplotlib") / "python"
        command = [str(python), plot_module.__file__, str(figures), str(path)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except Unavailable as error:
        return f"No plot: {error}."
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return "No plot: drawing it failed."
    return "![The ratios as bars](overhead.png)"


def make_figures(report: Report) -> dict[str, Any]:
    """Return what the plot shows, as plain data: labels once, and for each panel its bars."""
    peers = [entry for entry in report.entries if entry.name != REFERENCE]
    first = next(iter(report.works))
    peers.sort(key=lambda entry: _get_median(report, first, entry.name))
    return {
        "title": "Training folds two at a time, over two bare processes doing the same "
        f"(median and range of {_tell_rounds(report)})",
        "caption": "; ".join(report.machine[:2]),
        "labels": [entry.title for entry in peers],
        "is_own": [entry.name in OWN for entry in peers],
        "panels": [
            {"title": f"{work}: {title}", "bars": [_make_bar(report, work, one) for one in peers]}
            for work, title in report.works.items()
        ],
    }


def _get_median(report: Report, work: str, contender: str) -> float:
    spread = spread_ratios(report.samples, work=work, contender=contender)
    return math.inf if spread is None else spread.median


def _make_bar(report: Report, work: str, entry: Entry) -> dict[str, Any] | None:
    spread = spread_ratios(report.samples, work=work, contender=entry.name)
    if spread is None:
        return None
    return {**asdict(spread), "shown": show_number(spread.median)}
