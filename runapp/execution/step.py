"""One step of a slot's work: claim the best thing that waits and run it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from runapp.common.log_context import following
from runapp.execution.heartbeat import Heartbeat
from runapp.execution.splits import run_split
from runapp.execution.training import run_fold
from runapp.models import RawData, SubmissionFold
from runapp.runner.supervisor import Supervisor
from runapp.scheduling.claims import claim_fold, claim_split
from runapp.scheduling.outcomes import count_waited

logger = logging.getLogger(__name__)

# How long a dataset that hindered a slot is passed over while there is other work.
DETOUR_SECONDS = 15.0


class Step(Enum):
    """What came of one step.

    `HINDERED` is a runner that could not begin or a storage that is away: the work waits again,
    and the slot should pause, and then leave that dataset alone for a while.
    """

    WORKED = auto()
    IDLE = auto()
    HINDERED = auto()


class Detours:
    """The datasets that a slot passes over, as they have hindered it.

    One is tried again when nothing else can be done, or else after some seconds and some other
    work. So whatever hinders those that are next, what waits behind them goes on.
    """

    def __init__(self) -> None:
        self._hindered_at: dict[int, float] = {}

    def list_datasets(self) -> list[int]:
        """Return the keys of the datasets."""
        return list(self._hindered_at)

    def note(self, *, raw_data_id: int, step: Step) -> None:
        """Count what came of work for a dataset."""
        now = time.monotonic()
        if step is Step.HINDERED:
            self._hindered_at[raw_data_id] = now
        else:
            moments = self._hindered_at.items()
            self._hindered_at = {pk: at for pk, at in moments if now - at < DETOUR_SECONDS}

    def end(self) -> bool:
        """Pass over none any more; tell whether any was."""
        were_any = bool(self._hindered_at)
        self._hindered_at.clear()
        return were_any


def run_next(
    *,
    worker: str,
    supervisor: Supervisor,
    is_leaving: Callable[[], bool],
    heartbeat: type[Heartbeat] = Heartbeat,
    detours: Detours | None = None,
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
    detours : Detours, optional
        The slot's own; none are made without.
    """
    detours = detours or Detours()
    but_for = detours.list_datasets()
    slot = _Slot(worker, supervisor, is_leaving, heartbeat)
    # Splits first: they are few, and folds wait for them.
    raw_data = claim_split(worker=worker, but_for=but_for)
    if raw_data is not None:
        could_begin, raw_data_id = _split(raw_data, slot), raw_data.pk
    else:
        fold = claim_fold(worker=worker, but_for=but_for)
        if fold is None:
            return Step.IDLE
        could_begin, raw_data_id = _train(fold, slot), fold.raw_data_id
    step = Step.WORKED if could_begin else Step.HINDERED
    detours.note(raw_data_id=raw_data_id, step=step)
    return step


@dataclass(frozen=True)
class _Slot:
    """Who runs."""

    worker: str
    supervisor: Supervisor
    is_leaving: Callable[[], bool]
    heartbeat: type[Heartbeat]


def _split(raw_data: RawData, slot: _Slot) -> bool:
    with following(
        dataset=raw_data.pk,
        attempt=raw_data.split_attempt,
        worker=slot.worker,
        keeper=slot.supervisor.keeper_pid,
    ):
        logger.info(
            *("dataset %s attempt %s: split begins", raw_data.pk, raw_data.split_attempt),
            extra={"action": "split_claimed"},
        )
        return run_split(
            raw_data=raw_data,
            supervisor=slot.supervisor,
            is_leaving=slot.is_leaving,
            heartbeat=slot.heartbeat,
        )


def _train(fold: SubmissionFold, slot: _Slot) -> bool:
    with following(
        request=fold.request_id,
        fold=fold.pk,
        attempt=fold.attempt,
        worker=slot.worker,
        keeper=slot.supervisor.keeper_pid,
    ):
        waited_seconds = count_waited(fold)
        logger.info(
            *("fold %s attempt %s: claimed after %.1f s", fold.pk, fold.attempt, waited_seconds),
            extra={
                "action": "fold_claimed",
                "dataset": fold.raw_data_id,
                "priority": fold.priority,
                "waited_seconds": round(waited_seconds, 3),
            },
        )
        return run_fold(
            fold=fold,
            supervisor=slot.supervisor,
            is_leaving=slot.is_leaving,
            heartbeat=slot.heartbeat,
        )
