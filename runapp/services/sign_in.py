"""Sign-ins by password: which are refused unseen, and what is noted of the others.

django-axes keeps the count of wrong passwords, by name and address together: so nobody locks out
somebody else's account from elsewhere. Who signs in by a form is seen by axes' own backend; who
signs in by HTTP Basic, or names the old password to set a new one, comes through `sign_in`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.hashers import make_password, verify_password
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.db import DatabaseError, models
from django.db.models import Max, Q, Sum
from django.http import HttpRequest
from django.utils import timezone

from runapp.exceptions import TooMany
from runapp.origin import read_address
from runapp.outages import is_read_only

logger = logging.getLogger(__name__)

LOCKED = "Too many wrong passwords from this address; try again later."
# What is counted as one where the address of a request is not known.
_NOWHERE = "::"
_MOST_NAME = 255  # of axes' column
# An address is locked, whatever the names, after so many times the failures of one name: each costs
# the server a strong hash.
_ADDRESS_SHARE = 10
_ABOUT_CLIENT = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "PATH_INFO")


def read_known_address(request: HttpRequest) -> str:
    """Return the address whose failures are counted together; of IPv6 that of a whole network.

    Whoever has one address of IPv6 has as a rule all those of its first 64 bits.
    """
    # Never null: a database takes two rows with null for different ones.
    address = ip_address(read_address(request) or _NOWHERE)
    if isinstance(address, IPv6Address):
        address = ip_network((address, 64), strict=False).network_address
    return str(address)


def read_name(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return the name that somebody wants to sign in by, as far as it is kept."""
    given = credentials if credentials is not None else request.POST
    return str(given.get("username") or "").replace("\0", " ")[:_MOST_NAME]


def describe_client(
    username: str, ip_address: str, user_agent: str, path_info: str, request: HttpRequest
) -> str:
    """Return what the log tells of a client: not the name, which may be a password mistyped."""
    return str(ip_address)


@dataclass(frozen=True)
class Failures:
    """What has lately failed from an address.

    Parameters
    ----------
    own, all : int
        How often one name has failed, and how often all of them.
    own_latest, all_latest : datetime or None
        When that was for the last time.
    """

    own: int
    all: int
    own_latest: datetime | None
    all_latest: datetime | None

    @property
    def count(self) -> int:
        """Those of the name, or the share of those of all names if that is more."""
        return max(self.own, self.all // _ADDRESS_SHARE)

    @property
    def latest(self) -> datetime | None:
        is_own = self.own >= self.all // _ADDRESS_SHARE
        return self.own_latest if is_own else self.all_latest


class SignInHandler(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    """axes' counts, and a bound to what an address may try under any names."""

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        return count_failures(request, name=read_name(request, credentials)).count


def count_failures(request: Any, *, name: str) -> Failures:
    """Count the recent failures of a name, and of all, from a request's address; in one query."""
    AxesProxyHandler.update_request(request)
    own = Q(username=name)
    sums = _list_recent(request).aggregate(
        own=Sum("failures_since_start", filter=own, default=0),
        own_latest=Max("attempt_time", filter=own),
        all=Sum("failures_since_start", default=0),
        all_latest=Max("attempt_time"),
    )
    return Failures(**sums)


def _list_recent(request: Any) -> models.QuerySet[Any]:
    recent: models.QuerySet[Any] = AccessAttempt.objects.filter(
        ip_address=request.axes_ip_address, attempt_time__gte=get_cool_off_threshold(request)
    )
    return recent


def find_wait(failures: Failures) -> int | None:
    """Return for how many seconds a sign-in is locked, None if it is not."""
    if failures.count < settings.AXES_FAILURE_LIMIT or failures.latest is None:
        return None
    left: timedelta = failures.latest + settings.AXES_COOLOFF_TIME - timezone.now()
    return max(math.ceil(left.total_seconds()), 1)


def sign_in(*, account: User | None, name: str, password: str, request: Any) -> bool:
    """Tell whether a password is right and its account enabled; wrong ones are counted.

    Parameters
    ----------
    account : User or None
        The account of that name, if there is one.
    name : str
        The name that was given.
    password : str
        The password that was given.
    request : HttpRequest
        Where it comes from.

    Raises
    ------
    TooMany
        Before the password is looked at, when too many wrong ones came before it.
    """
    client, credentials = _describe(request), {"username": name}
    failures = count_failures(client, name=read_name(client, credentials))
    wait = find_wait(failures)
    if wait is not None:
        raise TooMany(LOCKED, retry_after_seconds=wait, code="locked")
    is_right, is_weak = _verify(account, password)
    # The answer is settled: no error of the database that takes no notes can change it.
    with _unless_read_only():
        if not is_right:
            user_login_failed.send(__name__, credentials=credentials, request=client)
        elif failures.own:  # nothing is written for the many that never failed
            AxesProxyHandler.get_implementation().reset_user_attempts(client, credentials)
        if is_right and is_weak and account is not None:
            _strengthen(account, password)
    return is_right


def _strengthen(account: User, password: str) -> None:
    """Replace a weak hash, unless the password has been changed since it was looked at."""
    # Not by `save`, of which the audit would tell as of another password.
    rows = User.objects.filter(pk=account.pk, password=account.password)
    account.password = make_password(password)
    rows.update(password=account.password)


def _describe(request: Any) -> HttpRequest:
    """Return all that axes needs of a request: it keeps what it sees, and would read the body."""
    client = HttpRequest()
    client.META = {name: request.META[name] for name in _ABOUT_CLIENT if name in request.META}
    return client


def _verify(account: User | None, password: str) -> tuple[bool, bool]:
    """Tell whether a password is right, and whether its hash has become a weak one."""
    if account is None:
        make_password(password)  # costs the same, so that no name can be told from its time
        return False, False
    is_right, is_weak = verify_password(password, account.password)
    return is_right and account.is_active, is_weak


@contextmanager
def _unless_read_only() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        if not is_read_only(error):
            raise
        logger.warning("a sign-in was not noted: %s", " ".join(str(error).split()))
