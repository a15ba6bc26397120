"""Who works on what: claims under a lease, for folds and for splits.

Claims of folds happen one at a time; their UPDATE repeats the condition that the row still waits,
so of any number of workers one gets it. What a worker holds is (row, attempt): every later write of
that worker is conditional on both, and a claim that has been lost writes nothing. Times are the
database's.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import DateTimeField, ExpressionWrapper, F
from django.db.models.functions import Now

from runapp.accounts.quotas import refund_folds
from runapp.changes.counters import LEASES_EXPIRED, count
from runapp.changes.feed import publishing, touch
from runapp.common.log_context import following
from runapp.common.transitions import Phase, State
from runapp.models import RawData, SubmissionFold
from runapp.scheduling.attempts import has_begun, held_fold
from runapp.scheduling.fair_share import charge
from runapp.scheduling.outcomes import WORKER_LEFT, WORKER_LOST, return_fold
from runapp.scheduling.queue import Head, count_claimable, find_head, lock_claims
from runapp.scheduling.state_changes import fail_waiting, move

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 100
# What somebody else took or cancelled between the look and the update is looked for again.
_CLAIM_TRIES = 100


def claim_fold(*, worker: str, but_for: Collection[int] = ()) -> SubmissionFold | None:
    """Take the fold that is next (`scheduling/queue.py`), and charge its account for it.

    Parameters
    ----------
    worker : str
        The name of the slot.
    but_for : collection of int, optional
        Datasets whose folds are passed over.

    Returns
    -------
    SubmissionFold or None
        With its submission and dataset; None when nothing can be run.
    """
    for _ in range(_CLAIM_TRIES):
        with publishing():
            lock_claims()
            head = find_head(but_for=but_for)
            if head is None:
                return None
            is_taken = _take(head, worker)
        # Not under the lock; None if it was cancelled since.
        if is_taken and (fold := _load(head)) is not None:
            return fold
    return None


def _load(head: Head) -> SubmissionFold | None:
    rows = SubmissionFold.objects.select_related("submission__raw_data")
    return rows.filter(pk=head.fold_id, attempt=head.attempt + 1, phase=Phase.RUNNING).first()


def _take(head: Head, worker: str) -> bool:
    # The condition of `move` counts: what was cancelled since the look is not brought back.
    taken = move(
        SubmissionFold.objects.filter(pk=head.fold_id, attempt=head.attempt),
        phase=Phase.RUNNING,
        state=State.TODO,
        attempt=head.attempt + 1,
        worker=worker,
        started_at=Now(),
        lease_expires_at=_lease_end(),
        charged_seconds=head.expected_seconds,
    )
    if taken:
        charge(owner_id=head.owner_id, seconds=head.expected_seconds)
    return bool(taken)


def claim_split(*, worker: str, but_for: Collection[int] = ()) -> RawData | None:
    """Take the dataset that has waited longest for its split, if any, but for some."""
    waiting = RawData.objects.filter(split_phase=RawData.SplitPhase.WAITING)
    heads = list_waiting_splits().exclude(pk__in=but_for).order_by("split_queued_at", "pk")
    for _ in range(_CLAIM_TRIES):
        head = heads.values_list("pk", "owner_id").first()
        if head is None:
            return None
        pk, owner_id = head
        with transaction.atomic():
            if not _hold_enabled(owner_id):
                continue
            claimed = waiting.filter(pk=pk).update(
                split_phase=RawData.SplitPhase.RUNNING,
                split_attempt=F("split_attempt") + 1,
                split_worker=worker,
                split_lease_expires_at=_lease_end(),
            )
            if claimed:
                return RawData.objects.get(pk=pk)
    return None


def list_waiting_splits() -> models.QuerySet[RawData]:
    """Return the datasets that wait for a split and may have it."""
    return RawData.objects.filter(split_phase=RawData.SplitPhase.WAITING, owner__is_active=True)


def _hold_enabled(account_id: int) -> bool:
    """Keep an account from being disabled until the transaction ends, if it is enabled."""
    rows = User.objects.select_for_update(no_key=True).filter(pk=account_id, is_active=True)
    return rows.values_list("pk").first() is not None


def held_split(raw_data: RawData) -> models.QuerySet[RawData]:
    """Return the dataset's row as a query that is empty once the claim is lost."""
    return RawData.objects.filter(
        pk=raw_data.pk,
        split_attempt=raw_data.split_attempt,
        split_phase=RawData.SplitPhase.RUNNING,
    )


def renew_fold(fold: SubmissionFold) -> bool:
    """Renew the lease; False when the fold is no longer this attempt's."""
    return bool(held_fold(fold).update(lease_expires_at=_lease_end()))


def renew_split(raw_data: RawData) -> bool:
    """Renew the lease; False when the split is no longer this attempt's."""
    return bool(held_split(raw_data).update(split_lease_expires_at=_lease_end()))


