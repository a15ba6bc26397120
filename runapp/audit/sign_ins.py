"""Sign-ins, right and wrong, as the audit tells of them.

Basic signs in at every request: of an account and an address one sign-in an hour is written down,
and one failure and one lock a minute, by each process. All names that nobody has are one account.
Who signs in changes nothing, so a database that takes no changes keeps nobody out: then the log
tells instead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from axes.signals import user_locked_out
from cachetools import TTLCache
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db import DatabaseError, transaction
from django.dispatch import receiver

from runapp.audit import record as audit
from runapp.common.outages import is_outage
from runapp.models.audit import Action, Kind

logger = logging.getLogger(__name__)

_MOST_REMEMBERED = 10_000
_lately_in: TTLCache[Hashable, bool] = TTLCache(_MOST_REMEMBERED, 3600)
_lately_failed: TTLCache[Hashable, bool] = TTLCache(_MOST_REMEMBERED, 60)
_lock = threading.Lock()


def note_sign_in(*, account: User) -> None:
    """Write down that an account has proved by its password who it is, if not done lately.

    Parameters
    ----------
    account : User
        Whose password it was.
    """
    key = (account.pk, audit.read_current_address())
    _note_once(_lately_in, key, lambda: _write_sign_in(account))


@receiver(user_logged_in, dispatch_uid="audit_sign_in")
def note_session(user: User, **rest: object) -> None:
    """Write down that a session has begun."""
    _note(lambda: _write_sign_in(user))


@receiver(user_login_failed, dispatch_uid="audit_failed_sign_in")
def note_failure(credentials: Mapping[str, Any], **rest: object) -> None:
    """Write down that a password was wrong, or its account unknown or disabled."""
    _note_failure(Action.SIGN_IN_FAILED, str(credentials.get("username", "")))


@receiver(user_locked_out, dispatch_uid="audit_locked_out")
def note_lock(username: str, **rest: object) -> None:
    """Write down that an address may not try an account's password any more for a while."""
    # By a form this is told of every request that is refused.
    _note_failure(Action.LOCKED_OUT, username)


def forget() -> None:
    """Forget which sign-ins were written down lately."""
    with _lock:
        _lately_in.clear()
        _lately_failed.clear()


def _write_sign_in(account: User) -> None:
    audit.record(action=Action.SIGN_IN, of=account, by=account)


def _note_failure(action: Action, name: str) -> None:
    # People type passwords where the name goes: only a name that there is is written down. All
    # others are one, or whoever makes up names would fill the audit.
    known = None if "\0" in name else User.objects.filter(username=name).first()
    thing = audit.Thing(Kind.ACCOUNT) if known is None else known
    key = (action, known and known.pk, audit.read_current_address())
    _note_once(
        _lately_failed, key, lambda: audit.record(action=action, of=thing, by=AnonymousUser())
    )


def _note_once(lately: TTLCache[Hashable, bool], key: Hashable, write: Callable[[], None]) -> None:
    with _lock:
        if key in lately:
            return
        lately[key] = True
    if not _note(write):
        with _lock:
            lately.pop(key, None)


def _note(write: Callable[[], None]) -> bool:
    """Write an event; tell whether the database took it."""
    try:
        with transaction.atomic():
            write()
    except DatabaseError as error:
        if not is_outage(error):
            raise
        logger.warning("a sign-in is not in the audit: %s", " ".join(str(error).split()))
        return False
    return True
