"""Submission folds: post, cancel, re-prioritise, send back to the queue.

Every change of a fold's phase and state goes through `move`, whose condition is the table of
allowed changes: what somebody else has moved meanwhile is not moved again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from numpy.typing import NDArray

from runapp import dispatch, wire
from runapp.exceptions import Conflict, InvalidInput
from runapp.models import FoldAttempt, Predictions, RawData, Submission, SubmissionFold
from runapp.services.submissions import (
    Force,
    PostedSubmission,
    check_submission,
    find_submission,
    save_submission,
    store_code,
)
from runapp.transitions import Phase, State, list_sources

TAKEN_ID = "SubmissionFold with this databoard_sf_id already exists."
CANCELLED = "Cancelled on request."
SPLIT_FAILED = "The dataset's split failed: see the dataset's log_messages."

Folds = models.QuerySet[SubmissionFold]

# What a fold has when nothing has been run.
NO_RESULTS: dict[str, Any] = {
    "error_code": None,
    "log_messages": "",
    "train_time": None,
    "validation_time": None,
    "test_time": None,
    "train_cpu_time": None,
    "test_cpu_time": None,
    "train_memory": None,
    "test_memory": None,
    "measured_by": None,
    "split_digest": "",
    "code_digest": "",
    "worker": "",
    "claim_token": "",
    "lease_expires_at": None,
    "started_at": None,
    "finished_at": None,
}


@dataclass(frozen=True)
class PostedFold:
    """A fold as it was posted, decoded.

    Parameters
    ----------
    train_is, test_is : ndarray of int64, shape (n_rows,)
        Row positions in the train part.
    """

    databoard_sf_id: int
    train_is: NDArray[np.int64]
    test_is: NDArray[np.int64]
    priority: str


def move(folds: Folds, *, phase: Phase, state: State, **changes: Any) -> int:
    """Move folds to a phase and state from wherever that is allowed; return how many moved."""
    allowed = reduce(
        or_,
        (Q(phase=before, state=was) for before, was in list_sources(phase=phase, state=state)),
    )
    return folds.filter(allowed).update(phase=phase, state=state, **changes)


def post_fold(
    *, owner: User, posted: PostedFold, submission: PostedSubmission, force: Force
) -> tuple[SubmissionFold, str]:
    """Store a fold, and its submission the first time; return the row and its hint's task id.

    Raises
    ------
    InvalidInput
        When the dataset or files are missing, the indices do not fit the split, or the id is
        taken and no force given.
    Conflict
        When other files come for a known submission without force.
    """
    _check_id(owner, posted, submission, force)
    known = find_submission(owner=owner, databoard_s_id=submission.databoard_s_id)
    raw_data = check_submission(posted=submission, known=known, force=force)
    _check_rows(posted, raw_data)
    # What can be refused has been: only now is something written.
    try:
        return _write(owner, posted, submission, raw_data, force)
    except (FileNotFoundError, IntegrityError, RawData.DoesNotExist) as error:
        if RawData.objects.filter(pk=raw_data.pk).exists():
            raise
        # Deleted since it was looked up, with its folder: what was written since goes too.
        raw_data.bin.remove()
        raise InvalidInput(
            f"There is no raw data {raw_data.pk}.", field="raw_data", code="does_not_exist"
        ) from error


def cancel_fold(*, fold: SubmissionFold) -> bool:
    """Cancel a fold; return whether it was running (its worker kills it within seconds).

    Raises
    ------
    Conflict
        When it has finished.
    """
    rows = SubmissionFold.objects.filter(pk=fold.pk)
    with transaction.atomic():
        # Locked and read again: a worker may have claimed it since the caller looked.
        phase = rows.select_for_update().values_list("phase", flat=True).first()
        moved = move(
            rows,
            phase=Phase.DONE,
            state=State.ERROR,
            error_code="cancelled",
            log_messages=CANCELLED,
            finished_at=Now(),
            lease_expires_at=None,
        )
    if not moved:
        raise Conflict("This fold has finished.")
    return phase == Phase.RUNNING


def change_priority(*, fold: SubmissionFold, priority: str) -> None:
    """Give a waiting fold another priority.

    Raises
    ------
    Conflict
        When it does not wait.
    """
    waiting = SubmissionFold.objects.filter(pk=fold.pk, phase=Phase.WAITING)
    if not waiting.update(priority=priority):
        raise Conflict("Only a waiting fold can change its priority.")


def requeue_running(folds: Folds) -> int:
    """Send running folds back to the queue; their workers notice and kill what runs."""
    return move(
        folds.filter(phase=Phase.RUNNING),
        phase=Phase.WAITING,
        state=State.TODO,
        **{**NO_RESULTS, "failures": 0},
    )


def fail_waiting(folds: Folds) -> int:
    """End waiting folds whose dataset's split failed."""
    return move(
        folds.filter(phase=Phase.WAITING),
        phase=Phase.DONE,
        state=State.ERROR,
        error_code="split_error",
        log_messages=SPLIT_FAILED,
        finished_at=Now(),
    )


