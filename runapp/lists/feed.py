"""How far the changes have come of what an account sees."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from runapp.accounts.access import Scope
from runapp.accounts.visible_rows import find_single
from runapp.models import Clock, RawData, Removals, SubmissionFold
from runapp.models.audit import AuditEvent
from runapp.scheduling.waiting import (
    Circumstances,
    annotate_circumstances,
    list_numbers,
    make_circumstances,
)

# More events than are written while any transaction lasts.
_LATEST_EVENTS = 10_000

FeedModel = type[RawData] | type[SubmissionFold]


@dataclass(frozen=True)
class Feed:
    """How far the changes have come that a reader may see.

    Parameters
    ----------
    epoch : str
        Numbers of different epochs cannot be compared.
    clock : int
        The number of the latest change of all.
    seq : int
        The number of the latest change of the rows in question, or a later one.
    removed : int
        The number of the latest removal among them: who knows less must read all anew.
    """

    epoch: str
    clock: int
    seq: int
    removed: int


def read_clock() -> int:
    """Return the number of the latest change of all."""
    value: int = Clock.objects.values_list("value", flat=True)[0]
    return value


def read_feed(*, model: FeedModel, scope: Scope, owner: User | None = None) -> Feed:
    """Return how far the changes have come of what an account sees, in one query.

    Parameters
    ----------
    model : type
        Of which table.
    scope : Scope
        Whose rows the reader sees.
    owner : User or None, optional
        The one account whose rows are asked for, if it is one.
    """
    annotations = _annotate_feed(model, scope, owner)
    return Feed(**Clock.objects.annotate(**annotations).values(*_FEED)[0])


def read_feed_of_folds(*, scope: Scope, owner: User | None = None) -> tuple[Feed, Circumstances]:
    """Return how far the folds have changed that an account sees, and what they may wait for now.

    One query, and one more where it is about several accounts.
    """
    annotations = _annotate_feed(SubmissionFold, scope, owner)
    whose = find_single(scope, owner)
    annotations |= annotate_circumstances(whose)
    row = Clock.objects.annotate(**annotations).values("epoch", *annotations)[0]
    feed = Feed(**{name: row[name] for name in _FEED})
    return feed, make_circumstances(row, whose)


_FEED = tuple(field.name for field in fields(Feed))


def _annotate_feed(model: FeedModel, scope: Scope, owner: User | None) -> dict[str, Any]:
    whose = find_single(scope, owner)
    removed: Any = F("removed_seq")
    if not scope.sees_all or whose is not None:
        # What an account gets to see or ceases to see is noted for it as a removal.
        accounts = {account.pk for account in (whose, scope.account) if account is not None}
        removals = Removals.objects.filter(owner__in=accounts).order_by("-seq")
        removed = Coalesce(Subquery(removals.values("seq")[:1]), 0)
    return {
        "clock": F("value"),
        "seq": Greatest(_find_latest(model, whose), removed),
        "removed": removed,
    }


def _find_latest(model: FeedModel, owner: User | None) -> Any:
    if owner is None:
        return F("value")
    return Coalesce(Subquery(list_numbers(model._default_manager.filter(owner=owner))), 0)


def list_events() -> QuerySet[AuditEvent]:
    """Return the audit's events, oldest first; who may read them is the caller's to ask."""
    return AuditEvent.objects.order_by("pk")


def read_feed_of_events() -> Feed:
    """Return how far the audit has come.

    Two transactions may commit in another order than they took their numbers. So the number of the
    latest event does not tell of all, and how many there are of the latest ones is added to it:
    each event raises the sum, whenever it becomes visible.
    """
    last = list_events().values_list("pk", flat=True).last() or 0
    n_latest = AuditEvent.objects.filter(pk__gt=last - _LATEST_EVENTS).count()
    epoch = Clock.objects.values_list("epoch", flat=True)[0]
    return Feed(epoch=epoch, clock=last + n_latest, seq=last + n_latest, removed=0)
