"""Revoke a token of an account."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runapp.accounts.tokens import revoke_token
from runapp.common.exceptions import NotFound
from runapp.management.accounts import find_account
from runapp.management.tables import check_tables_exist


class Command(BaseCommand):
    """Revoke a token: requests that bear it are refused from now on."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("id", help="the id shown by manage.py tokens")

    def handle(self, *args: Any, name: str, id: str, **options: Any) -> None:
        check_tables_exist()
        try:
            revoke_token(account=find_account(name), public_id=id)
        except NotFound as error:
            raise CommandError(f"The account {name!r} has no token {id!r}.") from error
        self.stdout.write(f"Revoked the token {id} of {name}.")