def pack_indices(indices: NDArray[np.int64]) -> bytes:
    """Return indices in the form in which a row keeps them."""
    return zlib.compress(indices.astype("<i8", copy=False).tobytes())


def unpack_indices(packed: bytes) -> NDArray[np.int64]:
    """Return the indices that a row keeps."""
    return np.frombuffer(zlib.decompress(packed), dtype="<i8")


def _check_id(owner: User, posted: PostedFold, submission: PostedSubmission, force: Force) -> None:
    # Against a race the constraint and the row's lock decide (`_save_fold`).
    rows = SubmissionFold.objects.filter(owner=owner, databoard_sf_id=posted.databoard_sf_id)
    holder = rows.values_list("submission__databoard_s_id", flat=True).first()
    if holder is None:
        return
    if force is Force.NOTHING:
        raise InvalidInput(TAKEN_ID, field="databoard_sf_id", code="unique")
    if holder != submission.databoard_s_id:
        raise _belong_elsewhere(posted)


def _belong_elsewhere(posted: PostedFold) -> InvalidInput:
    return InvalidInput(
        f"Fold {posted.databoard_sf_id} belongs to another submission.", field="databoard_s_id"
    )


def _write(
    owner: User, posted: PostedFold, submission: PostedSubmission, raw_data: RawData, force: Force
) -> tuple[SubmissionFold, str]:
    tree = store_code(posted=submission, raw_data=raw_data)
    with transaction.atomic():
        state = _lock_state(raw_data)
        saved, has_new_code = save_submission(
            owner=owner,
            databoard_s_id=submission.databoard_s_id,
            raw_data=raw_data,
            tree=tree,
            force=force,
        )
        if has_new_code:
            # Siblings that wait will read the new code; those that run must start again.
            requeue_running(SubmissionFold.objects.filter(submission=saved))
        fold = _save_fold(owner, posted, saved, force)
        if state == RawData.State.ERROR:
            fail_waiting(SubmissionFold.objects.filter(pk=fold.pk))
        return fold, dispatch.ring()


def _lock_state(raw_data: RawData) -> str:
    # A split that fails ends the folds that wait for it. Either it sees this one, or this one
    # sees that it has failed: whoever touches a dataset and its folds locks the dataset first.
    rows = RawData.objects.select_for_update(no_key=True).filter(pk=raw_data.pk)
    state: str = rows.values_list("state", flat=True).get()
    return state


def _check_rows(posted: PostedFold, raw_data: RawData) -> None:
    if raw_data.state != RawData.State.READY:
        return
    for name in ("train_is", "test_is"):
        try:
            wire.check_indices(getattr(posted, name), n_rows=raw_data.n_train)
        except wire.WireError as error:
            raise InvalidInput(str(error), field=name) from error


def _save_fold(
    owner: User, posted: PostedFold, submission: Submission, force: Force
) -> SubmissionFold:
    values: dict[str, Any] = {
        "train_is": pack_indices(posted.train_is),
        "test_is": pack_indices(posted.test_is),
        "priority": posted.priority,
        "queued_at": Now(),
    }
    try:
        with transaction.atomic():
            return SubmissionFold.objects.create(
                owner=owner,
                submission=submission,
                databoard_sf_id=posted.databoard_sf_id,
                **values,
            )
    except IntegrityError as error:
        if force is Force.NOTHING:
            raise InvalidInput(TAKEN_ID, field="databoard_sf_id", code="unique") from error
    return _reset_fold(owner, posted, submission, values)


def _reset_fold(
    owner: User, posted: PostedFold, submission: Submission, values: dict[str, Any]
) -> SubmissionFold:
    rows = SubmissionFold.objects.filter(owner=owner, databoard_sf_id=posted.databoard_sf_id)
    fold = rows.select_for_update().first()
    if fold is None:
        raise Conflict(f"Fold {posted.databoard_sf_id} changed meanwhile; post again.")
    if fold.submission_id != submission.pk:
        raise _belong_elsewhere(posted)
    Predictions.objects.filter(fold=fold).delete()
    changes = {**NO_RESULTS, **values, "new": True, "failures": 0}
    if Phase(fold.phase) is Phase.WAITING:
        rows.update(**changes)
    else:
        move(rows, phase=Phase.WAITING, state=State.TODO, **changes)
    reset: SubmissionFold = rows.get()
    return reset


def record_attempt(*, fold: SubmissionFold, outcome: str, usage: dict[str, Any]) -> None:
    """Keep what became of an attempt."""
    FoldAttempt.objects.update_or_create(
        fold=fold,
        number=fold.attempt,
        defaults={
            "worker": fold.worker,
            "started_at": fold.started_at,
            "ended_at": Now(),
            "outcome": outcome,
            "usage": usage,
            "code_digest": fold.code_digest,
            "split_digest": fold.split_digest,
        },
    )
