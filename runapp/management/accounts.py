"""What the commands that are about one account share."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.management.base import CommandError


def find_account(name: str) -> User:
    """Return the account of a name.

    Raises
    ------
    CommandError
        When there is none.
    """
    try:
        account: User = User.objects.get_by_natural_key(User.normalize_username(name))
    except User.DoesNotExist as error:
        raise CommandError(f"There is no account {name!r}. Use createuser to create it.") from error
    return account
