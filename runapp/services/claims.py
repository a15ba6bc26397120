"""Who works on what: claims under a lease, for folds and for splits.

A claim is one UPDATE whose condition repeats that the row still waits, so of any number of
workers one gets it. What a worker holds is (row, attempt): every later write of that worker is
conditional on both, and a claim that has been lost writes nothing. Times are the database's.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Subquery
from django.db.models.functions import Now

from runapp.models import RawData, SubmissionFold
from runapp.services.folds import NO_RESULTS, fail_waiting, move, record_attempt
from runapp.transitions import Phase, State

# A head that somebody else took between the look and the update is looked for again.
_CLAIM_TRIES = 100


def claim_fold(*, worker: str) -> SubmissionFold | None:
    """Take the best waiting fold: "H" strictly before "L", then first come first served.

    Returns
    -------
    SubmissionFold or None
        With its submission and dataset; None when nothing can be run.
    """
    head = (
        SubmissionFold.objects.filter(
            phase=Phase.WAITING, submission__raw_data__state=RawData.State.READY
        )
        .order_by("priority", "queued_at", "pk")
        .values("pk")[:1]
    )
    for _ in range(_CLAIM_TRIES):
        token = uuid.uuid4().hex
        claimed = move(
            SubmissionFold.objects.filter(pk=Subquery(head)),
            phase=Phase.RUNNING,
            state=State.TODO,
            attempt=F("attempt") + 1,
            worker=worker,
            claim_token=token,
            started_at=Now(),
            lease_expires_at=_lease_end(),
        )
        if claimed:
            rows = SubmissionFold.objects.select_related("submission__raw_data")
            return rows.filter(claim_token=token).first()
        if not head.exists():
            return None
    return None


def claim_split(*, worker: str) -> RawData | None:
    """Take the dataset that has waited longest for its split, if any."""
    waiting = RawData.objects.filter(split_phase=RawData.SplitPhase.WAITING)
    head = waiting.order_by("split_queued_at", "pk").values_list("pk", flat=True)
    for _ in range(_CLAIM_TRIES):
        pk = head.first()
        if pk is None:
            return None
        with transaction.atomic():
            claimed = waiting.filter(pk=pk).update(
                split_phase=RawData.SplitPhase.RUNNING,
                split_attempt=F("split_attempt") + 1,
                split_worker=worker,
                split_lease_expires_at=_lease_end(),
            )
            if claimed:
                return RawData.objects.get(pk=pk)
    return None


def held_fold(fold: SubmissionFold) -> models.QuerySet[SubmissionFold]:
    """Return the fold's row as a query that is empty once the claim is lost."""
    return SubmissionFold.objects.filter(pk=fold.pk, attempt=fold.attempt, phase=Phase.RUNNING)


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


def return_fold(
    fold: SubmissionFold,
    *,
    reason: str,
    is_failure: bool,
    error_code: str,
    is_reaped: bool = False,
) -> None:
    """Give a fold back; after too many failures of ours it ends in error.

    Parameters
    ----------
    reason : str
        What happened, for the record of the attempt and, at the end, for the client.
    is_failure : bool
        True when the attempt is spent.
    error_code : str
        How the fold ends when the attempts are used up.
    is_reaped : bool
        True when another than the holder gives it back: only if the lease is still expired.
    """
    held = held_fold(fold)
    if is_reaped:
        held = held.filter(lease_expires_at__lt=Now())
    failures = fold.failures + int(is_failure)
    with transaction.atomic():
        if failures >= settings.MAX_ATTEMPTS:
            moved = move(
                held,
                phase=Phase.DONE,
                state=State.ERROR,
                error_code=error_code,
                log_messages=f"{reason} Tried {failures} times.",
                failures=failures,
                finished_at=Now(),
                lease_expires_at=None,
            )
        else:
            cleared = {**NO_RESULTS, "failures": failures}
            moved = move(held, phase=Phase.WAITING, state=State.TODO, **cleared)
        if moved:
            record_attempt(fold=fold, outcome="lost" if is_failure else "returned", usage={})


def return_split(raw_data: RawData, *, reason: str, is_failure: bool, error_code: str) -> None:
    """Give a split back; after too many failures of ours the dataset is in error."""
    failures = raw_data.split_failures + int(is_failure)
    if failures < settings.MAX_ATTEMPTS:
        held_split(raw_data).update(split_phase=RawData.SplitPhase.WAITING, split_failures=failures)
        return
    end_split_in_error(
        raw_data, error_code=error_code, log_messages=f"{reason} Tried {failures} times."
    )


def end_split_in_error(raw_data: RawData, *, error_code: str, log_messages: str) -> None:
    """Record that a dataset cannot be split, and end the folds that wait for it."""
    with transaction.atomic():
        ended = held_split(raw_data).update(
            state=RawData.State.ERROR,
            error_code=error_code,
            log_messages=log_messages,
            split_phase=RawData.SplitPhase.IDLE,
            split_lease_expires_at=None,
        )
        if ended:
            fail_waiting(SubmissionFold.objects.filter(submission__raw_data=raw_data))


def reap_expired() -> int:
    """Return what dead workers held to the queue; any process may call it at any time."""
    expired = SubmissionFold.objects.filter(phase=Phase.RUNNING, lease_expires_at__lt=Now())
    folds = list(expired[:100])
    for fold in folds:
        return_fold(
            fold,
            reason="The worker was lost.",
            is_failure=True,
            error_code="worker_lost",
            is_reaped=True,
        )
    splits = list(
        RawData.objects.filter(
            split_phase=RawData.SplitPhase.RUNNING, split_lease_expires_at__lt=Now()
        )[:100]
    )
    for raw_data in splits:
        return_split(
            raw_data, reason="The worker was lost.", is_failure=True, error_code="worker_lost"
        )
    return len(folds) + len(splits)


def count_claimable(*, most: int) -> int:
    """Return how many folds and splits could be claimed now, counting no further than `most`."""
    folds = SubmissionFold.objects.filter(
        Q(phase=Phase.WAITING, submission__raw_data__state=RawData.State.READY)
    )
    splits = RawData.objects.filter(split_phase=RawData.SplitPhase.WAITING)
    return min(folds[:most].count() + splits[:most].count(), most)


def _lease_end() -> ExpressionWrapper[Any]:
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    return ExpressionWrapper(Now() + lease, output_field=DateTimeField())
