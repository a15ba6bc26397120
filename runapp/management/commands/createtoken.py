"""Makes a token and prints its key, and nothing else."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from knox.models import AuthToken

from runapp.management.tables import check_tables_exist


class Command(BaseCommand):
    """Make a token for an account; the key is shown once and stored only as a hash."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        check_tables_exist()
        try:
            user = User.objects.get_by_natural_key(User.normalize_username(name))
        except User.DoesNotExist as error:
            raise CommandError(f"There is no account {name!r}; make it with createuser.") from error
        if not user.is_active:
            raise CommandError(f"The account {name!r} is disabled.")
        with transaction.atomic():  # with its event
            _, key = AuthToken.objects.create(user)
        self.stdout.write(key)
