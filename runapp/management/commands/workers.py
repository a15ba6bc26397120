"""List the workers: where they are, what they are running, when they were last heard from."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from runapp.board.roster import Entry, Job, list_entries
from runapp.management.tables import check_tables_exist, show_table


class Command(BaseCommand):
    """Print one row for each worker, and one for each run of it."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list instead")

    def handle(self, *args: Any, **options: Any) -> None:
        check_tables_exist()
        entries = list_entries()
        if options["json"]:
            self.stdout.write(json.dumps([entry.to_json() for entry in entries]))
            return
        if entries:
            self.stdout.write(show(entries), ending="")
        if not any(entry.is_live for entry in entries):
            self.stdout.write("No worker is live.")


def show(entries: list[Entry]) -> str:
    """Return the workers as aligned text, as wide as it needs to be."""
    rows: list[Sequence[str]] = []
    for entry in entries:
        runs = [describe_job(job) for job in entry.jobs] or ["-"]
        rows.append(
            (
                entry.name,
                "live" if entry.is_live else "LOST",
                f"{len(entry.jobs)}/{entry.slots}",
                f"{entry.started_at:%Y-%m-%d %H:%M:%S}Z",
                f"{entry.seen_seconds:.0f} s ago",
                runs[0],
                describe_missing(entry.missing),
                ", ".join(f"{name} {version}" for name, version in sorted(entry.versions.items())),
            )
        )
        rows += [("", "", "", "", "", run) for run in runs[1:]]
    heads = ("worker", "state", "busy", "since", "heard from", "running", "missing", "versions")
    return show_table(heads, rows)


def describe_job(job: Job) -> str:
    # Accounts name their datasets as they like, escape sequences and all.
    what = "".join(letter if letter.isprintable() else "?" for letter in job.what)
    return what if job.seconds is None else f"{what}, {job.seconds:.0f} s"


def describe_missing(missing: tuple[str, ...] | None) -> str:
    if missing is None:
        return "not tested yet"
    return ", ".join(missing) or "-"
