"""Create an account that can sign in with a name and a password."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from runapp.management.tables import check_tables_exist


class Command(BaseCommand):
    """Make an account that logs in with a name and a password."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("email")
        parser.add_argument("password")
        role = parser.add_mutually_exclusive_group()
        role.add_argument(
            "--superuser",
            action="store_true",
            help="can see every account's rows and use the admin site",
        )
        role.add_argument(
            "--operator",
            action="store_true",
            help="joins the operators' group (DATARUN_OPERATORS), which is created if necessary",
        )

    def handle(self, *args: Any, name: str, email: str, password: str, **options: Any) -> None:
        check_tables_exist()
        is_superuser, is_operator = options["superuser"], options["operator"]
        if is_operator and not settings.OPERATORS_GROUP:
            raise CommandError("DATARUN_OPERATORS is empty, so there are no operators.")
        name = User.normalize_username(name)
        check_account(name=name, email=email, password=password)
        create = User.objects.create_superuser if is_superuser else User.objects.create_user
        try:
            with transaction.atomic():
                account = create(name, email, password)
                if is_operator:
                    group, _ = Group.objects.get_or_create(name=settings.OPERATORS_GROUP)
                    account.groups.add(group)
        except IntegrityError as error:
            raise CommandError(f"The name {name!r} is already taken.") from error
        kind = "superuser" if is_superuser else "operator" if is_operator else "user"
        self.stdout.write(f"Created the {kind} {name}.")


def check_account(*, name: str, email: str, password: str) -> None:
    """Check what makes an account before anything is written.

    Raises
    ------
    CommandError
        When the name, the e-mail address or the password is not acceptable.
    """
    user = User(username=name, email=email)
    try:
        User._meta.get_field("username").clean(name, user)
        validate_email(email)
        validate_password(password, user=user)
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from error
