"""What is known of each worker: whether it lives, and what it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import BigIntegerField, CharField, DateTimeField, Value
from django.db.models.functions import Cast, Now

from runapp.common.transitions import Phase
from runapp.models import RawData, SubmissionFold, Worker, keep_phase
from runapp.scheduling.live_workers import get_live_seconds


@dataclass(frozen=True)
class Job:
    """What one slot runs; `seconds` is None where the start is not kept.

    `fold_id` or `dataset_id` is the key of the row that is run.
    """

    what: str
    seconds: float | None
    fold_id: int | None = None
    dataset_id: int | None = None


@dataclass(frozen=True)
class Entry:
    """One worker, by the database's clock; `missing` is None until it has tested itself."""

    name: str
    host: str
    is_live: bool
    slots: int
    jobs: tuple[Job, ...]
    started_at: datetime
    seen_seconds: float
    missing: tuple[str, ...] | None
    versions: dict[str, str]
    kept: tuple[str, ...] = ()

    @property
    def idle(self) -> int:
        """How many slots run nothing."""
        return max(self.slots - len(self.jobs), 0) if self.is_live else 0

    def to_json(self) -> dict[str, Any]:
        shown = {**asdict(self), "started_at": self.started_at.isoformat(), "busy": len(self.jobs)}
        del shown["kept"]
        shown["jobs"] = [{"what": job.what, "seconds": job.seconds} for job in self.jobs]
        return shown


def list_entries() -> list[Entry]:
    """Return all workers that have a row, live ones first; in two queries."""
    jobs = _list_jobs()
    workers = Worker.objects.annotate(now=Now()).order_by("name")
    entries = [_make_entry(worker, jobs) for worker in workers]
    return sorted(entries, key=lambda entry: not entry.is_live)


def _make_entry(worker: Any, jobs: list[tuple[str, Job]]) -> Entry:
    kept = worker.promises
    missing = None if kept is None else tuple(sorted(settings.REQUIRED_PROMISES - set(kept)))
    seen_seconds = (worker.now - worker.seen_at).total_seconds()
    return Entry(
        name=worker.name,
        host=worker.host,
        is_live=seen_seconds < get_live_seconds(),
        slots=worker.slots,
        # A slot's name is its worker's and the number of its process.
        jobs=tuple(job for slot, job in jobs if slot.rsplit("/", 2)[0] == worker.name),
        started_at=worker.started_at,
        seen_seconds=round(seen_seconds, 1),
        missing=missing,
        versions=worker.versions,
        kept=tuple(sorted(kept or ())),
    )


def _list_jobs() -> list[tuple[str, Job]]:
    """Return what runs now, each with the name of its slot; folds first, the oldest first."""
    folds = (
        keep_phase(SubmissionFold.objects.order_by(), Phase.RUNNING)
        .annotate(now=Now())
        .values_list("worker", "pk", "databoard_sf_id", "owner__username", "started_at", "now")
    )
    # No fold's: it tells the two apart.
    nothing = Cast(Value(None), BigIntegerField())
    unknown = Cast(Value(None), DateTimeField())
    splits = RawData.objects.filter(split_phase=RawData.SplitPhase.RUNNING).order_by()
    rows = folds.union(
        splits.annotate(no_number=nothing, no_start=unknown, now=Now()).values_list(
            "split_worker", "pk", "no_number", Cast("name", CharField()), "no_start", "now"
        ),
        all=True,
    )
    return [(row[0], _make_job(*row[1:])) for row in sorted(rows, key=_order)]


def _order(row: tuple[Any, ...]) -> tuple[bool, Any, int]:
    started_at = row[4]
    return started_at is None, started_at or row[5], row[1]


def _make_job(
    pk: int, number: int | None, name: str, started_at: datetime | None, now: datetime
) -> Job:
    if started_at is None:
        return Job(f"split of {name}", None, dataset_id=pk)
    seconds = round((now - started_at).total_seconds(), 1)
    return Job(f"fold {number} of {name}", seconds, fold_id=pk)
