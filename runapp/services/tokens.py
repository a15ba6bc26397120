"""Tokens: what an account signs in by without its password."""

from __future__ import annotations

import threading
from datetime import timedelta

from cachetools import TTLCache
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from runapp.exceptions import Conflict, InvalidInput, NotFound
from runapp.models import AccessToken
from runapp.outages import describe_outage, is_outage

# The most of one account that have not expired.
MOST_TOKENS = 100
USE_SECONDS = 60

_noted: TTLCache[str, bool] = TTLCache(10_000, USE_SECONDS)
_noting = threading.Lock()


def create_token(
    *, account: User, name: str | None = None, expires_in_days: int | None = None
) -> tuple[AccessToken, str]:
    """Make a token.

    Parameters
    ----------
    account : User
        Whose requests it will stand for.
    name : str or None, optional
        What the account calls it; by default "token" and a number.
    expires_in_days : int or None, optional
        After how many days it is worth nothing; by default never.

    Returns
    -------
    tuple of AccessToken and str
        The token, and its key: of that only a hash is kept.

    Raises
    ------
    InvalidInput
        When a token of the account has that name already.
    Conflict
        When the account has as many as it may.
    """
    expiry = None if expires_in_days is None else timedelta(days=expires_in_days)
    with transaction.atomic():
        # Locked, so that of two at once the second one sees the first one's name.
        User.objects.select_for_update(no_key=True).get(pk=account.pk)
        tokens = AccessToken.objects.filter(user=account)
        tokens.filter(name=name, expiry__lt=timezone.now()).delete()
        if name is not None and tokens.filter(name=name).exists():
            raise InvalidInput(
                "A token with this name already exists.", field="name", code="unique"
            )
        if list_live(account=account).count() >= MOST_TOKENS:
            raise Conflict(f"An account has at most {MOST_TOKENS} tokens; revoke one first.")
        token, key = AccessToken.objects.create(
            account, expiry=expiry, name=name or _find_name(tokens)
        )
    return token, key


def list_live(*, account: User) -> QuerySet[AccessToken]:
    """Return the tokens of an account that have not expired, oldest first."""
    live = Q(expiry=None) | Q(expiry__gt=timezone.now())
    tokens: QuerySet[AccessToken] = AccessToken.objects.filter(live, user=account)
    return tokens.order_by("created", "public_id")


def revoke_token(*, account: User, public_id: str) -> None:
    """Delete a token of an account; a request that bears it is refused from now on.

    Raises
    ------
    NotFound
        When the account has none of that id.
    """
    if not AccessToken.objects.filter(user=account, public_id=public_id).delete()[0]:
        raise NotFound("Not found.")


def note_use(token: AccessToken) -> None:
    """Note that a token was used, at most once a minute; a database that refuses is let be."""
    now = timezone.now()
    before = now - timedelta(seconds=USE_SECONDS)
    if token.last_used_at is not None and token.last_used_at > before:
        return
    with _noting:
        # Tried once a minute, not at every request: a lock would be waited for at each of them.
        if token.pk in _noted:
            return
        _noted[token.pk] = True
    due = Q(last_used_at=None) | Q(last_used_at__lte=before)
    try:
        AccessToken.objects.filter(due, pk=token.pk).update(last_used_at=now)
    except DatabaseError as error:
        if not is_outage(error):
            raise
        describe_outage(error)


def _find_name(tokens: QuerySet[AccessToken]) -> str:
    taken = set(tokens.values_list("name", flat=True))
    number = len(taken) + 1
    while f"token {number}" in taken:
        number += 1
    return f"token {number}"
