"""Which rows an account sees: lists of them, and single ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.contrib.auth.models import User
from django.db.models import (
    Model,
    QuerySet,
)

from runapp.accounts.access import Scope
from runapp.common.exceptions import Conflict, InvalidInput, NotFound
from runapp.models import (
    RawData,
    Submission,
    SubmissionFold,
)

Row = TypeVar("Row", bound=Model)


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


def find_single(scope: Scope, owner: User | None) -> User | None:
    """Return the one account whose rows are asked for, None if they may be of several."""
    return scope.account if owner is None and scope.is_alone else owner
