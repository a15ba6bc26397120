"""What is known of each worker: whether it lives, and what it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from runapp.models import RawData, SubmissionFold, Worker
from runapp.selectors import list_live_workers
from runapp.transitions import Phase


@dataclass(frozen=True)
class Job:
    """What one slot runs; `seconds` is None where the start is not kept."""

    what: str
    seconds: float | None


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

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "started_at": self.started_at.isoformat(), "busy": len(self.jobs)}


def list_entries() -> list[Entry]:
    """Return all workers that have a row, live ones first."""
    live = set(list_live_workers().values_list("pk", flat=True))
    jobs = _list_jobs()
    entries = [
        _make_entry(worker, worker.pk in live, jobs)
        for worker in Worker.objects.annotate(now=Now()).order_by("name")
    ]
    return sorted(entries, key=lambda entry: not entry.is_live)


def _make_entry(worker: Any, is_live: bool, jobs: list[tuple[str, Job]]) -> Entry:
    kept = worker.promises
    missing = None if kept is None else tuple(sorted(settings.REQUIRED_PROMISES - set(kept)))
    return Entry(
        name=worker.name,
        host=worker.host,
        is_live=is_live,
        slots=worker.slots,
        # A slot's name is its worker's and the number of its process.
        jobs=tuple(job for slot, job in jobs if slot.rsplit("/", 2)[0] == worker.name),
        started_at=worker.started_at,
        seen_seconds=round((worker.now - worker.seen_at).total_seconds(), 1),
        missing=missing,
        versions=worker.versions,
    )


def _list_jobs() -> list[tuple[str, Job]]:
    """Return what runs now, each with the name of its slot."""
    folds = (
        SubmissionFold.objects.filter(phase=Phase.RUNNING)
        .annotate(now=Now())
        .order_by("started_at")
        .values_list("worker", "owner__username", "databoard_sf_id", "started_at", "now")
    )
    splits = RawData.objects.filter(split_phase=RawData.SplitPhase.RUNNING).order_by("pk")
    return [
        (slot, Job(f"fold {number} of {owner}", _count_seconds(started_at, now)))
        for slot, owner, number, started_at, now in folds
    ] + [
        (slot, Job(f"split of {name}", None))
        for slot, name in splits.values_list("split_worker", "name")
    ]


def _count_seconds(started_at: datetime | None, now: datetime) -> float | None:
    return None if started_at is None else round((now - started_at).total_seconds(), 1)
