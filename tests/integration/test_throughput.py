"""What ended in each ten minutes: exactly counted, read by few rows, told to nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from runapp.changes import counters, ended_folds
from runapp.changes.ended_folds import Outcome as End
from runapp.changes.feed import publishing
from runapp.datasets.retention import prune
from runapp.execution.training import run_fold
from runapp.models import Clock, RawData, SubmissionFold, Tally
from runapp.monitoring import metrics
from runapp.ops.throughput import Throughput, read_throughput
from runapp.runner.contract import Outcome
from runapp.scheduling.claims import claim_fold
from runapp.scheduling.control import cancel_fold
from runapp.scheduling.state_changes import fail_waiting
from tests.doubles import InstantSupervisor
from tests.factories import finish_fold, make_fold

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def read_clock() -> datetime:
    now: datetime = Clock.objects.annotate(now=Now())[0].now
    return now


def count_lately() -> tuple[int, int]:
    """Return how many folds were tested and how many failed, by the counts of the last hour."""
    ended = read_throughput(now=read_clock()).last_hour
    return ended.tested, ended.failed


def put(at: datetime, outcome: End = End.TESTED, *, number: int = 1, shard: int = 0) -> None:
    labels = ended_folds.make_labels(ended_folds.tell_span(ended_folds.begin_span(at)), outcome)
    Tally.objects.create(name=ended_folds.NAME, labels=labels, shard=shard, value=number)


def list_busy(throughput: Throughput) -> list[tuple[str, int, int]]:
    return [(f"{each.began_at:%d %H:%M}", each.tested, each.failed) for each in throughput.busy]


def test_each_end_counts_once_and_again_after_a_rerun(ada: User, iris: RawData) -> None:
    found = []

    finish_fold(ada, iris)
    found.append(count_lately())
    finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)
    found.append(count_lately())
    finish_fold(ada, iris, force="submission_fold")
    found.append(count_lately())

    assert found == [(1, 0), (1, 1), (2, 1)]


def test_late_write_is_no_second_end(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None

    cancel_fold(fold=claimed)
    run_fold(fold=claimed, supervisor=InstantSupervisor(), is_leaving=lambda: False)

    assert count_lately() == (0, 1)


def test_folds_that_end_together_count_each(ada: User, iris: RawData) -> None:
    for number in range(3):
        make_fold(ada, iris, databoard_sf_id=number)

    with publishing():
        fail_waiting(SubmissionFold.objects.all())

    assert count_lately() == (0, 3)


def test_end_that_is_rolled_back_was_none(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)

    def fail() -> None:
        with publishing():
            fail_waiting(SubmissionFold.objects.all())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert count_lately() == (0, 0)


def test_ends_are_counted_under_the_ten_minutes_of_the_database() -> None:
    before = ended_folds.begin_span(read_clock())

    counters.count_ends(2, outcome=End.TESTED, error_code="")

    # A span may end between the two.
    after = ended_folds.begin_span(read_clock())
    labels = [
        ended_folds.make_labels(ended_folds.tell_span(at), End.TESTED) for at in (before, after)
    ]
    assert Tally.objects.get(name=ended_folds.NAME).labels in labels


def test_processes_count_in_rows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (3, 4, 11):
        monkeypatch.setattr(counters.os, "getpid", lambda pid=pid: pid)
        counters.count_ends(1, outcome=End.ERROR, error_code="worker_lost")

    assert count_lately() == (0, 3)
    assert set(Tally.objects.filter(name=ended_folds.NAME).values_list("shard", flat=True)) == {
        3,
        4,
    }


@pytest.mark.parametrize(
    ("minute", "begins"), [("12:30:00", "12:30"), ("12:39:59.999999", "12:30"), ("12:00", "12:00")]
)
def test_ten_minutes_begin_by_the_clock(minute: str, begins: str) -> None:
    at = datetime.fromisoformat(f"2026-01-31T{minute}+00:00")

    assert ended_folds.tell_span(ended_folds.begin_span(at)) == f"2026-01-31T{begins}"


def test_last_day_has_144_spans_and_nothing_of_the_day_before() -> None:
    for ago, number in ((0, 1), (49, 2), (60, 12), (23 * 60 + 54, 16), (24 * 60, 32)):
        put(NOON - ago * MINUTE, number=number)
    put(NOON, End.ERROR, number=64)
    put(NOON, number=128, shard=7)

    found = read_throughput(now=NOON)

    assert len(found.spans) == 144
    assert (found.spans[0].began_at, found.spans[-1].ended_at) == (
        datetime(2026, 1, 30, 12, 40, tzinfo=UTC),
        datetime(2026, 1, 31, 12, 40, tzinfo=UTC),
    )
    # Six spans: from 11:40 on.
    assert (found.last_hour.tested, found.last_hour.failed) == (131, 64)
    assert (found.last_day.tested, found.last_day.failed) == (159, 64)
    assert found.most == 193
    assert list_busy(found) == [
        ("31 12:30", 129, 64),
        ("31 11:40", 2, 0),
        ("31 11:30", 12, 0),
        ("30 12:40", 16, 0),
    ]


def test_quiet_day_is_all_zeros() -> None:
    found = read_throughput(now=NOON)

    assert (found.most, found.busy, found.last_day.total) == (0, (), 0)
    assert found.data["tested"] == found.data["failed"] == [0] * 144


def test_day_is_read_by_one_range_of_the_index() -> None:
    for ago in range(0, 3000, 10):
        put(NOON - ago * MINUTE)

    with CaptureQueriesContext(connection) as queries:
        read_throughput(now=NOON)

    (query,) = queries
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plan = " ".join(str(row) for row in cursor.fetchall())
        assert "(name=? AND labels>?)" in plan


def test_metrics_neither_tell_nor_read_them(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)

    told = {sample.name for metric in metrics.collect_database() for sample in metric.samples}

    assert Tally.objects.filter(name=ended_folds.NAME).exists()
    assert {name for name, _ in counters.read_samples()} & {ended_folds.NAME} == set()
    assert not [name for name in told if "ended" in name]


def test_ends_of_more_than_two_days_ago_are_pruned() -> None:
    now = read_clock()
    for hours in (0, 47, 49, 1000):
        put(now - timedelta(hours=hours))
    counters.count(counters.WRITES_REFUSED)

    told = _prune(is_dry_run=True)
    removed = _prune()

    assert told == removed == 2
    kept = [ended_folds.begin_span(now - timedelta(hours=hours)) for hours in (47, 0)]
    labels = [ended_folds.make_labels(ended_folds.tell_span(at), End.TESTED) for at in kept]
    rows = Tally.objects.filter(name=ended_folds.NAME).order_by("labels")
    assert list(rows.values_list("labels", flat=True)) == labels
    assert Tally.objects.exclude(name=ended_folds.NAME).count() == 1


def _prune(**named: Any) -> int:
    return {removal.what: removal.count for removal in prune(**named)}["counts of ended folds"]
