"""Submission folds: post, cancel, re-prioritise."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from numpy.typing import NDArray

from runapp import dispatch, wire
from runapp.access import check_may_submit
from runapp.allowance import Allowance, Ask, read_allowance
from runapp.events import Action
from runapp.exceptions import Conflict, InvalidInput
from runapp.models import Predictions, RawData, Submission, SubmissionFold
from runapp.queue import lock_claims
from runapp.services import audit
from runapp.services.feed import note, publishing, touch
from runapp.services.moves import (
    NEVER_TRIED,
    fail_waiting,
    move,
    requeue_running,
    take_from_workers,
)
from runapp.services.quotas import check_room, count_use, refund_folds
from runapp.services.sharing import open_to_owners
from runapp.services.submissions import (
    CodeChange,
    Force,
    PostedSubmission,
    check_submission,
    find_submission,
    save_submission,
    store_code,
)
from runapp.tracing import get_request_id
from runapp.transitions import Phase, State

TAKEN_ID = "SubmissionFold with this databoard_sf_id already exists."
CANCELLED = "Cancelled on request."
NOT_RUN = "Not run: fold {fold} of the same code failed before fit was called: {sentence}"


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


def post_fold(
    *,
    owner: User,
    posted: PostedFold,
    submission: PostedSubmission,
    force: Force,
    allowance: Allowance | None = None,
) -> tuple[SubmissionFold, str]:
    """Store a fold, and its submission the first time; return the row and its hint's task id.

    Parameters
    ----------
    allowance : Allowance, optional
        What the account may have and do, where that is known already.

    Raises
    ------
    InvalidInput
        When the dataset or files are missing, the indices do not fit the split, or the id is
        taken and no force given.
    Forbidden
        When the dataset is another's who lets the account look at most.
    Conflict
        When other files come for a known submission without force.
    QuotaExceeded
        When the account may not post it today, or have so many waiting or stored.
    """
    is_waiting = _check_id(owner, posted, submission, force)
    known = find_submission(owner=owner, databoard_s_id=submission.databoard_s_id)
    raw_data = check_submission(posted=submission, known=known, force=force)
    check_may_submit(owner, raw_data)
    check_rows(posted, raw_data)
    allowance = allowance or read_allowance(owner=owner)
    ask = Ask(
        raw_data_id=raw_data.pk,
        folds=1,
        waiting_folds=int(not is_waiting),
        submissions=int(known is None),
        n_bytes=submission.n_bytes if known is None else 0,
    )
    check_room(owner=owner, allowance=allowance, ask=ask)
    # What can be refused has been: only now is something written.
    try:
        return _write(owner, posted, submission, raw_data, force, allowance)
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
    end: dict[str, Any] = {
        "phase": Phase.DONE,
        "state": State.ERROR,
        "error_code": "cancelled",
        "log_messages": CANCELLED,
        "finished_at": Now(),
        "lease_expires_at": None,
    }
    with publishing():
        # Locked and read again: a worker may have claimed it since the caller looked.
        phase = rows.select_for_update().values_list("phase", flat=True).first()
        if phase == Phase.RUNNING:
            take_from_workers(rows, outcome="cancelled", **end)
        elif move(rows.filter(phase=Phase.WAITING), **end):
            refund_folds(folds=rows)
        else:
            raise Conflict("This fold has finished.")
        audit.record(action=Action.FOLD_CANCELLED, of=fold, facts={"phase": phase})
    return bool(phase == Phase.RUNNING)


def change_priority(*, fold: SubmissionFold, priority: str) -> None:
    """Give a waiting fold another priority.

    Raises
    ------
    Conflict
        When it does not wait.
    """
    waiting = SubmissionFold.objects.filter(pk=fold.pk, phase=Phase.WAITING)
    with publishing():
        if not touch(waiting, priority=priority):
            raise Conflict("Only the priority of a waiting fold can be changed.")
        audit.record(action=Action.PRIORITY_CHANGED, of=fold, facts={"priority": priority})


def fail_siblings(*, fold: SubmissionFold, error_code: str, sentence: str) -> int:
    """End the waiting folds of the same code as one that failed before `fit` was called.

    Returns
    -------
    int
        How many were ended.
    """
    with publishing():
        # Locked: whoever replaces the code, or posts another fold of it, does so before or after.
        rows = Submission.objects.select_for_update(no_key=True).filter(pk=fold.submission_id)
        submission = rows.first()
        if submission is None or submission.hash_files != fold.code_digest:
            return 0
        return fail_waiting(
            SubmissionFold.objects.filter(submission=submission),
            error_code=error_code,
            log_messages=NOT_RUN.format(fold=fold.databoard_sf_id, sentence=sentence),
        )


def pack_indices(indices: NDArray[np.int64]) -> bytes:
    """Return indices in the form in which a row keeps them."""
    return zlib.compress(indices.astype("<i8", copy=False).tobytes())


def unpack_indices(packed: bytes) -> NDArray[np.int64]:
    """Return the indices that a row keeps."""
    return np.frombuffer(zlib.decompress(packed), dtype="<i8")


def _check_id(owner: User, posted: PostedFold, submission: PostedSubmission, force: Force) -> bool:
    """Check that a fold's id is free or may be used again; tell whether a fold of it waits."""
    # Against a race the constraint and the row's lock decide (`_save_fold`).
    rows = SubmissionFold.objects.filter(owner=owner, databoard_sf_id=posted.databoard_sf_id)
    found = rows.values_list("submission__databoard_s_id", "phase").first()
    if found is None:
        return False
    holder, phase = found
    if force is Force.NOTHING:
        raise InvalidInput(TAKEN_ID, field="databoard_sf_id", code="unique")
    if holder != submission.databoard_s_id:
        raise _belong_elsewhere(posted)
    return bool(phase == Phase.WAITING)


