"""Where the figures of `bench.polling` go: the terminal, a page and a plot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.overhead.environments import make_cache, make_environment
from bench.overhead.report import render_table
from bench.overhead.work import Unavailable
from bench.polling import plot as plot_module
from bench.polling.report import HEADERS, Report, make_aims, make_figures, make_rows

_TITLE = "What a poller waits for, by the number of folds of its account"


def write_page(reports: Sequence[Report], machine: Sequence[str], folder: Path) -> str:
    """Write `polling.md` and `polling.png` into a folder; return the page's text."""
    folder.mkdir(parents=True, exist_ok=True)
    plot = _draw(reports, machine, folder / "polling.png")
    n_rounds = max(len(report.rounds) for report in reports)
    sections = [
        f"# {_TITLE}",
        "Over HTTP with a token, from sending a request to having read all of its answer: median "
        f"[minimum-maximum] of {n_rounds} rounds. Beside it, in the same round, a "
        "`ModelSerializer` of Django REST framework on the same rows and columns, under the same "
        "server with the same authentication: whole, in pages by offset, filtered by the number "
        "of the change, behind Django's conditional GET, and with predictions in the same wire "
        "form. Memory is what the server's process took of its own during one answer, at most.",
        *(part for report in reports for part in _make_section(report)),
        plot,
        "\n".join(f"* {line}" for line in machine),
    ]
    text = "\n\n".join(sections) + "\n"
    (folder / "polling.md").write_text(text)
    return text


def _make_section(report: Report) -> tuple[str, ...]:
    return (
        f"## {report.database}",
        render_table(HEADERS, make_rows(report)),
        render_table(("aim", "figure", ""), make_aims(report)),
    )


def _draw(reports: Sequence[Report], machine: Sequence[str], path: Path) -> str:
    """Draw the plot; return the line about it, or why there is none."""
    figures = make_cache() / "polling.json"
    figures.write_text(
        json.dumps(make_figures(reports, title=_TITLE, caption="; ".join(machine[:2])))
    )
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
    return "![Times by the number of folds](polling.png)"
