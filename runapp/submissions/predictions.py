"""Handing out predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import models

from runapp.accounts.access import Scope
from runapp.changes.feed import publishing, touch
from runapp.common.transitions import FINISHED, Phase, State
from runapp.models import SubmissionFold
from runapp.scheduling.state_changes import order_locks

# SQLite takes a bounded number of parameters in one statement.
_MOST_PARAMETERS = 900


@dataclass(frozen=True)
class HandedOut:
    """What is handed out in one answer.

    Parameters
    ----------
    keys : list of int
        The folds, in the order in which they are handed out.
    were_new : frozenset of int
        Those of them that nobody had been given before.
    """

    keys: list[int]
    were_new: frozenset[int]


def hand_out_listed(*, scope: Scope, owner: User, ids: list[int]) -> HandedOut:
    """Hand out those of an account's finished folds that the reader may read, in the ids' order.

    They stop being new, if it is their owner who reads: another who may look leaves the mark.
    """
    finished = SubmissionFold.objects.filter(owner=owner, state__in=FINISHED)
    is_own = owner.pk == scope.account.pk
    wanted: models.QuerySet[Any] = finished if is_own else scope.keep_readable(finished)
    found: dict[int, int] = {}
    for some in _cut(ids):
        rows = wanted.filter(databoard_sf_id__in=some)
        found.update(rows.values_list("databoard_sf_id", "pk"))
    keys = [found[sf_id] for sf_id in dict.fromkeys(ids) if sf_id in found]
    new = _take_new(wanted, keys) if is_own else frozenset()
    return HandedOut(keys, new)


def _take_new(wanted: models.QuerySet[SubmissionFold], keys: list[int]) -> frozenset[int]:
    """Mark those of the folds that are new as handed out, and return which they were."""
    new: list[int] = []
    with publishing():
        # In the order in which everybody locks, whatever the order of the ids.
        for some in _cut(sorted(keys)):
            rows = order_locks(wanted.filter(pk__in=some, new=True))
            new += rows.values_list("pk", flat=True)
        _mark(new, new=False)
    return frozenset(new)


def list_new(
    *, owner: User, raw_data_id: int | None, include_errors: bool
) -> models.QuerySet[SubmissionFold]:
    """Return the folds of an account that were never handed out, those first that ended first."""
    states = FINISHED if include_errors else (State.TESTED,)
    rows = SubmissionFold.objects.filter(
        owner=owner, new=True, phase=Phase.DONE, state__in=states, databoard_sf_id__isnull=False
    )
    if raw_data_id is not None:
        rows = rows.filter(raw_data_id=raw_data_id)
    return rows.order_by("finished_at", "pk")


def hand_out_new(
    *,
    owner: User,
    raw_data_id: int | None,
    limit: int | None = None,
    include_errors: bool = False,
) -> HandedOut:
    """Hand out folds that were never handed out; each goes to one caller only.

    Parameters
    ----------
    owner : User
        Whose folds.
    raw_data_id : int or None
        Of which dataset; None is of all.
    limit : int or None, optional
        How many at most.
    include_errors : bool, optional
        Whether folds that ended in error are handed out, too.
    """
    rows = list_new(owner=owner, raw_data_id=raw_data_id, include_errors=include_errors)
    with publishing():
        # Two callers never get one fold: the rows are locked, and who comes second passes them by.
        locked = rows.select_for_update(skip_locked=True, of=("self",))
        keys = list(locked.values_list("pk", flat=True)[:limit])
        _mark(keys, new=False)
    return HandedOut(keys, frozenset(keys))


def take_back(keys: Iterable[int]) -> None:
    """Let folds be new again that could not be handed out."""
    with publishing():
        _mark(list(keys), new=True)


def _mark(keys: list[int], *, new: bool) -> None:
    # Of a fold that was posted again meanwhile, nothing is to be handed out.
    for some in _cut(keys):
        touch(SubmissionFold.objects.filter(pk__in=some, phase=Phase.DONE), new=new)


def _cut(values: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(values), _MOST_PARAMETERS):
        yield values[start : start + _MOST_PARAMETERS]
