"""List the tokens of an account, without their keys."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand

from runapp.accounts.tokens import list_live
from runapp.management.accounts import find_account
from runapp.management.tables import check_tables_exist, show_table


class Command(BaseCommand):
    """Print one row for each token that has not expired."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        check_tables_exist()
        rows = [
            (
                token.public_id,
                token.name,
                _show(token.created),
                _show(token.expiry),
                _show(token.last_used_at),
            )
            for token in list_live(account=find_account(name))
        ]
        heads = ("id", "name", "created", "expires", "last used")
        self.stdout.write(show_table(heads, rows) if rows else "No tokens.\n", ending="")


def _show(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}Z"
