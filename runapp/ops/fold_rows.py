"""What an operator reads of a fold: why it waits or failed, and what it used of its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.db.models.functions import Now

from runapp.accounts.access import Scope
from runapp.common.transitions import Phase
from runapp.models import RawData, SubmissionFold
from runapp.scheduling.waiting import Circumstances, read_circumstances

_COLUMNS = (
    *("pk", "databoard_sf_id", "owner_id", "owner__username"),
    *("submission_id", "submission__databoard_s_id", "finished_at"),
    *("raw_data_id", "raw_data__name", "raw_data__state", "raw_data__paused", "raw_data__limits"),
    *("phase", "state", "error_code", "priority", "attempt", "worker", "queued_at", "started_at"),
    *("train_time", "validation_time", "test_time", "train_cpu_time", "test_cpu_time"),
    *("train_memory", "test_memory", "now"),
)
_MUCH = 0.9
KB_IN_MB = 1024
_AS_THEY_ARE = ("owner_id", "submission_id", "queued_at", "finished_at")


@dataclass(frozen=True)
class Use:
    """What was used of a limit; None is what was not measured."""

    used: float | None
    limit: float

    @property
    def high(self) -> float:
        """From where on it is much."""
        return self.limit * _MUCH


@dataclass(frozen=True)
class Line:
    """One fold. Wall time and CPU in seconds, memory in MB."""

    id: int
    fold: int | None
    owner: str
    dataset: str
    dataset_id: int
    submission: int | None
    phase: str
    state: str
    reason: str | None
    priority: str
    attempt: int
    worker: str
    age_seconds: float
    wall: Use
    cpu: Use
    memory: Use
    # Pages link to them, and ask whether a fold is still the one that was shown.
    owner_id: int
    submission_id: int
    queued_at: datetime
    finished_at: datetime | None

    @property
    def kind(self) -> str:
        """Which colour its state has: what runs has one, whatever it has come to."""
        return name_kind(phase=self.phase, state=self.state)

    def to_json(self) -> dict[str, Any]:
        shown = asdict(self)
        for name in _AS_THEY_ARE:
            del shown[name]
        return shown


def name_kind(*, phase: str, state: str) -> str:
    """Return what tells apart folds that wait, run, were tested and have failed."""
    return state if phase == Phase.DONE else phase


def read_lines(folds: QuerySet[SubmissionFold], *, most: int) -> list[Line]:
    """Return the first of some folds; logs, indices and predictions are not read."""
    # Of everybody's folds, as an operator sees them.
    rows = list(folds.annotate(now=Now()).values(*_COLUMNS)[:most])
    if not rows:
        return []
    circumstances = read_circumstances(scope=Scope(User(), clock=0, is_operator=True))
    return list(_make_lines(rows, circumstances))


def _make_lines(rows: Any, circumstances: Circumstances) -> Iterator[Line]:
    for row in rows:
        limits = RawData(limits=row["raw_data__limits"]).limits_in_force
        cpu = _add(row["train_cpu_time"], row["test_cpu_time"])
        peaks = [row[name] for name in ("train_memory", "test_memory") if row[name] is not None]
        yield Line(
            id=row["pk"],
            fold=row["databoard_sf_id"],
            owner=row["owner__username"],
            dataset=row["raw_data__name"],
            dataset_id=row["raw_data_id"],
            submission=row["submission__databoard_s_id"],
            phase=row["phase"],
            state=row["state"],
            reason=_explain(row, circumstances),
            priority=row["priority"],
            attempt=row["attempt"],
            worker=row["worker"],
            age_seconds=round((row["now"] - row["queued_at"]).total_seconds(), 1),
            wall=Use(_count_wall(row), limits["wall_seconds"]),
            cpu=Use(cpu, limits["cpu_seconds"]),
            memory=Use(max(peaks) / KB_IN_MB if peaks else None, limits["memory_mb"]),
            **{name: row[name] for name in _AS_THEY_ARE},
        )


def _explain(row: dict[str, Any], circumstances: Circumstances) -> str | None:
    """Return the error code of a fold that failed, or why one waits."""
    if row["phase"] != Phase.WAITING:
        error_code: str | None = row["error_code"]
        return error_code
    return circumstances.explain_waiting(
        phase=row["phase"],
        raw_data_state=row["raw_data__state"],
        is_paused=row["raw_data__paused"],
        owner_id=row["owner_id"],
    )


def _count_wall(row: dict[str, Any]) -> float | None:
    if row["phase"] == Phase.RUNNING:
        seconds: float = (row["now"] - row["started_at"]).total_seconds()
        return round(seconds, 1)
    return _add(row["train_time"], row["validation_time"], row["test_time"])


def _add(*seconds: float | None) -> float | None:
    measured = [number for number in seconds if number is not None]
    return sum(measured) if measured else None
