"""List folds of all accounts: their state, why each is waiting or failed, what it used.

With --cancel, --rerun or --set-priority, change all matching folds instead.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from runapp.common.error_codes import ERROR_CODES
from runapp.management.bulk_actions import run_bulk_action
from runapp.management.tables import check_tables_exist
from runapp.ops.actions import CANCEL, HIGH, LOW, RERUN, FoldAction
from runapp.ops.fold_rows import Line, Use, read_lines
from runapp.ops.search import PHASES, PRIORITIES, STATES, Search

MOST_LINES = 50
_NAMES = [field.name for field in fields(Search)]
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))


class Command(BaseCommand):
    """Print one row for each fold that fits, the newest first, or do something to all of them.

    The exit status is 1 when it was not done to one of them.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--state", help=f"one of: {', '.join([*STATES, *PHASES])}")
        add("--error-code", help=f"one of: {', '.join(ERROR_CODES)}")
        add("--dataset", help="the dataset's name or id")
        add("--submission", help="the submission's id, as its client chose it")
        add("--owner", help="the account that posted it")
        add("--priority", help=f"one of: {', '.join(PRIORITIES)}")
        add("--worker", help="the beginning of the worker's or slot's name")
        add("--older-than", help="posted longer ago than this: 90s, 30m, 2h, 1d")
        add("--limit", type=int, help=f"the most rows to show (default {MOST_LINES})")
        add("--json", action="store_true", help="print a JSON list instead")
        add_actions(parser)
        add("--yes", action="store_true", help="do not ask for confirmation")

    def handle(self, *args: Any, **options: Any) -> None:
        check_tables_exist()
        check_options(options)
        search = Search(**{name: options[name] or "" for name in _NAMES})
        if options["deed"] is None:
            self._list(search, options)
            return
        run_bulk_action(
            action=options["deed"],
            search=search,
            is_sure=options["yes"],
            out=self.stdout,
            errors=self.stderr,
        )

    def _list(self, search: Search, options: dict[str, Any]) -> None:
        most = MOST_LINES if options["limit"] is None else max(options["limit"], 0)
        found = read_lines(search.find(), most=most + 1)
        lines, has_more = found[:most], len(found) > most
        if options["json"]:
            self.stdout.write(json.dumps([line.to_json() for line in lines]))
        else:
            self.stdout.write(show(lines), ending="")
        for hint in give_hints(search, n_lines=len(lines), has_more=has_more):
            # Beside the list, so that it stays JSON.
            self.stderr.write(hint)


def add_actions(parser: ArgumentParser) -> None:
    """Add what can be done to the folds that fit, one at a time."""
    add = parser.add_mutually_exclusive_group().add_argument
    for action, text in (
        (CANCEL, "cancel all matching folds that are waiting or running"),
        (RERUN, "put all matching folds that have ended back into the queue"),
    ):
        add(f"--{action.name}", dest="deed", action="store_const", const=action, help=text)
    text = "set this priority for all matching folds that are waiting"
    add("--set-priority", dest="deed", type=read_priority, metavar="{H,L}", help=text)


def read_priority(text: str) -> FoldAction:
    for action in (HIGH, LOW):
        if action.priority == text:
            return action
    raise ArgumentTypeError(f'"{text}" is not a valid priority (use {" or ".join(PRIORITIES)})')


def check_options(options: dict[str, Any]) -> None:
    """Raise CommandError when an option means nothing beside the others."""
    is_list = options["deed"] is None
    if is_list and options["yes"]:
        raise CommandError("--yes can only be used with --cancel, --rerun or --set-priority.")
    if not is_list and (options["json"] or options["limit"] is not None):
        raise CommandError(
            "--limit and --json only apply to the list; changes are made to all matching folds."
        )
    # A variable of a script that is empty by mistake would have all folds fit.
    empty = [name for name in _NAMES if options[name] == ""]
    if not is_list and empty:
        option = empty[0].replace("_", "-")
        raise CommandError(f"--{option} is empty; leave it out to match everything.")


def give_hints(search: Search, *, n_lines: int, has_more: bool) -> list[str]:
    """Return what to tell of what is not shown."""
    if has_more:
        return [f"There are more than {n_lines} matching folds; use --limit to see more."]
    if n_lines:
        return []
    return search.explain() or ["No folds match."]


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
