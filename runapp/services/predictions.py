"""Where predictions are kept, and handing them out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q
from numpy.typing import NDArray

from runapp.models import Predictions, SubmissionFold
from runapp.services.feed import publishing, touch
from runapp.storage import Bin, Kind, Pulse
from runapp.transitions import FINISHED, State

# SQLite takes a bounded number of parameters in one statement.
_MOST_PARAMETERS = 900


def store_predictions(
    values: NDArray[np.float64], *, part: str, bin: Bin, pulse: Pulse
) -> Predictions:
    """Make the row of a fold's predictions; the bytes of large ones go to the dataset's bin.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,) or (n_rows, n_columns)
        The predictions.
    part : str
        `full_train` or `test`.
    bin : Bin
        The dataset's blobs.
    pulse : callable
        Called while large ones are on their way.

    Returns
    -------
    Predictions
        Not saved, and without its fold.
    """
    content = values.astype("<f8", copy=False).tobytes()
    row = Predictions(part=part, shape=list(values.shape))
    if len(content) <= settings.INLINE_PREDICTIONS_BYTES:
        row.digest, row.data = hashlib.sha256(content).hexdigest(), content
    else:
        row.digest = bin.write(kind=Kind.PREDICTIONS, content=content, pulse=pulse)
    return row


def read_predictions(predictions: Predictions, *, bin: Bin) -> bytes:
    """Return predictions as float64 bytes in C order."""
    if predictions.data is not None:
        return bytes(predictions.data)
    return bin.read(kind=Kind.PREDICTIONS, digest=predictions.digest)


def hand_out_listed(*, account: User, owner: User, ids: list[int]) -> list[SubmissionFold]:
    """Return the finished folds among the ids, in that order; they stop being new.

    Only the owner's own reading counts as delivery: another who may look leaves the mark.
    """
    wanted = SubmissionFold.objects.filter(owner=owner, state__in=FINISHED)
    with publishing():
        numbers = list(dict.fromkeys(ids))
        keys = _list_keys(wanted, column="databoard_sf_id", values=numbers)
        folds = _load(keys)
        if account == owner:
            _mark_handed_out(keys)
        return folds


def hand_out_new(*, owner: User, raw_data_id: int | None) -> list[SubmissionFold]:
    """Return the tested folds that were never handed out; each goes to one caller only."""
    waiting = Q(owner=owner, new=True, state=State.TESTED, databoard_sf_id__isnull=False)
    if raw_data_id is not None:
        waiting &= Q(submission__raw_data_id=raw_data_id)
    with publishing():
        # Two callers never get one fold: the rows are locked, and who comes second passes them by.
        keys = list(
            SubmissionFold.objects.filter(waiting)
            .select_for_update(skip_locked=True, of=("self",))
            .order_by("finished_at", "pk")
            .values_list("pk", flat=True)
        )
        folds = _load(keys)
        _mark_handed_out(keys)
        return folds


def take_back(folds: Iterable[SubmissionFold]) -> None:
    """Let folds be new that were so when they were loaded: they could not be handed out."""
    with publishing():
        for some in _cut([fold.pk for fold in folds if fold.new]):
            touch(SubmissionFold.objects.filter(pk__in=some, state=State.TESTED), new=True)


def _list_keys(
    folds: models.QuerySet[SubmissionFold], *, column: str, values: list[int]
) -> list[int]:
    found: dict[int, int] = {}
    for some in _cut(values):
        found.update(folds.filter(**{f"{column}__in": some}).values_list(column, "pk"))
    return [found[value] for value in values if value in found]


def _mark_handed_out(keys: list[int]) -> None:
    for some in _cut(keys):
        touch(SubmissionFold.objects.filter(pk__in=some, new=True), new=False)


def _load(keys: list[int]) -> list[SubmissionFold]:
    found: dict[int, SubmissionFold] = {}
    for some in _cut(keys):
        rows = SubmissionFold.objects.select_related("submission__raw_data", "owner")
        found.update(rows.prefetch_related("predictions").in_bulk(some))
    return [found[key] for key in keys]


def _cut(values: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(values), _MOST_PARAMETERS):
        yield values[start : start + _MOST_PARAMETERS]
