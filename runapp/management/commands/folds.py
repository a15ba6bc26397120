"""Lists folds of all accounts: their states, why each waits or failed, what it used."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from runapp.board.fold_lines import Line, Use, read_lines
from runapp.management.tables import check_tables_exist
from runapp.search import ERROR_CODES, PHASES, PRIORITIES, STATES, Search

MOST_LINES = 50
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))


class Command(BaseCommand):
    """Print one row for each fold that fits, the newest first."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--state", default="", help=f"one of: {', '.join([*STATES, *PHASES])}")
        add("--error-code", default="", help=f"one of: {', '.join(ERROR_CODES)}")
        add("--dataset", default="", help="its name or its id")
        add("--submission", default="", help="its id, as its client gave it")
        add("--owner", default="", help="the account that posted it")
        add("--priority", default="", help=f"one of: {', '.join(PRIORITIES)}")
        add("--worker", default="", help="what the name of its worker or slot begins with")
        add("--older-than", default="", help="posted longer ago than: 90s, 30m, 2h, 1d")
        add("--limit", type=int, default=MOST_LINES, help="most rows (%(default)s)")
        add("--json", action="store_true", help="print a JSON list instead")

    def handle(self, *args: Any, **options: Any) -> None:
        check_tables_exist()
        search = Search(**{field.name: options[field.name] for field in fields(Search)})
        most = max(options["limit"], 0)
        found = read_lines(search.find(), most=most + 1)
        lines, has_more = found[:most], len(found) > most
        if options["json"]:
            self.stdout.write(json.dumps([line.to_json() for line in lines]))
        else:
            self.stdout.write(show(lines), ending="")
        for hint in give_hints(search, n_lines=len(lines), has_more=has_more):
            # Beside the list, so that it stays JSON.
            self.stderr.write(hint)


def give_hints(search: Search, *, n_lines: int, has_more: bool) -> list[str]:
    """Return what to tell of what is not shown."""
    if has_more:
        return [f"There are more than {n_lines}; --limit shows more."]
    if n_lines:
        return []
    return search.explain() or ["No fold fits."]


def show(lines: list[Line]) -> str:
    """Return the folds as aligned text, as wide as it needs to be."""
    table = Table(box=None, pad_edge=False, header_style="")
    heads = ("fold", "owner", "dataset", "submission", "state", "because", "priority", "age")
    for head in (*heads, "attempt", "worker", "wall s", "CPU s", "memory MB"):
        table.add_column(head, no_wrap=True)
    for line in lines:
        table.add_row(
            _show(line.fold),
            _show(line.owner),
            _show(f"{line.dataset} ({line.dataset_id})"),
            _show(line.submission),
            f"{line.state}, {line.phase}" if line.phase != "done" else line.state,
            _show(line.reason),
            line.priority,
            show_age(line.age_seconds),
            str(line.attempt),
            _show(line.worker),
            *(show_use(use) for use in (line.wall, line.cpu, line.memory)),
        )
    console = Console(highlight=False, markup=False, width=400, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "".join(f"{row.rstrip()}\n" for row in capture.get().splitlines())


def _show(value: object) -> str:
    # Accounts name their datasets as they like, escape sequences and all.
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "-"


def show_age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def show_use(use: Use) -> str:
    return f"{'-' if use.used is None else f'{use.used:.3g}'}/{use.limit:g}"
