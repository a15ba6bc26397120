"""Reads: what an account may see, and why a fold waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, F, Model, Q, QuerySet
from django.db.models.functions import Coalesce, Now

from runapp.exceptions import Conflict, InvalidInput, NotFound
from runapp.models import FairShare, RawData, Submission, SubmissionFold, Worker
from runapp.queue import get_cap
from runapp.transitions import Phase

# A worker that has not been heard of for this long is not counted as live.
LIVE_SECONDS = 15

Row = TypeVar("Row", bound=Model)


def find_owner(*, account: User, name: str | None) -> User | None:
    """Return the account named in `?owner=`, None when none is named.

    Raises
    ------
    NotFound
        When there is no such account, or the caller may not know of it.
    """
    if name is None or name == account.username:
        return None if name is None else account
    # PostgreSQL refuses to look for a NUL.
    may_know = account.is_superuser and "\0" not in name
    owner = User.objects.filter(username=name).first() if may_know else None
    if owner is None:
        raise NotFound("Not found.")
    return owner


def list_raw_data(*, account: User, owner: User | None = None) -> QuerySet[RawData]:
    """Return the datasets that an account sees, oldest first."""
    return _keep_owner(RawData.objects.visible_to(account), owner).order_by("pk")


def get_raw_data(*, account: User, pk: int, field: str | None = None) -> RawData:
    """Return one dataset.

    Raises
    ------
    NotFound
        When there is none of that id that the account may see.
    InvalidInput
        Likewise, when `field` names where in a body the id stood.
    """
    found: RawData | None = RawData.objects.visible_to(account).filter(pk=pk).first()
    if found is None and field is not None:
        raise InvalidInput(f"There is no raw data {pk}.", field=field, code="does_not_exist")
    if found is None:
        raise NotFound("Not found.")
    return found


def list_submissions(*, account: User, owner: User | None = None) -> QuerySet[Submission]:
    """Return the submissions that an account sees, oldest first."""
    rows = Submission.objects.visible_to(account).filter(databoard_s_id__isnull=False)
    return _keep_owner(rows, owner).order_by("pk")


def list_folds(*, account: User, owner: User | None = None) -> QuerySet[SubmissionFold]:
    """Return the folds that an account sees, oldest first."""
    rows = SubmissionFold.objects.visible_to(account).filter(databoard_sf_id__isnull=False)
    return _keep_owner(rows, owner).order_by("pk")


def get_fold(*, account: User, databoard_sf_id: int, owner: User | None = None) -> SubmissionFold:
    """Return the fold of a client's id: the caller's own first, else the only one visible.

    Raises
    ------
    NotFound
        When there is none that the account may see.
    Conflict
        When several accounts have a fold of that id; `?owner=` tells which.
    """
    folds = list_folds(account=account, owner=owner).filter(databoard_sf_id=databoard_sf_id)
    found = list(folds)
    own = [fold for fold in found if fold.owner_id == account.pk]
    if own or len(found) == 1:
        return (own or found)[0]
    if not found:
        raise NotFound("Not found.")
    names = ", ".join(sorted(fold.owner.username for fold in found))
    raise Conflict(f"Several accounts have a fold {databoard_sf_id}; add ?owner= one of: {names}.")


def make_waiting_explainer() -> Callable[[SubmissionFold], str | None]:
    """Return a function that tells why a fold waits; what all folds share is looked up once."""
    look_up_workers = cache(lambda: [_may_work(kept) for kept in list_promises()])
    look_up_full = cache(list_full_accounts)

    def explain(fold: SubmissionFold) -> str | None:
        if fold.phase != Phase.WAITING:
            return None
        raw_data = fold.submission.raw_data
        if raw_data.state != RawData.State.READY:
            return "raw_data_not_split"
        if raw_data.paused:
            return "paused"
        if not look_up_workers():
            return "no_live_worker"
        if not any(look_up_workers()):
            return "no_fit_worker"
        return "account_cap" if fold.owner_id in look_up_full() else "behind_others"

    return explain


def list_promises() -> list[list[str] | None]:
    """Return what each live worker keeps, None for one that does not know yet."""
    return list(list_live_workers().values_list("promises", flat=True))


def list_full_accounts() -> frozenset[int]:
    """Return the keys of the accounts that may not run one fold more."""
    running = Count("folds", filter=Q(folds__phase=Phase.RUNNING))
    cap = Coalesce("fair_share__cap", get_cap())
    busy = User.objects.filter(folds__phase=Phase.RUNNING)
    full = busy.annotate(n=running, most=cap).filter(n__gte=F("most"))
    stopped = FairShare.objects.filter(cap=0)
    return frozenset((*full.values_list("pk", flat=True), *stopped.values_list("owner", flat=True)))


def list_live_workers() -> QuerySet[Worker]:
    """Return the workers that have been heard of lately."""
    return Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=LIVE_SECONDS))


def _may_work(promises: list[str] | None) -> bool:
    """Tell whether a worker takes work, or may yet find that it does."""
    return promises is None or set(promises) >= settings.REQUIRED_PROMISES


def _keep_owner(rows: QuerySet[Row], owner: User | None) -> QuerySet[Row]:
    return rows if owner is None else rows.filter(owner=owner)
