"""Reads: what an account may see, and why a fold waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import reduce
from operator import and_
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import (
    Count,
    Exists,
    F,
    Min,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
)
from django.db.models.functions import Cast, Coalesce, Greatest, Now

from runapp.access import Scope
from runapp.events import AuditEvent
from runapp.exceptions import Conflict, InvalidInput, NotFound
from runapp.models import (
    Clock,
    FairShare,
    RawData,
    Removals,
    Submission,
    SubmissionFold,
    Worker,
    keep_phase,
)
from runapp.queue import get_cap
from runapp.transitions import Phase

# A worker that has not been heard of for so long, or has missed so many beats, is not live.
_LEAST_LIVE_SECONDS = 15
_LIVE_BEATS = 3
# More events than are written while any transaction lasts.
_LATEST_EVENTS = 10_000

Row = TypeVar("Row", bound=Model)
FeedModel = type[RawData] | type[SubmissionFold]


def find_owner(*, scope: Scope, name: str | None) -> User | None:
    """Return the account named in `?owner=`, None when none is named.

    Raises
    ------
    NotFound
        When there is no such account, or the caller may not know of it.
    """
    if name is None or name == scope.account.username:
        return None if name is None else scope.account
    # PostgreSQL refuses to look for a NUL.
    may_know = not scope.is_alone and "\0" not in name
    owner = User.objects.filter(username=name).first() if may_know else None
    if owner is None or not (scope.sees_all or _has_rows_for(scope, owner)):
        raise NotFound("Not found.")
    return owner


def _has_rows_for(scope: Scope, owner: User) -> bool:
    return (
        list_raw_data(scope=scope, owner=owner).exists()
        or list_folds(scope=scope, owner=owner).exists()
    )


def list_raw_data(*, scope: Scope, owner: User | None = None) -> QuerySet[RawData]:
    """Return the datasets that an account sees, oldest first."""
    return _keep_owner(RawData.objects.all(), scope.keep_raw_data, scope, owner).order_by("pk")


def get_raw_data(*, scope: Scope, pk: int, field: str | None = None) -> RawData:
    """Return one dataset.

    Raises
    ------
    NotFound
        When there is none of that id that the account may see.
    InvalidInput
        Likewise, when `field` names where in a body the id stood.
    """
    found: RawData | None = list_raw_data(scope=scope).filter(pk=pk).first()
    if found is None and field is not None:
        raise InvalidInput(f"There is no raw data {pk}.", field=field, code="does_not_exist")
    if found is None:
        raise NotFound("Not found.")
    return found


def list_submissions(*, scope: Scope, owner: User | None = None) -> QuerySet[Submission]:
    """Return the submissions that an account sees, oldest first."""
    rows = Submission.objects.filter(databoard_s_id__isnull=False)
    return _keep_owner(rows, scope.keep_folds, scope, owner).order_by("pk")


def list_folds(*, scope: Scope, owner: User | None = None) -> QuerySet[SubmissionFold]:
    """Return the folds that an account sees, oldest first."""
    rows = SubmissionFold.objects.filter(databoard_sf_id__isnull=False)
    return _keep_owner(rows, scope.keep_folds, scope, owner).order_by("pk")


def get_fold(*, scope: Scope, databoard_sf_id: int, owner: User | None = None) -> SubmissionFold:
    """Return the fold of a client's id: the caller's own first, else the only one visible.

    Raises
    ------
    NotFound
        When there is none that the account may see.
    Conflict
        When several accounts have a fold of that id; `?owner=` tells which.
    """
    folds = list_folds(scope=scope, owner=owner).filter(databoard_sf_id=databoard_sf_id)
    found = list(folds)
    own = [fold for fold in found if fold.owner_id == scope.account.pk]
    if own or len(found) == 1:
        return (own or found)[0]
    if not found:
        raise NotFound("Not found.")
    names = ", ".join(sorted(fold.owner.username for fold in found))
    raise Conflict(
        f"Several accounts have a fold {databoard_sf_id}; add ?owner= with one of: {names}."
    )


@dataclass(frozen=True)
class Circumstances:
    """What folds may wait for, beside their dataset and their turn.

    Parameters
    ----------
    has_worker, has_fit_worker : bool
        Whether a worker lives, and one that takes work or may yet find that it does.
    full_accounts, disabled_accounts : frozenset of int
        The keys of the accounts that may not run one fold more, or none at all.
    raw_data_seq : int
        The number of the latest change of any dataset.
    """

    has_worker: bool
    has_fit_worker: bool
    full_accounts: frozenset[int]
    disabled_accounts: frozenset[int]
    raw_data_seq: int

    def explain_waiting(
        self, *, phase: str, raw_data_state: str, is_paused: bool, owner_id: int
    ) -> str | None:
        """Tell why a fold waits, None for one that does not."""
        if phase != Phase.WAITING:
            return None
        if owner_id in self.disabled_accounts:
            return "account_disabled"
        if raw_data_state != RawData.State.READY:
            return "raw_data_not_split"
        if is_paused:
            return "paused"
        if not self.has_worker:
            return "no_live_worker"
        if not self.has_fit_worker:
            return "no_fit_worker"
        return "account_cap" if owner_id in self.full_accounts else "behind_others"


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
    whose = _find_single(scope, owner)
    annotations |= _annotate_circumstances(whose)
    row = Clock.objects.annotate(**annotations).values("epoch", *annotations)[0]
    feed = Feed(**{name: row[name] for name in _FEED})
    return feed, _make_circumstances(row, whose)


def read_circumstances(*, scope: Scope) -> Circumstances:
    """Return what the folds that an account sees may wait for now."""
    whose = _find_single(scope, None)
    annotations = _annotate_circumstances(whose)
    return _make_circumstances(Clock.objects.annotate(**annotations).values(*annotations)[0], whose)


_FEED = tuple(field.name for field in fields(Feed))


def _find_single(scope: Scope, owner: User | None) -> User | None:
    """Return the one account whose rows are asked for, None if they may be of several."""
    return scope.account if owner is None and scope.is_alone else owner


def _annotate_feed(model: FeedModel, scope: Scope, owner: User | None) -> dict[str, Any]:
    whose = _find_single(scope, owner)
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
    return Coalesce(Subquery(_list_numbers(model._default_manager.filter(owner=owner))), 0)


def _list_numbers(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the number of the latest change of some rows, as a query."""
    seen = rows.filter(change_seq__isnull=False)
    return seen.order_by("-change_seq").values("change_seq")[:1]


