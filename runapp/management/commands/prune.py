"""Removes what nobody needs any more."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runapp.common.exceptions import StorageError
from runapp.datasets.retention import Removal, prune
from runapp.management.tables import check_tables_exist

# A century: databases know no dates before their first.
MOST_DAYS = 36_500


class Command(BaseCommand):
    help = (
        "Remove files that no row refers to and that are more than a day old, rows of lost "
        "workers, and expired sessions and tokens. May be run while the service is running."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days",
            type=_read_days,
            metavar="N",
            help="also remove the predictions and attempts of folds that finished more than N days "
            "ago and were handed out; the folds stay",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be removed, but remove nothing"
        )

    def handle(self, *, days: int | None, dry_run: bool, **rest: Any) -> None:
        check_tables_exist()
        verb = "would remove" if dry_run else "removed"
        try:
            for removal in prune(days=days, is_dry_run=dry_run):
                self.stdout.write(f"{verb} {_describe(removal)}")
        except StorageError as error:
            raise CommandError(f"{error.message} ({error.__cause__})") from error


def _read_days(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_DAYS))
    if not is_number or not 1 <= int(text) <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_DAYS}")
    return int(text)


def _describe(removal: Removal) -> str:
    size = "" if removal.n_bytes is None else f" ({removal.n_bytes} bytes)"
    return f"{removal.count} {removal.what}{size}"
