"""What an account does to a fold that it has posted: cancel it, change its priority."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now

from runapp.accounts.quotas import refund_folds
from runapp.audit import record as audit
from runapp.changes.feed import publishing, touch
from runapp.common.exceptions import Conflict
from runapp.common.transitions import Phase, State
from runapp.models import SubmissionFold
from runapp.models.audit import Action
from runapp.scheduling.outcomes import CANCELLED, take_from_workers
from runapp.scheduling.state_changes import move


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