def _belong_elsewhere(posted: PostedFold) -> InvalidInput:
    return InvalidInput(
        f"Fold {posted.databoard_sf_id} belongs to another submission.", field="databoard_s_id"
    )


def _write(
    owner: User,
    posted: PostedFold,
    submission: PostedSubmission,
    raw_data: RawData,
    force: Force,
    allowance: Allowance,
) -> tuple[SubmissionFold, str]:
    tree = store_code(posted=submission, raw_data=raw_data)
    with publishing():
        state = lock_state(raw_data)
        saved, code_change = save_submission(
            owner=owner,
            databoard_s_id=submission.databoard_s_id,
            raw_data=raw_data,
            tree=tree,
            force=force,
        )
        if code_change is CodeChange.REPLACED:
            # Siblings that wait will read the new code; those that run must start again, and none
            # be claimed before the commit.
            lock_claims()
            requeue_running(SubmissionFold.objects.filter(submission=saved))
        fold = _save_fold(owner, posted, saved, force, allowance)
        if state == RawData.State.ERROR:
            fail_waiting(SubmissionFold.objects.filter(pk=fold.pk))
        n_submissions = int(code_change is not CodeChange.NONE)
        ask = Ask(raw_data_id=raw_data.pk, folds=1, submissions=n_submissions)
        count_use(owner=owner, allowance=allowance, asks=[ask])
        task_id = dispatch.ring()
        open_to_owners(poster=owner, raw_data=[raw_data.pk])
        return fold, task_id


def lock_state(raw_data: RawData) -> str:
    """Lock a dataset, in the transaction of whoever adds a fold to it; return its state."""
    # A split that fails ends the folds that wait for it. Either it sees this one, or this one
    # sees that it has failed: whoever touches a dataset and its folds locks the dataset first.
    rows = RawData.objects.select_for_update(no_key=True).filter(pk=raw_data.pk)
    state: str = rows.values_list("state", flat=True).get()
    return state


def check_rows(posted: PostedFold, raw_data: RawData) -> None:
    """Check that a fold's indices lie in the dataset's train part, where that is known.

    Raises
    ------
    InvalidInput
        When they do not.
    """
    if raw_data.state != RawData.State.READY:
        return
    for name in ("train_is", "test_is"):
        try:
            wire.check_indices(getattr(posted, name), n_rows=raw_data.n_train)
        except wire.WireError as error:
            raise InvalidInput(str(error), field=name) from error


def _save_fold(
    owner: User,
    posted: PostedFold,
    submission: Submission,
    force: Force,
    allowance: Allowance,
) -> SubmissionFold:
    values: dict[str, Any] = {
        "train_is": pack_indices(posted.train_is),
        "test_is": pack_indices(posted.test_is),
        "priority": posted.priority,
        "queued_at": Now(),
        "counted_on": allowance.day,
        "request_id": get_request_id(),
    }
    try:
        with transaction.atomic():
            fold = SubmissionFold.objects.create(
                owner=owner,
                submission=submission,
                raw_data_id=submission.raw_data_id,
                databoard_sf_id=posted.databoard_sf_id,
                rank=_count_fold(submission),
                **values,
            )
        note(SubmissionFold)
        return fold
    except IntegrityError as error:
        if force is Force.NOTHING:
            raise InvalidInput(TAKEN_ID, field="databoard_sf_id", code="unique") from error
    fold = _reset_fold(owner, posted, submission, values)
    audit.record(action=Action.FOLD_FORCED, of=fold, facts={"force": force})
    return fold


def _count_fold(submission: Submission) -> int:
    """Return how many folds were posted for the submission before; its row is locked."""
    Submission.objects.filter(pk=submission.pk).update(n_posted=F("n_posted") + 1)
    counted: int = Submission.objects.values_list("n_posted", flat=True).get(pk=submission.pk)
    return counted - 1


def _reset_fold(
    owner: User, posted: PostedFold, submission: Submission, values: dict[str, Any]
) -> SubmissionFold:
    rows = SubmissionFold.objects.filter(owner=owner, databoard_sf_id=posted.databoard_sf_id)
    fold = rows.select_for_update().first()
    if fold is None:
        raise Conflict(f"Fold {posted.databoard_sf_id} has changed in the meantime; post it again.")
    if fold.submission_id != submission.pk:
        raise _belong_elsewhere(posted)
    Predictions.objects.filter(fold=fold).delete()
    requeue_running(rows)
    changes = {**NEVER_TRIED, **values, "new": True}
    if not touch(rows.filter(phase=Phase.WAITING), **changes):
        move(rows, phase=Phase.WAITING, state=State.TODO, **changes)
    reset: SubmissionFold = rows.get()
    return reset
