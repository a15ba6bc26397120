"""One step of a slot's work: claim the best thing that waits and run it."""

from __future__ import annotations

from collections.abc import Callable

from runapp.runner.supervisor import Supervisor
from runapp.services.claims import claim_fold, claim_split
from runapp.services.heartbeat import Heartbeat
from runapp.services.splits import run_split
from runapp.services.training import run_fold


def run_next(
    *,
    worker: str,
    supervisor: Supervisor,
    is_leaving: Callable[[], bool],
    heartbeat: type[Heartbeat] = Heartbeat,
) -> bool:
    """Claim and run a split or, when none waits, a fold; False when a slot should pause.

    That is when nothing waits, and when the runner could not even begin: the fold waits again,
    and whoever rings next may find the runner in a better state.

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
        return run_split(
            raw_data=raw_data,
            supervisor=supervisor,
            is_leaving=is_leaving,
            heartbeat=heartbeat,
        )
    fold = claim_fold(worker=worker)
    if fold is not None:
        return run_fold(
            fold=fold, supervisor=supervisor, is_leaving=is_leaving, heartbeat=heartbeat
        )
    return False
