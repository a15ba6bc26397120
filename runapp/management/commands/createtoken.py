"""Create a token for an account and print its key, and nothing else."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runapp.accounts.tokens import create_token
from runapp.common.exceptions import DatarunError
from runapp.management.accounts import find_account
from runapp.management.tables import check_tables_exist
from runapp.models import AccessToken
from runapp.models.accounts import MOST_TOKEN_DAYS


class Command(BaseCommand):
    """Make a token for an account; the key is shown once and stored only as a hash."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--name",
            dest="label",
            type=_read_label,
            help="the token's name; the default is a number",
        )
        parser.add_argument(
            "--days",
            type=_read_days,
            metavar="N",
            help="how many days it is valid; the default is for ever",
        )

    def handle(
        self, *args: Any, name: str, label: str | None, days: int | None, **options: Any
    ) -> None:
        check_tables_exist()
        account = find_account(name)
        if not account.is_active:
            raise CommandError(f"The account {name!r} is disabled.")
        try:
            _, key = create_token(account=account, name=label, expires_in_days=days)
        except DatarunError as error:
            raise CommandError(error.message) from error
        self.stdout.write(key)


def _read_label(text: str) -> str:
    try:
        AccessToken._meta.get_field("name").run_validators(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(" ".join(error.messages)) from error
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be blank")
    return text.strip()


def _read_days(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_TOKEN_DAYS))
    if not is_number or not 1 <= int(text) <= MOST_TOKEN_DAYS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_TOKEN_DAYS}")
    return int(text)
