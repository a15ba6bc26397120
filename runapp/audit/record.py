"""The audit: who did what, when, and from where.

An event is written in the transaction of the deed: what is rolled back leaves none, and nothing is
done without one. Who did it is found here, so that callers need not be told: the request that this
thread serves, or else whoever runs the process.

Facts are small, and neither secrets nor data: no password, key or hash of one, no content of a
file, no label, no log.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from django.contrib.auth.models import AnonymousUser, Group, User
from django.http import HttpRequest

from runapp.common.client_address import read_address
from runapp.models import (
    AccessToken,
    FairShare,
    Quota,
    RawData,
    Share,
    Submission,
    SubmissionFold,
)
from runapp.models.audit import Action, AuditEvent, Kind, Via

Account = User | AnonymousUser

_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)
_via_of_process = Via.COMMAND
_MOST_CHARACTERS = 64


@dataclass(frozen=True)
class Entry:
    """What was done, and to what.

    Parameters
    ----------
    action : Action
        What was done.
    of : object
        To what: anything that `describe` knows.
    facts : mapping, optional
        What else is worth knowing, as JSON.
    """

    action: Action
    of: Any
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Thing:
    """What something was done to.

    Parameters
    ----------
    kind : Kind
        What it is.
    target : str
        Its id as the API names it, "" if it has none.
    owner_id : int or None
        The account that it belongs to.
    owner : str or None
        That account's name; None is looked up.
    raw_data_id : int or None
        The dataset that it is about.
    """

    kind: Kind
    target: str = ""
    owner_id: int | None = None
    owner: str | None = None
    raw_data_id: int | None = None


@dataclass(frozen=True)
class _Actor:
    account_id: int | None
    name: str
    via: Via
    address: str


@contextmanager
def serving(request: HttpRequest) -> Iterator[None]:
    """Have what is recorded here and meanwhile be the deeds of a request."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def speak_for_worker() -> None:
    """Have this process, and those that it forks, be a worker: nobody has typed a command."""
    global _via_of_process
    _via_of_process = Via.WORKER


def read_current_address() -> str:
    """Return from where the request comes that this thread serves, "" if it serves none."""
    request = _request.get()
    return "" if request is None else read_address(request)[:_MOST_CHARACTERS]


def record(
    *,
    action: Action,
    of: Any,
    facts: Mapping[str, Any] | None = None,
    by: Account | None = None,
) -> None:
    """Write down one event, in the caller's transaction.

    Parameters
    ----------
    action : Action
        What was done.
    of : object
        To what: anything that `describe` knows.
    facts : mapping, optional
        What else is worth knowing, as JSON; neither secrets nor data.
    by : User or AnonymousUser, optional
        Who did it, where the request does not know yet.
    """
    record_many([Entry(action, of, facts or {})], by=by)


def record_many(entries: Iterable[Entry], *, by: Account | None = None) -> None:
    """Write down several events of one actor, in the caller's transaction and one statement.

    Parameters
    ----------
    entries : iterable of Entry
        What was done.
    by : User or AnonymousUser, optional
        Who did it, where the request does not know yet.
    """
    things = [(entry, describe(entry.of)) for entry in entries]
    if not things:
        return
    actor = _find_actor(by)
    names = _find_names(actor, [thing for _, thing in things])
    AuditEvent.objects.bulk_create(
        AuditEvent(
            actor_id=actor.account_id,
            actor=actor.name,
            via=actor.via,
            address=actor.address,
            action=entry.action,
            kind=thing.kind,
            target=thing.target,
            owner_id=thing.owner_id,
            owner=names.get(thing.owner_id, "") if thing.owner is None else thing.owner,
            raw_data_id=thing.raw_data_id,
            facts=dict(entry.facts),
        )
        for entry, thing in things
    )


@singledispatch
def describe(of: Any) -> Thing:
    """Return what the audit tells of a thing; register what else there is."""
    raise TypeError(f"The audit does not know what {type(of).__name__} is.")


@describe.register
def _describe_thing(of: Thing) -> Thing:
    return of


@describe.register
def _describe_raw_data(of: RawData) -> Thing:
    return Thing(Kind.RAW_DATA, str(of.pk), of.owner_id, raw_data_id=of.pk)


@describe.register
def _describe_submission(of: Submission) -> Thing:
    target = "" if of.databoard_s_id is None else str(of.databoard_s_id)
    return Thing(Kind.SUBMISSION, target, of.owner_id, raw_data_id=of.raw_data_id)


@describe.register
def _describe_fold(of: SubmissionFold) -> Thing:
    target = "" if of.databoard_sf_id is None else str(of.databoard_sf_id)
    return Thing(Kind.SUBMISSION_FOLD, target, of.owner_id, raw_data_id=of.raw_data_id)


@describe.register
def _describe_account(of: User) -> Thing:
    return Thing(Kind.ACCOUNT, str(of.pk), of.pk, of.username)


@describe.register
def _describe_group(of: Group) -> Thing:
    return Thing(Kind.GROUP, str(of.pk))


@describe.register
def _describe_token(of: AccessToken) -> Thing:
    return Thing(Kind.TOKEN, of.public_id, of.user_id)


@describe.register
def _describe_share(of: Share) -> Thing:
    return Thing(Kind.SHARE, str(of.pk), of.raw_data.owner_id, raw_data_id=of.raw_data_id)


@describe.register
def _describe_fair_share(of: FairShare) -> Thing:
    return Thing(Kind.QUOTA, owner_id=of.owner_id)


@describe.register
def _describe_quota(of: Quota) -> Thing:
    return Thing(Kind.QUOTA, owner_id=of.account_id)


def _find_actor(by: Account | None) -> _Actor:
    request = _request.get()
    if request is None:
        return _Actor(None, _read_system_user(), _via_of_process, "")
    account = by or request.user
    return _Actor(
        account.pk, account.get_username()[:150], _read_via(request), read_current_address()
    )


def _read_via(request: HttpRequest) -> Via:
    # REST framework tells the request what it has found.
    if getattr(request, "auth", None) is not None:
        return Via.TOKEN
    match = request.resolver_match
    if match is not None and match.app_name == "admin":
        return Via.ADMIN
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    return Via.BASIC if scheme.lower() == "basic" else Via.SESSION


def _read_system_user() -> str:
    # Not what the environment says: that is anybody's word.
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # containers have users without a name
        return str(number)


def _find_names(actor: _Actor, things: list[Thing]) -> dict[int | None, str]:
    """Return the names of the accounts that things belong to, by key."""
    names: dict[int | None, str] = {actor.account_id: actor.name, None: ""}
    asked = {thing.owner_id for thing in things if thing.owner is None}
    if unknown := [key for key in asked if key is not None and key not in names]:
        names.update(User.objects.filter(pk__in=unknown).values_list("pk", "username"))
    return names
