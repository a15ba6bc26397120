"""One step of a slot's work: claim the best thing that waits and run it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from runapp.runner.supervisor import Supervisor
from runapp.services.claims import claim_fold, claim_split
from runapp.services.heartbeat import Heartbeat
from runapp.services.splits import run_split
from runapp.services.training import run_fold


class Step(Enum):
    """What came of one step.

    `HINDERED` is a runner that could not begin or a storage that is away: the work waits again,
    and the slot should leave it alone for a while.
    """

    WORKED = auto()
    IDLE = auto()
    HINDERED = auto()


def run_next(
    *,
    worker: str,
    supervisor: Supervisor,
    is_leaving: Callable[[], bool],
    heartbeat: type[Heartbeat] = Heartbeat,
) -> Step:
    """Claim and run a split or, when none waits, a fold.

    Parameters
    ----------
    worker : str
        The slot's name, which the row will carry.
    supervisor : Supervisor
        The slot's own.
    is_leaving : callable
        True when the worker shuts down and its grace has passed.
    heartbeat : type, optional
        What renews the lease.
    """
    # Splits first: they are few, and folds wait for them.
    raw_data = claim_split(worker=worker)
    if raw_data is not None:
        could_begin = run_split(
            raw_data=raw_data,
            supervisor=supervisor,
            is_leaving=is_leaving,
            heartbeat=heartbeat,
        )
        return Step.WORKED if could_begin else Step.HINDERED
    fold = claim_fold(worker=worker)
    if fold is None:
        return Step.IDLE
    could_begin = run_fold(
        fold=fold, supervisor=supervisor, is_leaving=is_leaving, heartbeat=heartbeat
    )
    return Step.WORKED if could_begin else Step.HINDERED
