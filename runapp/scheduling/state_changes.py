"""Changes of a fold's phase and state.

Every change goes through `move`, whose condition is the table of allowed changes: what somebody
else has moved meanwhile is not moved again. How attempts end is in `outcomes.py`.
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
from runapp.changes.feed import touch
from runapp.common.transitions import Phase, State, list_sources
from runapp.models import Folds

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
