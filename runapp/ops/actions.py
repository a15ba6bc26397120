"""What operators do to folds that were shown to them a while ago.

Each is compared with what was shown, under the lock of its row: one that has changed meanwhile is
left alone, and what is sent twice is done once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.db.models.functions import Now

from runapp.audit import record as audit
from runapp.changes.feed import publishing
from runapp.common.exceptions import Conflict, DatarunError, NotFound
from runapp.common.log_context import get_request_id
from runapp.common.transitions import ALLOWED, Phase, State
from runapp.models import Predictions, RawData, SubmissionFold
from runapp.models.audit import Action
from runapp.scheduling import dispatch
from runapp.scheduling.control import cancel_fold, change_priority
from runapp.scheduling.state_changes import NEVER_TRIED, move
from runapp.submissions.folds import lock_state


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


def steer(*, seen: Seen, action: Callable[[SubmissionFold], object]) -> SubmissionFold:
    """Do something to a fold that is still as it was shown; return it as it was.

    Parameters
    ----------
    seen : Seen
        What was shown.
    action : callable
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
        action(fold)
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
        fold = steer(seen=seen, action=_put_back)
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


@dataclass(frozen=True)
class FoldAction:
    """Something that can be done to folds.

    Parameters
    ----------
    name : str
        What forms call it.
    sentence : str
        What it does.
    outcome : str
        What became of a fold to which it was done.
    do : callable
        Does it to one, and raises a `DatarunError` when it cannot.
    takes : str
        Which folds can have it done.
    phases : tuple of Phase
        The same for the database.
    wakes : bool, optional
        Whether there is more to run than before.
    priority : str, optional
        The priority that it gives: those that have it cannot have it done.
    """

    name: str
    title: str
    sentence: str
    outcome: str
    do: Callable[[Seen], object]
    takes: str
    phases: tuple[Phase, ...]
    wakes: bool = False
    priority: str = ""

    def keep_able(self, folds: QuerySet[SubmissionFold]) -> QuerySet[SubmissionFold]:
        """Keep the folds that can have it done."""
        # The states say the phases again: they have an index for every search.
        states = {state for phase, state in ALLOWED if phase in self.phases}
        able = folds.filter(phase__in=self.phases, state__in=sorted(states))
        return able.exclude(priority=self.priority) if self.priority else able


@dataclass(frozen=True)
class Answer:
    """Whether it was done to one fold; if not, the sentence tells why."""

    is_done: bool
    sentence: str


def carry_out(*, action: FoldAction, seen: Seen) -> Answer:
    """Do something to one fold, in a transaction of its own; tell what became of it.

    Parameters
    ----------
    action : FoldAction
        What is done.
    seen : Seen
        The fold as it was shown.

    Returns
    -------
    Answer
        What hinders one fold is told, and nothing to the others.
    """
    try:
        action.do(seen)
    except DatarunError as error:
        return Answer(False, error.message)
    return Answer(True, action.outcome)


def _cancel(seen: Seen) -> object:
    return steer(seen=seen, action=lambda fold: cancel_fold(fold=fold))


def _rerun(seen: Seen) -> object:
    return rerun_fold(seen=seen)


def _prioritise(priority: str) -> Callable[[Seen], object]:
    def change(fold: SubmissionFold) -> None:
        # Unlike the other actions it leaves the fold as it was shown.
        if fold.phase == Phase.WAITING and fold.priority == priority:
            raise Conflict(f"It already has priority {priority}.")
        change_priority(fold=fold, priority=priority)

    return lambda seen: steer(seen=seen, action=change)


def _give_priority(priority: str, *, name: str, sentence: str) -> FoldAction:
    return FoldAction(
        name=name,
        title=f"Priority {priority}",
        sentence=sentence,
        outcome=f"It now has priority {priority}.",
        do=_prioritise(priority),
        takes="Only waiting folds of the other priority can be changed.",
        phases=(Phase.WAITING,),
        priority=priority,
    )


CANCEL = FoldAction(
    name="cancel",
    title="Cancel",
    sentence="Waiting folds end immediately, running folds within seconds.",
    outcome="It was cancelled.",
    do=_cancel,
    takes="Only waiting and running folds can be cancelled.",
    phases=(Phase.WAITING, Phase.RUNNING),
)
RERUN = FoldAction(
    name="rerun",
    title="Run again",
    sentence="Finished folds lose their results and go back into the queue.",
    outcome="It is waiting again.",
    do=_rerun,
    takes="Only folds that have ended can be run again.",
    phases=(Phase.DONE,),
    wakes=True,
)
HIGH = _give_priority("H", name="high", sentence="They run before all folds of priority L.")
LOW = _give_priority("L", name="low", sentence="They run after all folds of priority H.")
FOLD_ACTIONS = {action.name: action for action in (CANCEL, RERUN, HIGH, LOW)}
