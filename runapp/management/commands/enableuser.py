"""Enable an account again: it can sign in as before, and its waiting folds continue."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from runapp.management.accounts import find_account
from runapp.management.tables import check_tables_exist
from runapp.scheduling.disabled_accounts import enable_account


class Command(BaseCommand):
    """Enable an account."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        check_tables_exist()
        enable_account(account=find_account(name))
        self.stdout.write(f"Enabled the account {name}.")
