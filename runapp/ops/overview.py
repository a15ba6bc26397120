"""The state of the whole installation, at a cost that does not grow with its folds.

What could be many is counted up to a bound only, along an index; beyond it there are "more".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    DateTimeField,
    Min,
    OuterRef,
    QuerySet,
    Subquery,
    Value,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Least, Now

from runapp.common.transitions import Phase, State
from runapp.models import Clock, RawData, SubmissionFold, Worker, keep_phase
from runapp.scheduling.live_workers import get_live_seconds

# Of all folds, of one dataset's, and of those of each of many.
MOST_COUNTED = 10_000
MOST_COUNTED_OF_ONE = 100_000
MOST_COUNTED_EACH = 300
DATASETS_ON_PAGE = 10
# How old the ages on a page may become.
TICK_SECONDS = 10
# Every state of a fold that waits and of one that runs, as an operator tells them apart.
STANDINGS = ("waiting", "running", State.TESTED.value, State.ERROR.value)
_FOLDS = "runapp_submissionfold"
_OF_DATASET = dict.fromkeys(STANDINGS, "raw_data_id = runapp_rawdata.id")
# What runs is little, and found by its own index, not by looking through a dataset's folds.
_OF_DATASET["running"] = "raw_data_id + 0 = runapp_rawdata.id"
_PRIORITIES = tuple(SubmissionFold.Priority.values)


@dataclass(frozen=True)
class Count:
    """How many there are; of very many no more than the bound is known."""

    number: int
    bound: int = MOST_COUNTED

    @property
    def is_bounded(self) -> bool:
        """Whether there are more than were counted."""
        return self.number > self.bound

    def __str__(self) -> str:
        return f"{self.bound:,}+" if self.is_bounded else f"{self.number:,}"


@dataclass(frozen=True)
class Totals:
    """The folds of all accounts, by the database's clock."""

    now: datetime
    counts: dict[str, Count]
    oldest_seconds: float | None


@dataclass(frozen=True)
class DatasetLine:
    """One dataset and its folds."""

    id: int
    name: str
    owner: str
    state: str
    is_paused: bool
    counts: dict[str, Count]
    oldest_seconds: float | None


def read_pulse() -> str:
    """Return a text that changes whenever a page may: with any fold, any worker, any ten seconds.

    In one query.
    """
    live = Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=get_live_seconds()))
    latest = live.order_by("-started_at").values("started_at")[:1]
    row = Clock.objects.annotate(now=Now(), latest=Subquery(latest))[0]
    moment = int(row.now.timestamp()) // TICK_SECONDS
    return f"{row.epoch}.{row.value}.{row.latest}.{moment}"


def read_totals() -> Totals:
    """Return how many folds there are in each state; in one query."""
    figures: dict[str, Any] = {"now": Now(), "oldest": _find_oldest()}
    for name, condition in _list_conditions():
        figures[f"n_{name}"] = _count(condition, MOST_COUNTED)
    row = Clock.objects.annotate(**figures).values(*figures)[0]
    return Totals(
        now=row["now"],
        counts={name: Count(row[f"n_{name}"]) for name in STANDINGS},
        oldest_seconds=_count_seconds(row["oldest"], row["now"]),
    )


def list_datasets(*, before: int | None = None) -> list[DatasetLine]:
    """Return some datasets with their folds, the newest first; one more than a page has.

    Parameters
    ----------
    before : int, optional
        The key of the last one that was shown.
    """
    rows = RawData.objects.order_by("-pk")
    rows = rows if before is None else rows.filter(pk__lt=before)
    return _read_lines(rows[: DATASETS_ON_PAGE + 1], MOST_COUNTED_EACH)


def find_dataset(*, pk: int) -> DatasetLine | None:
    """Return one dataset with its folds, counted further than those of many."""
    return next(iter(_read_lines(RawData.objects.filter(pk=pk), MOST_COUNTED_OF_ONE)), None)


def _read_lines(rows: QuerySet[RawData], bound: int) -> list[DatasetLine]:
    figures: dict[str, Any] = {
        f"n_{name}": _count(f"{condition} AND {_OF_DATASET[name]}", bound)
        for name, condition in _list_conditions()
    }
    figures |= {f"oldest_{priority}": _find_first(priority) for priority in _PRIORITIES}
    columns = ("pk", "name", "owner__username", "state", "paused", "now")
    found: Any = rows.annotate(now=Now(), **figures).values(*columns, *figures)
    return [_make_line(row, bound) for row in found]


def _list_conditions() -> list[tuple[str, str]]:
    """Return what tells each standing, as SQL: with the words in the text an index is used."""
    return [
        ("waiting", f"phase = '{Phase.WAITING}'"),
        ("running", f"phase = '{Phase.RUNNING}'"),
        *((state.value, f"state = '{state}'") for state in (State.TESTED, State.ERROR)),
    ]


def _count(condition: str, bound: int) -> RawSQL:
    # A count within a bound is the count of a query of its own, for which the ORM has no word.
    some = f"SELECT 1 FROM {_FOLDS} WHERE {condition} LIMIT {bound + 1}"  # noqa: S608
    return RawSQL(f"(SELECT COUNT(*) FROM ({some}) AS counted)", ())  # noqa: S608, S611


def _find_oldest() -> Any:
    """Return since when the fold waits that waits longest: by one look into each dataset."""
    firsts = [_find_first(priority) for priority in _PRIORITIES]
    datasets = RawData.objects.annotate(first=_find_least(*firsts), one=Value(1)).order_by()
    return Subquery(datasets.values("one").annotate(least=Min("first")).values("least"))


def _find_least(*moments: Any) -> Any:
    # Where one is null, what is least is null on one of the databases and not on the other.
    first, second = moments
    return Least(_or(first, second), _or(second, first))


def _or(first: Any, second: Any) -> Any:
    return Coalesce(first, second, output_field=DateTimeField())


def _find_first(priority: str) -> Any:
    waiting = keep_phase(SubmissionFold.objects.all(), Phase.WAITING)
    of_dataset = waiting.filter(raw_data=OuterRef("pk"), priority=priority)
    return Subquery(of_dataset.order_by("queued_at").values("queued_at")[:1])


def _make_line(row: dict[str, Any], bound: int) -> DatasetLine:
    moments = [row[f"oldest_{priority}"] for priority in _PRIORITIES]
    oldest = min((moment for moment in moments if moment is not None), default=None)
    return DatasetLine(
        id=row["pk"],
        name=row["name"],
        owner=row["owner__username"],
        state=row["state"],
        is_paused=row["paused"],
        counts={name: Count(row[f"n_{name}"], bound) for name in STANDINGS},
        oldest_seconds=_count_seconds(oldest, row["now"]),
    )


def _count_seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else (now - since).total_seconds()
