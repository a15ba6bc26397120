"""An account's own password."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from runapp.exceptions import InvalidInput
from runapp.services.sign_in import sign_in


def change_password(*, account: User, old_password: str, new_password: str, request: Any) -> None:
    """Give an account another password; sessions and remembered credentials of the old one end.

    Parameters
    ----------
    account : User
        Whose password it is.
    old_password : str
        The one that it has; a wrong one counts as a failed sign-in.
    new_password : str
        The one that it gets.
    request : HttpRequest
        Where the wish comes from.

    Raises
    ------
    InvalidInput
        When the old password is wrong, or the new one against the rules.
    TooMany
        When too many wrong ones came before it.
    """
    if not sign_in(account=account, name=account.username, password=old_password, request=request):
        raise InvalidInput(
            "The old password is wrong.", field="old_password", code="wrong_password"
        )
    try:
        validate_password(new_password, user=account)
    except ValidationError as error:
        raise InvalidInput(
            " ".join(error.messages), field="new_password", code="weak_password"
        ) from error
    account.set_password(new_password)
    account.save(update_fields=["password"])