def _annotate_circumstances(owner: User | None) -> dict[str, Any]:
    live = list_live_workers().annotate(kept=Cast("promises", TextField()))
    names = (Q(kept__contains=f'"{name}"') for name in settings.REQUIRED_PROMISES)
    keeps_all = reduce(and_, names, Q(promises__isnull=False))
    fit = live.filter(keeps_all | Q(promises__isnull=True))
    running = SubmissionFold.objects.filter(phase=Phase.RUNNING, owner=owner).order_by()
    counts = running.values("owner").annotate(n=Count("pk"))
    shares = FairShare.objects.filter(owner=owner)
    return {
        "has_worker": Exists(live),
        "has_fit_worker": Exists(fit),
        "n_running": Coalesce(Subquery(counts.values("n")), 0),
        "cap": Coalesce(Subquery(shares.values("cap")), get_cap()),
        # Of all, as folds may wait for another account's.
        "raw_data_seq": Coalesce(Subquery(_list_numbers(RawData.objects.all())), 0),
    }


def _make_circumstances(row: dict[str, Any], owner: User | None) -> Circumstances:
    if owner is None:
        full, disabled = find_held_up_accounts()
    else:
        full = frozenset({owner.pk} if row["n_running"] >= row["cap"] else ())
        disabled = frozenset(() if owner.is_active else {owner.pk})
    return Circumstances(
        row["has_worker"], row["has_fit_worker"], full, disabled, row["raw_data_seq"]
    )


def find_held_up_accounts() -> tuple[frozenset[int], frozenset[int]]:
    """Return the keys of the accounts that may not run one fold more, and of disabled ones.

    Of the latter those that have something waiting; in one query.
    """
    running = SubmissionFold.objects.filter(phase=Phase.RUNNING).order_by()
    counts = running.values("owner").annotate(
        n=Count("pk"), most=Coalesce("owner__fair_share__cap", get_cap())
    )
    full = counts.filter(n__gte=F("most")).values_list("owner", Value(False))
    stopped = FairShare.objects.filter(cap=0).values_list("owner", Value(False))
    waiting = SubmissionFold.objects.filter(
        phase=Phase.WAITING, priority__in=SubmissionFold.Priority, owner=OuterRef("pk")
    )
    disabled = User.objects.filter(Exists(waiting), is_active=False)
    rows = full.union(stopped, disabled.values_list("pk", Value(True)))
    return (
        frozenset(key for key, is_disabled in rows if not is_disabled),
        frozenset(key for key, is_disabled in rows if is_disabled),
    )


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


@dataclass(frozen=True)
class Waiting:
    """The waiting folds of one dataset at one priority, and for how long the oldest waits."""

    raw_data_id: int
    priority: str
    count: int
    oldest_seconds: float


def list_waiting() -> list[Waiting]:
    """Return how many folds wait, and for how long, by dataset and priority.

    One query, answered by the index `fold_waits` alone.
    """
    waiting = keep_phase(SubmissionFold.objects.all(), Phase.WAITING)
    groups = waiting.order_by().values("raw_data_id", "priority")
    rows = groups.annotate(count=Count("*"), oldest=Min("queued_at"), now=Now())
    return [
        Waiting(
            row["raw_data_id"],
            row["priority"],
            row["count"],
            (row["now"] - row["oldest"]).total_seconds(),
        )
        for row in rows
    ]


def list_live_workers() -> QuerySet[Worker]:
    """Return the workers that have been heard of lately."""
    return Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=get_live_seconds()))


def get_live_seconds() -> int:
    """Return how long after it was last heard of a worker counts as live."""
    return max(_LEAST_LIVE_SECONDS, _LIVE_BEATS * settings.HEARTBEAT_SECONDS)


def count_live_slots() -> int:
    """Return how many folds all live workers run at once."""
    return list_live_workers().aggregate(n=Coalesce(Sum("slots"), 0))["n"] or 0


def _keep_owner(
    rows: QuerySet[Row],
    keep: Callable[[QuerySet[Row]], QuerySet[Row]],
    scope: Scope,
    owner: User | None,
) -> QuerySet[Row]:
    # One's own rows are all seen: a simpler condition is found by an index.
    if owner is not None and owner.pk == scope.account.pk:
        return rows.filter(owner=owner)
    return keep(rows) if owner is None else keep(rows).filter(owner=owner)
