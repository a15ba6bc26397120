"""Disable an account: everything that belongs to it stops at once; nothing is deleted."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from runapp.management.accounts import find_account
from runapp.management.tables import check_tables_exist
from runapp.scheduling.disabled_accounts import disable_account


class Command(BaseCommand):
    """Disable an account."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        check_tables_exist()
        disable_account(account=find_account(name))
        self.stdout.write(f"Disabled the account {name}.")
