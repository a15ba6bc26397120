"""Removing what nobody needs any more; safe while the service runs.

Blobs are marked and swept by age: whoever stores one writes it, or makes it young again, before the
row that refers to it. So a blob that is old and that no row refers to is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import models
from django.db.models import Exists, OuterRef, Sum
from django.db.models.functions import Length, Now
from django.utils import timezone

from runapp.changes.ended_folds import begin_span, list_before
from runapp.changes.feed import publishing, touch
from runapp.common.transitions import Phase
from runapp.models import (
    AccessToken,
    DailyUse,
    FoldAttempt,
    Predictions,
    RawData,
    Submission,
    SubmissionFold,
    Worker,
)
from runapp.scheduling.state_changes import order_locks
from runapp.storage import Bin, Kind, StoredBlob
from runapp.storage.blobs import digest_tree
from runapp.storage.configured import get_storage

# Longer than anything takes from writing a blob to the row that refers to it.
GRACE = timedelta(hours=24)
# What is counted against quotas is this day's; the rest is for operators to look at.
KEPT_USE = timedelta(days=31)
# Operators look at one day.
KEPT_ENDS = timedelta(days=2)
_BATCH = 500


@dataclass(frozen=True)
class Removal:
    """What was removed, or would be: how many of what, and their size where they have one."""

    what: str
    count: int
    n_bytes: int | None = None


@dataclass
class _Tally:
    count: int = 0
    n_bytes: int = 0

    def add(self, blob: StoredBlob) -> None:
        self.count += 1
        self.n_bytes += blob.size


def prune(*, days: int | None = None, is_dry_run: bool = False) -> Iterator[Removal]:
    """Remove what nobody needs any more, and yield what it was, kind by kind.

    Always: worker rows not heard of for a day, sessions and tokens that have expired, failed
    sign-ins that count no more, blobs that no row refers to and that are older than a day, counts
    of what was posted more than a month ago, and of what ended more than two days ago.

    Parameters
    ----------
    days : int or None, optional
        Also the predictions and the attempts of folds that finished longer ago and whose results
        were handed out; the folds stay. At least 1.
    is_dry_run : bool, optional
        Remove nothing.

    Raises
    ------
    StorageAway
        When the storage does not answer or refuses.
    """
    assert days is None or days >= 1
    old_folds = _find_old_folds(days)
    yield _remove(
        "worker rows", Worker.objects.filter(seen_at__lt=Now() - timedelta(days=1)), is_dry_run
    )
    yield _remove("sessions", Session.objects.filter(expire_date__lt=timezone.now()), is_dry_run)
    tokens = AccessToken.objects.filter(expiry__lt=timezone.now())
    yield _remove("tokens", tokens, is_dry_run)
    forgiven = AccessAttempt.objects.filter(
        attempt_time__lt=timezone.now() - settings.AXES_COOLOFF_TIME
    )
    yield _remove("failed sign-ins", forgiven, is_dry_run)
    old_days = DailyUse.objects.filter(day__lt=Now() - KEPT_USE)
    yield _remove("daily counts", old_days, is_dry_run)
    old_ends = list_before(begin_span(timezone.now() - KEPT_ENDS))
    yield _remove("counts of ended folds", old_ends, is_dry_run)
    if days is not None:
        yield _remove_predictions(old_folds, is_dry_run)
        yield _remove("attempts", FoldAttempt.objects.filter(fold__in=old_folds), is_dry_run)
    # Their rows are gone by now; what has become old meanwhile keeps its files.
    forgotten = old_folds if is_dry_run else SubmissionFold.objects.none()
    yield from _remove_blobs(forgotten, is_dry_run)


def _find_old_folds(days: int | None) -> models.QuerySet[SubmissionFold]:
    if days is None:
        return SubmissionFold.objects.none()
    finished_before = Now() - timedelta(days=days)
    return SubmissionFold.objects.filter(
        phase=Phase.DONE, finished_at__lt=finished_before, new=False
    )


def _remove(what: str, rows: models.QuerySet[Any], is_dry_run: bool) -> Removal:
    # The condition is part of the statement: what has changed meanwhile is left alone.
    return Removal(what, rows.count() if is_dry_run else rows.delete()[0])


def _remove_predictions(old_folds: models.QuerySet[SubmissionFold], is_dry_run: bool) -> Removal:
    rows = Predictions.objects.filter(fold__in=old_folds)
    n_bytes = rows.aggregate(size=Sum(Length("data")))["size"] or 0
    if is_dry_run:
        return Removal("predictions", rows.count(), n_bytes)
    n_removed = 0
    with publishing():
        has_predictions = Exists(Predictions.objects.filter(fold=OuterRef("pk")))
        # Locked: none of them is run again meanwhile.
        keys = list(order_locks(old_folds.filter(has_predictions)).values_list("pk", flat=True))
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            touch(SubmissionFold.objects.filter(pk__in=some), predictions_bytes=0)
            n_removed += Predictions.objects.filter(fold__in=some).delete()[0]
    return Removal("predictions", n_removed, n_bytes)


def _remove_blobs(
    forgotten: models.QuerySet[SubmissionFold], is_dry_run: bool
) -> Iterator[Removal]:
    before = (timezone.now() - GRACE).timestamp()
    storage = get_storage()
    unreferenced, deleted = _Tally(), _Tally()
    for key in storage.list_keys():
        bin = storage.get_bin(key)
        if RawData.objects.filter(storage_key=key).exists():
            _sweep(bin, forgotten, before, unreferenced, is_dry_run)
        else:
            _remove_bin(bin, before, deleted, is_dry_run)
    yield Removal("files that no row refers to", unreferenced.count, unreferenced.n_bytes)
    yield Removal("files of deleted datasets", deleted.count, deleted.n_bytes)


def _sweep(
    bin: Bin,
    forgotten: models.QuerySet[SubmissionFold],
    before: float,
    tally: _Tally,
    is_dry_run: bool,
) -> None:
    old = [blob for blob in bin.list_stored() if blob.modified_at < before]
    for start in range(0, len(old), _BATCH):
        # Read again for each batch, after the listing: rows may have come to refer to some.
        referenced = _list_references(bin.key, forgotten)
        if referenced is None:
            return  # deleted meanwhile, with all its files
        for blob in old[start : start + _BATCH]:
            if (blob.kind, blob.digest) in referenced:
                continue
            if is_dry_run or bin.remove_old(blob, before=before):
                tally.add(blob)


def _remove_bin(bin: Bin, before: float, tally: _Tally, is_dry_run: bool) -> None:
    # Whole or not at all: a dataset that is being posted has files before it has a row.
    if not bin.is_older(before):
        return
    blobs = list(bin.list_stored())
    if RawData.objects.filter(storage_key=bin.key).exists():
        return
    if not is_dry_run:
        bin.remove()
    for blob in blobs:
        tally.add(blob)


def _list_references(
    key: str, forgotten: models.QuerySet[SubmissionFold]
) -> set[tuple[str, str]] | None:
    """Return kind and digest of all blobs that rows of a dataset refer to, None without a row."""
    raw_data = RawData.objects.filter(storage_key=key).first()
    if raw_data is None:
        return None
    raw = {*raw_data.files.values(), digest_tree(raw_data.files)}
    parts = set((raw_data.parts or {}).values())
    code: set[str] = set()
    for files, digest in Submission.objects.filter(raw_data=raw_data).values_list(
        "files", "hash_files"
    ):
        code.update(files.values(), (digest,))
    predictions = (
        Predictions.objects.filter(fold__submission__raw_data=raw_data, data=None)
        .exclude(fold__in=forgotten)
        .values_list("digest", flat=True)
    )
    found = {
        Kind.RAW: raw,
        Kind.FEATURES: parts,
        Kind.LABELS: parts,
        Kind.CODE: code,
        Kind.PREDICTIONS: set(predictions),
    }
    return {(kind.value, digest) for kind, digests in found.items() for digest in digests}
