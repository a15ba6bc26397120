"""What an operator does to folds that were shown to him a while ago.

Each is compared with what was shown, under the lock of its row: one that has changed meanwhile is
left alone, and what is sent twice is done once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db.models.functions import Now

from runapp import dispatch
from runapp.events import Action
from runapp.exceptions import Conflict, NotFound
from runapp.models import Predictions, RawData, SubmissionFold
from runapp.services import audit
from runapp.services.feed import publishing
from runapp.services.folds import lock_state
from runapp.services.moves import NEVER_TRIED, move
from runapp.tracing import get_request_id
from runapp.transitions import Phase, State


@dataclass(frozen=True)
class Seen:
    """A fold as it was shown.

    Parameters
    ----------
    queued_at : datetime
        Each time it is put into the queue it has another one.
    """

    pk: int
    attempt: int
    phase: Phase
    queued_at: datetime

    def __str__(self) -> str:
        return f"{self.pk}:{self.attempt}:{self.phase}:{self.queued_at.isoformat()}"


def steer(*, seen: Seen, deed: Callable[[SubmissionFold], object]) -> SubmissionFold:
    """Do something to a fold that is still as it was shown; return it as it was.

    Parameters
    ----------
    seen : Seen
        What was shown.
    deed : callable
        What is done to it, in the transaction that holds its lock.

    Raises
    ------
    NotFound
        When it is no more.
    Conflict
        When it has changed since it was shown.
    """
    with publishing():
        fold = SubmissionFold.objects.select_for_update().filter(pk=seen.pk).first()
        if fold is None:
            raise NotFound("It no longer exists.")
        _check_unchanged(fold, seen)
        deed(fold)
    return fold


def rerun_fold(*, seen: Seen) -> SubmissionFold:
    """Put a finished fold back into the queue, as if nobody had tried it; return it as it was.

    It is not counted in its owner's day: he has not asked for it.

    Raises
    ------
    NotFound
        When it is no more.
    Conflict
        When it has changed since it was shown, has not finished, or its dataset has no split.
    """
    with publishing():
        # The dataset first, like whoever adds a fold to it.
        raw_data = RawData.objects.filter(folds=seen.pk).first()
        if raw_data is None:
            raise NotFound("It no longer exists.")
        if lock_state(raw_data) == RawData.State.ERROR:
            raise Conflict("Its dataset's split has failed.")
        fold = steer(seen=seen, deed=_put_back)
        dispatch.ring()
    return fold


def _put_back(fold: SubmissionFold) -> None:
    rows = SubmissionFold.objects.filter(pk=fold.pk)
    changes = {
        **NEVER_TRIED,
        "queued_at": Now(),
        "counted_on": None,
        "request_id": get_request_id(),
        "new": True,
    }
    if fold.phase != Phase.DONE:
        raise Conflict("It has not finished.")
    Predictions.objects.filter(fold=fold).delete()
    move(rows, phase=Phase.WAITING, state=State.TODO, **changes)
    audit.record(action=Action.FOLD_FORCED, of=fold, facts={"rerun": True})


def _check_unchanged(fold: SubmissionFold, seen: Seen) -> None:
    now = (fold.attempt, fold.phase, fold.queued_at)
    if now != (seen.attempt, seen.phase, seen.queued_at):
        raise Conflict(f"It has changed in the meantime: {_describe(fold)}.")


def _describe(fold: SubmissionFold) -> str:
    if fold.phase == Phase.DONE:
        return f"it has ended with {fold.error_code or fold.state}"
    if fold.phase == Phase.RUNNING:
        return f"it is running, attempt {fold.attempt}"
    return "it is waiting"
