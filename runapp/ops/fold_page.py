"""All that is known of one fold, for an operator who wants to find out what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models.functions import Now

from runapp.accounts.access import READERS, Scope
from runapp.common.exceptions import NotFound
from runapp.common.transitions import Phase
from runapp.models import FoldAttempt, SubmissionFold, Worker
from runapp.ops.audit_history import History, read_history_of_fold
from runapp.ops.fold_rows import KB_IN_MB, name_kind
from runapp.scheduling.waiting import read_circumstances

# Of a log that is longer, so many lines of its beginning and of its end are shown.
HEAD_LINES = TAIL_LINES = 100
MOST_ATTEMPTS = 50
_UNSHOWN = ("train_is", "test_is")


@dataclass(frozen=True)
class Stage:
    """What one stage of a fold used; None is what was not measured. Memory in MB."""

    name: str
    wall: float | None
    cpu: float | None
    memory: float | None


@dataclass(frozen=True)
class Log:
    """What a fold's code has printed, cut in the middle if it is long."""

    head: str
    tail: str
    n_left_out: int


@dataclass(frozen=True)
class FoldPage:
    """One fold; `log` is None for who may not read it."""

    fold: SubmissionFold
    now: datetime
    stages: tuple[Stage, ...]
    limits: dict[str, Any]
    attempts: tuple[FoldAttempt, ...]
    waiting_because: str | None
    log: Log | None
    may_read: bool
    versions: dict[str, str]
    events: History

    @property
    def kind(self) -> str:
        """Which colour its state has."""
        return name_kind(phase=self.fold.phase, state=self.fold.state)

    @property
    def running_seconds(self) -> float | None:
        """For how long it has run by now."""
        if self.fold.phase != Phase.RUNNING or self.fold.started_at is None:
            return None
        return (self.now - self.fold.started_at).total_seconds()

    @property
    def waited_seconds(self) -> float:
        """How long it waited for a slot, or has by now."""
        until = self.fold.started_at or self.fold.finished_at or self.now
        return (until - self.fold.queued_at).total_seconds()


def read_fold_page(*, pk: int, scope: Scope) -> FoldPage:
    """Return all that is known of a fold and may be told.

    Raises
    ------
    NotFound
        When there is no such fold.
    """
    rows = SubmissionFold.objects.select_related("submission", "raw_data", "owner")
    fold: Any = rows.defer(*_UNSHOWN).annotate(now=Now()).filter(pk=pk).first()
    if fold is None:
        raise NotFound("There is no such fold.")
    may_read = scope.may(READERS, raw_data_id=fold.raw_data_id, owner_id=fold.owner_id)
    return FoldPage(
        fold=fold,
        now=fold.now,
        stages=_list_stages(fold),
        limits=fold.raw_data.limits_in_force,
        attempts=tuple(fold.attempts.order_by("-number")[:MOST_ATTEMPTS]),
        waiting_because=_explain_waiting(fold),
        log=_cut(fold.log_messages) if may_read else None,
        may_read=may_read,
        versions=_read_versions(fold.worker),
        events=read_history_of_fold(fold),
    )


def _list_stages(fold: SubmissionFold) -> tuple[Stage, ...]:
    return (
        Stage("train", fold.train_time, fold.train_cpu_time, _to_mb(fold.train_memory)),
        Stage("validate", fold.validation_time, None, None),
        Stage("test", fold.test_time, fold.test_cpu_time, _to_mb(fold.test_memory)),
    )


def _to_mb(kilobytes: float | None) -> float | None:
    return None if kilobytes is None else kilobytes / KB_IN_MB


def _explain_waiting(fold: SubmissionFold) -> str | None:
    if fold.phase != Phase.WAITING:
        return None
    circumstances = read_circumstances(scope=Scope(User(), clock=0, is_operator=True))
    return circumstances.explain_waiting(
        phase=fold.phase,
        raw_data_state=fold.raw_data.state,
        is_paused=fold.raw_data.paused,
        owner_id=fold.owner_id,
    )


def _cut(log: str) -> Log:
    lines = log.splitlines()
    n_left_out = len(lines) - HEAD_LINES - TAIL_LINES
    if n_left_out <= 0:
        return Log(log, "", 0)
    return Log("\n".join(lines[:HEAD_LINES]), "\n".join(lines[-TAIL_LINES:]), n_left_out)


def _read_versions(slot: str) -> dict[str, str]:
    """Return what ran the fold, as long as its worker is known."""
    if not slot:
        return {}
    found = Worker.objects.filter(name=slot.rsplit("/", 2)[0]).values_list("versions", flat=True)
    return found.first() or {}
