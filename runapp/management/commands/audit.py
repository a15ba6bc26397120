"""Print the audit: who did what, when, and from where."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runapp.http import streams
from runapp.lists.feed import list_events
from runapp.lists.filters import AuditFilter
from runapp.management.tables import check_tables_exist
from runapp.rows import AUDIT_COLUMNS, PIECE_ROWS, Row, RowReader


class Command(BaseCommand):
    """Print the audit's events, one a line, oldest first."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        for name in AuditFilter.base_filters:
            parser.add_argument(f"--{name.replace('_', '-')}", help=_HELP.get(name))
        parser.add_argument("--json", action="store_true", help="print a JSON list instead")

    def handle(self, *args: Any, **options: Any) -> None:
        check_tables_exist()
        asked = {name: options[name] for name in AuditFilter.base_filters}
        narrowed = AuditFilter(data=asked, queryset=list_events())
        if not narrowed.is_valid():
            raise CommandError(
                " ".join(f"--{name}: {' '.join(texts)}" for name, texts in narrowed.errors.items())
            )
        pieces = _read_pieces(narrowed.qs)
        if options["json"]:
            for text in streams.write_array(pieces):
                self.stdout.write(text.decode(), ending="")
            self.stdout.write("")
            return
        for piece in pieces:
            for row in piece:
                self.stdout.write(describe_event(row))


_HELP = {
    "action": "one action, or several separated by commas",
    "since": "from this moment on, such as 2026-01-31T12:00:00Z",
    "until": "before this moment",
}


def describe_event(row: Row) -> str:
    """Return an event as a line."""
    facts = json.dumps(row["facts"], sort_keys=True) if row["facts"] else ""
    what = f"{row['action']} {row['kind']} {row['target'] or '-'} of {row['owner'] or '-'} {facts}"
    who = f"{row['actor'] or '-'} by {row['via']} from {row['address'] or '-'}"
    line = f"{row['at']:%Y-%m-%d %H:%M:%S}Z {who}: {what}".rstrip()
    # Whoever names things does so as he likes, escape sequences and all.
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _read_pieces(events: Any) -> Iterator[list[Row]]:
    reader, after = RowReader(AUDIT_COLUMNS), 0
    while found := reader.fetch(events.filter(pk__gt=after)[:PIECE_ROWS]):
        yield reader.show(found)
        after = reader.get_pk(found[-1])