def tell_split(raw_data: RawData, sentence: str, **fields: str) -> None:
    """Log what has become of a split, with all that it belongs to."""
    attempt = raw_data.split_attempt
    with following(dataset=raw_data.pk, attempt=attempt, worker=raw_data.split_worker):
        logger.info("dataset %s attempt %s: %s", raw_data.pk, attempt, sentence, extra=fields)


def return_split(
    raw_data: RawData, *, reason: str, is_failure: bool, error_code: str, is_lost: bool = False
) -> None:
    """Give a split back, as `return_fold` does; after too many failures of ours it has failed."""
    held = held_split(raw_data)
    if is_lost:
        held = held.filter(split_lease_expires_at__lt=Now())
    failures = raw_data.split_failures + int(is_failure)
    with publishing():
        if failures < settings.MAX_ATTEMPTS:
            has_gone = bool(
                held.update(split_phase=RawData.SplitPhase.WAITING, split_failures=failures)
            )
        else:
            log_messages = f"{reason} Tried {failures} times."
            has_gone = _end_split(
                held, raw_data, error_code=error_code, log_messages=log_messages, is_ours=True
            )
        if has_gone and is_lost:
            count(LEASES_EXPIRED, kind="split")
    if has_gone and failures < settings.MAX_ATTEMPTS:
        tell_split(raw_data, f"split given back: {reason}", action="split_returned")


def end_split_in_error(raw_data: RawData, *, error_code: str, log_messages: str) -> None:
    """Record that a dataset cannot be split, and end the folds that wait for it."""
    _end_split(held_split(raw_data), raw_data, error_code=error_code, log_messages=log_messages)


def _end_split(
    held: models.QuerySet[RawData],
    raw_data: RawData,
    *,
    error_code: str,
    log_messages: str,
    is_ours: bool = False,
) -> bool:
    with publishing():
        ended = touch(
            held,
            state=RawData.State.ERROR,
            error_code=error_code,
            log_messages=log_messages,
            split_phase=RawData.SplitPhase.IDLE,
            split_lease_expires_at=None,
        )
        if not ended:
            return False
        folds = SubmissionFold.objects.filter(raw_data=raw_data)
        fail_waiting(folds)
        if is_ours:
            # Those without a number have just been ended.
            refund_folds(folds=folds.filter(change_seq=None, phase=Phase.DONE))
    tell_split(raw_data, f"split: {error_code}", action="split_ended", outcome=error_code)
    return True


def reap_expired() -> int:
    """Return what silent workers held to the queue; any process may call it at any time."""
    expired = SubmissionFold.objects.filter(phase=Phase.RUNNING, lease_expires_at__lt=Now())
    folds = list(expired.order_by("lease_expires_at")[:_MOST_AT_ONCE])
    for fold in folds:
        return_fold(
            fold,
            reason=WORKER_LOST,
            is_spent=has_begun(fold=fold),
            error_code="worker_lost",
            is_lost=True,
        )
    splits = list(
        RawData.objects.filter(
            split_phase=RawData.SplitPhase.RUNNING, split_lease_expires_at__lt=Now()
        )[:_MOST_AT_ONCE]
    )
    for raw_data in splits:
        return_split(
            raw_data, reason=WORKER_LOST, is_failure=True, error_code="worker_lost", is_lost=True
        )
    return len(folds) + len(splits)


def return_all(*, worker: str) -> int:
    """Give back, unspent, what the slots of a worker that leaves still hold."""
    held_folds, held_splits = _list_held(worker)
    folds, splits = list(held_folds), list(held_splits)
    for fold in folds:
        return_fold(fold, reason=WORKER_LEFT, is_spent=False, error_code="worker_lost")
    for raw_data in splits:
        return_split(raw_data, reason=WORKER_LEFT, is_failure=False, error_code="worker_lost")
    return len(folds) + len(splits)


def list_holders(*, pool: str) -> list[str]:
    """Return the slots of a worker that hold a fold or a split, by name."""
    folds, splits = _list_held(pool)
    return [*folds.values_list("worker", flat=True), *splits.values_list("split_worker", flat=True)]


def _list_held(pool: str) -> tuple[models.QuerySet[SubmissionFold], models.QuerySet[RawData]]:
    """Return the folds and the splits that the slots of a worker hold."""
    return (
        SubmissionFold.objects.filter(phase=Phase.RUNNING, worker__startswith=f"{pool}/"),
        RawData.objects.filter(
            split_phase=RawData.SplitPhase.RUNNING, split_worker__startswith=f"{pool}/"
        ),
    )


def count_work(*, most: int) -> int:
    """Return how many folds and splits could be claimed now, counting no further than `most`."""
    splits = list_waiting_splits()[: max(most, 0)].count()
    return splits + count_claimable(most=most - splits)


def _lease_end() -> ExpressionWrapper[Any]:
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    return ExpressionWrapper(Now() + lease, output_field=DateTimeField())
