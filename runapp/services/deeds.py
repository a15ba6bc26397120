"""What operators can do to a fold that was shown to them, in words and in deed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import QuerySet

from runapp.exceptions import Conflict, DatarunError
from runapp.models import SubmissionFold
from runapp.services.folds import cancel_fold, change_priority
from runapp.services.steering import Seen, rerun_fold, steer
from runapp.transitions import ALLOWED, Phase


@dataclass(frozen=True)
class Deed:
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


def carry_out(*, deed: Deed, seen: Seen) -> Answer:
    """Do something to one fold, in a transaction of its own; tell what became of it.

    Parameters
    ----------
    deed : Deed
        What is done.
    seen : Seen
        The fold as it was shown.

    Returns
    -------
    Answer
        What hinders one fold is told, and nothing to the others.
    """
    try:
        deed.do(seen)
    except DatarunError as error:
        return Answer(False, error.message)
    return Answer(True, deed.outcome)


def _cancel(seen: Seen) -> object:
    return steer(seen=seen, deed=lambda fold: cancel_fold(fold=fold))


def _rerun(seen: Seen) -> object:
    return rerun_fold(seen=seen)


def _prioritise(priority: str) -> Callable[[Seen], object]:
    def change(fold: SubmissionFold) -> None:
        # Unlike the other deeds it leaves the fold as it was shown.
        if fold.phase == Phase.WAITING and fold.priority == priority:
            raise Conflict(f"It already has priority {priority}.")
        change_priority(fold=fold, priority=priority)

    return lambda seen: steer(seen=seen, deed=change)


def _give_priority(priority: str, *, name: str, sentence: str) -> Deed:
    return Deed(
        name=name,
        title=f"Priority {priority}",
        sentence=sentence,
        outcome=f"It now has priority {priority}.",
        do=_prioritise(priority),
        takes="Only waiting folds of the other priority can be changed.",
        phases=(Phase.WAITING,),
        priority=priority,
    )


CANCEL = Deed(
    name="cancel",
    title="Cancel",
    sentence="Waiting folds end immediately, running folds within seconds.",
    outcome="It was cancelled.",
    do=_cancel,
    takes="Only waiting and running folds can be cancelled.",
    phases=(Phase.WAITING, Phase.RUNNING),
)
RERUN = Deed(
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
DEEDS = {deed.name: deed for deed in (CANCEL, RERUN, HIGH, LOW)}
