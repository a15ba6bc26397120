"""Changes of a fold's phase and state, and what goes with each of them.

Every change goes through `move`, whose condition is the table of allowed changes: what somebody
else has moved meanwhile is not moved again. Whatever takes a running fold from its worker also
ends the attempt and settles the account's share, in one transaction.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runapp.changes.counters import count_ends
from runapp.changes.ended_folds import Outcome
from runapp.changes.feed import publishing, touch
from runapp.common.transitions import Phase, State, list_sources
from runapp.models import Folds, SubmissionFold
from runapp.scheduling.attempts import end_attempt
from runapp.scheduling.fair_share import settle

SPLIT_FAILED = "The dataset's split failed: see the dataset's log_messages."

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
    "lease_expires_at": None,
    "started_at": None,
    "finished_at": None,
    "predictions_bytes": 0,
}
# What a fold has that nobody has tried yet.
NEVER_TRIED = {**NO_RESULTS, "failures": 0, "false_starts": 0}


def move(folds: Folds, *, phase: Phase, state: State, **changes: Any) -> int:
    """Move folds to a phase and state from wherever that is allowed; return how many moved.

    Within `publishing`: clients see it.
    """
    allowed = reduce(
        or_,
        (Q(phase=before, state=was) for before, was in list_sources(phase=phase, state=state)),
    )
    moved = touch(folds.filter(allowed), phase=phase, state=state, **changes)
    if moved and phase is Phase.DONE:
        outcome = Outcome.TESTED if state is State.TESTED else Outcome.ERROR
        code: str = changes.get("error_code") or ""
        count_ends(moved, outcome=outcome, error_code=code)
    return moved


def order_locks(folds: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Return a query that locks folds in the order in which everybody does.

    The accounts' shares are locked after them, and in the same order.
    """
    return folds.select_for_update(of=("self",)).order_by("owner_id", "pk")


def take_from_workers(
    folds: Folds, *, phase: Phase, state: State, outcome: str, **changes: Any
) -> int:
    """Take running folds from their workers, which notice within a second and kill what runs.

    Parameters
    ----------
    folds : QuerySet
        Those of them that run are taken.
    phase, state : Phase, State
        Where they go.
    outcome : str
        What became of the attempts.

    Returns
    -------
    int
        How many were taken.
    """
    with publishing():
        running = folds.filter(phase=Phase.RUNNING).annotate(now=Now())
        held = list(order_locks(running))
        taken = SubmissionFold.objects.filter(pk__in=[fold.pk for fold in held])
        moved = move(taken, phase=phase, state=state, **changes)
        for fold in held:
            end_attempt(fold=fold, outcome=outcome)
            assert fold.started_at is not None  # the claim has set it
            settle(fold=fold, used_seconds=(fold.now - fold.started_at).total_seconds())
    return moved


def requeue_running(folds: Folds) -> int:
    """Send running folds back to the queue, as if nobody had tried them."""
    return take_from_workers(
        folds, phase=Phase.WAITING, state=State.TODO, outcome="restarted", **NEVER_TRIED
    )


def fail_waiting(
    folds: Folds, *, error_code: str = "split_error", log_messages: str = SPLIT_FAILED
) -> int:
    """End waiting folds in error; by default because their dataset's split failed."""
    return move(
        folds.filter(phase=Phase.WAITING),
        phase=Phase.DONE,
        state=State.ERROR,
        error_code=error_code,
        log_messages=log_messages,
        finished_at=Now(),
    )
