"""`/metrics`: who may read it, and that what it tells is so and never falls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from runapp.changes import counters
from runapp.changes.feed import publishing
from runapp.datasets.raw_data import delete_raw_data
from runapp.datasets.retention import prune
from runapp.execution.training import run_fold
from runapp.models import RawData, SubmissionFold, Tally, Worker
from runapp.monitoring import metrics
from runapp.runner.contract import Outcome
from runapp.runner.selftest.promises import Promise
from runapp.scheduling.claims import claim_fold, reap_expired
from runapp.scheduling.control import cancel_fold
from runapp.views import metrics as view
from tests.doubles import InstantSupervisor
from tests.factories import (
    finish_fold,
    make_fold,
    make_live_worker,
    make_raw_data,
    split_now,
    work,
)

pytestmark = pytest.mark.django_db

Labels = dict[str, str]


def read(name: str, /, **labels: str) -> float:
    """Return one sample of what the database knows."""
    (value,) = [value for each, value in read_all(name) if each.items() >= labels.items()]
    return value


def read_all(name: str) -> list[tuple[Labels, float]]:
    return list(_find_samples(metrics.collect_database(), name))


def _find_samples(found: list[Metric], name: str) -> Iterator[tuple[Labels, float]]:
    for metric in found:
        for sample in metric.samples:
            if sample.name == name:
                yield sample.labels, sample.value


def test_waiting_folds_are_told_by_priority_and_dataset(ada: User, iris: RawData) -> None:
    for number in range(3):
        make_fold(ada, iris, databoard_sf_id=number)
    make_fold(ada, iris, databoard_sf_id=3, priority="H")

    labels = {"dataset": str(iris.pk), "name": "iris"}
    assert read("datarun_folds_waiting", priority="L", **labels) == 3
    assert read("datarun_folds_waiting", priority="H", **labels) == 1
    assert read("datarun_folds_waiting", priority="L", dataset="other") == 0


def test_datasets_beyond_the_largest_are_told_together(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_DATASETS", 1)
    number = 0
    for n_folds, name in ((1, "few"), (3, "many"), (2, "some")):
        raw_data = make_raw_data(ada, name=name)
        for _ in range(n_folds):
            number += 1
            make_fold(ada, raw_data, databoard_sf_id=number, databoard_s_id=raw_data.pk)

    told = read_all("datarun_folds_waiting")

    low = {labels["name"]: count for labels, count in told if labels["priority"] == "L"}
    assert low == {"many": 3, "": 3}


def test_oldest_waiting_fold_is_one_that_could_be_taken(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)
    make_fold(ada, make_raw_data(ada, name="unsplit"), databoard_sf_id=12, databoard_s_id=2)
    for number, hours in ((11, 1), (12, 9)):
        rows = SubmissionFold.objects.filter(databoard_sf_id=number)
        rows.update(queued_at=Now() - timedelta(hours=hours))

    open_seconds = read("datarun_oldest_waiting_seconds", priority="L")
    RawData.objects.update(paused=True)

    assert open_seconds == pytest.approx(3600, abs=60)
    assert read("datarun_oldest_waiting_seconds", priority="L") == 0
    assert read("datarun_oldest_waiting_seconds", priority="H") == 0


def test_folds_that_run_are_counted(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)
    claim_fold(worker="worker-1")

    assert read("datarun_folds_running") == 1


@pytest.mark.parametrize(
    ("outcome", "labels"),
    [
        (Outcome.TESTED, {"outcome": "tested", "error_code": ""}),
        (Outcome.WALL_LIMIT, {"outcome": "error", "error_code": "wall_limit"}),
    ],
)
def test_finished_folds_are_counted_by_outcome(
    ada: User, iris: RawData, outcome: Outcome, labels: Labels
) -> None:
    finish_fold(ada, iris, outcome=outcome)

    assert read("datarun_folds_finished_total", **labels) == 1
    assert sum(value for _, value in read_all("datarun_folds_finished_total")) == 1


def test_cancelled_folds_are_counted_once(ada: User, iris: RawData) -> None:
    fold = make_fold(ada, iris)
    running = make_fold(ada, iris, databoard_sf_id=12, priority="H")
    claimed = claim_fold(worker="worker-1")
    assert claimed == running

    cancel_fold(fold=fold)
    cancel_fold(fold=running)
    run_fold(fold=claimed, supervisor=InstantSupervisor(), is_leaving=lambda: False)

    assert read("datarun_folds_finished_total", error_code="cancelled") == 2
    # The stages and the result of the attempt that was cancelled.
    assert read("datarun_writes_refused_total") >= 1


def test_folds_that_fail_with_their_dataset_are_all_counted(ada: User) -> None:
    raw_data = make_raw_data(ada, target_column="no such column")
    for number in range(3):
        make_fold(ada, raw_data, databoard_sf_id=number)
    split_now(raw_data, force=True)

    assert read("datarun_folds_finished_total", error_code="split_error") == 3


def test_stages_are_measured(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)

    # As the stand-in of the runner tells.
    assert read("datarun_stage_seconds_sum", stage="train") == 1.5
    assert read("datarun_stage_seconds_bucket", stage="train", le="1") == 0
    assert read("datarun_stage_seconds_bucket", stage="train", le="3") == 1
    assert read("datarun_stage_seconds_bucket", stage="train", le="+Inf") == 1
    assert read("datarun_stage_seconds_count", stage="validation") == 1
    assert read("datarun_stage_cpu_seconds_sum", stage="test") == 0.0625
    assert read("datarun_stage_peak_memory_bytes_sum", stage="test") == 5 * 1024
    assert read("datarun_claim_latency_seconds_count", priority="L") == 1


def test_stage_that_was_not_measured_is_not_counted(ada: User, iris: RawData) -> None:
    with publishing():
        counters.observe(counters.STAGE_SECONDS, 1e9, stage="test")

    assert read("datarun_stage_seconds_bucket", stage="test", le="100000") == 0
    assert read("datarun_stage_seconds_bucket", stage="test", le="+Inf") == 1
    assert read("datarun_stage_seconds_count", stage="train") == 0


def test_everything_is_told_before_it_happens() -> None:
    names = {metric.name for metric in metrics.collect_database()}

    assert {each.name for each in (*counters.COUNTERS, *counters.HISTOGRAMS)} <= names
    assert read("datarun_leases_expired_total", kind="fold") == 0
    assert read("datarun_folds_finished_total", error_code="worker_lost") == 0
    assert all(name.startswith("datarun_") for name in names)


def test_expired_leases_are_counted(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)
    claim_fold(worker="worker-1")
    SubmissionFold.objects.update(lease_expires_at=F("queued_at") - timedelta(seconds=1))

    reap_expired()
    reap_expired()

    assert read("datarun_leases_expired_total", kind="fold") == 1


def test_counters_do_not_fall_with_what_they_counted(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)
    before = read_counters()

    delete_raw_data(raw_data=iris)
    ada.delete()
    list(prune(days=1))

    assert before
    assert read_counters() == before


def read_counters() -> dict[tuple[str, str], float]:
    found = metrics.collect_database()
    return {
        (sample.name, str(sample.labels)): sample.value
        for metric in found
        if metric.type in ("counter", "histogram")
        for sample in metric.samples
        if sample.value
    }


def test_fold_that_is_run_again_is_counted_again(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)
    finish_fold(ada, iris, force="submission_fold")

    assert read("datarun_folds_finished_total", outcome="tested") == 2


def test_what_is_rolled_back_was_not_counted() -> None:
    def fail() -> None:
        with publishing():
            counters.count(counters.WRITES_REFUSED)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert read("datarun_writes_refused_total") == 0
    assert not Tally.objects.exists()


def test_counts_of_all_processes_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (3, 4, 11):
        monkeypatch.setattr(counters.os, "getpid", lambda pid=pid: pid)
        counters.count(counters.WRITES_REFUSED)

    assert read("datarun_writes_refused_total") == 3
    assert Tally.objects.count() == 2


def test_end_of_a_fold_counts_in_one_statement(
    ada: User, iris: RawData, django_assert_max_num_queries: Any
) -> None:
    make_fold(ada, iris)

    with django_assert_max_num_queries(1000) as queries:
        work(most=1)

    written = [query for query in queries if "INTO runapp_tally" in query["sql"]]
    assert len(written) == 1


def test_workers_are_told_with_their_sandbox() -> None:
    make_live_worker("trainer", broken=[Promise.KERNEL])
    make_live_worker("lost")
    Worker.objects.filter(name="lost").update(seen_at=Now() - timedelta(hours=1))

    assert read("datarun_workers_live") == 1
    assert read("datarun_slots_live") == 1
    assert read("datarun_worker_sandbox", worker="trainer", level="pretence") == 1
    assert read("datarun_worker_promise", worker="trainer", promise="network") == 1
    assert read("datarun_worker_promise", worker="trainer", promise="kernel") == 0
    assert read("datarun_worker_seen_seconds", worker="lost") > 3000


def test_metrics_cost_few_queries(
    ada: User, iris: RawData, django_assert_max_num_queries: Any
) -> None:
    for number in range(3):
        make_fold(ada, iris, databoard_sf_id=number)

    with django_assert_max_num_queries(7):
        metrics.collect_database()


# The endpoint asks in threads of its own, which see what is committed only.
transactional = pytest.mark.django_db(transaction=True)


def ask(**headers: str) -> Any:
    return Client().get("/metrics", headers=headers)


def parse(response: Any) -> dict[str, Metric]:
    text = response.content.decode()
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


@transactional
def test_scrape_has_our_metrics_and_those_of_requests() -> None:
    Client().get("/runapp/rawdata/")
    make_live_worker()

    response = ask()

    found = parse(response)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert found["datarun_workers_live"].samples[0].value == 1
    assert found["datarun_database_up"].samples[0].value == 1
    assert found["datarun_broker_up"].samples[0].value == 1
    places = {sample.labels["place"] for sample in found["datarun_disk_free_bytes"].samples}
    assert places == {"home", "storage"}
    statuses = found["django_http_responses_total_by_status_view_method"].samples
    assert any(sample.labels["status"] == "401" for sample in statuses)


@transactional
@pytest.mark.parametrize(
    ("settings_", "address", "headers", "status"),
    [
        ({}, "127.0.0.1", {}, 200),
        ({}, "::1", {}, 200),
        ({}, "::ffff:127.0.0.1", {}, 200),
        ({}, "::ffff:10.1.2.3", {}, 403),
        ({}, "10.1.2.3", {}, 403),
        ({}, "", {}, 403),
        ({"METRICS_NETWORKS": [ip_network("10.1.0.0/16")]}, "10.1.2.3", {}, 200),
        ({"METRICS_NETWORKS": [ip_network("10.1.0.0/16")]}, "10.2.2.3", {}, 403),
        ({"METRICS_NETWORKS": []}, "127.0.0.1", {}, 403),
        ({"METRICS_TOKEN": "hush"}, "10.1.2.3", {"Authorization": "Bearer hush"}, 200),
        ({"METRICS_TOKEN": "hush"}, "10.1.2.3", {"Authorization": "Bearer hushé"}, 403),
        ({"METRICS_TOKEN": "hush"}, "10.1.2.3", {"Authorization": "Token hush"}, 403),
        ({"METRICS_TOKEN": ""}, "10.1.2.3", {"Authorization": "Bearer "}, 403),
        # From a proxy on this machine that the settings do not know of, and one that they do.
        ({}, "127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, 403),
        ({}, "127.0.0.1", {"X-Real-IP": "203.0.113.9"}, 403),
        ({}, "127.0.0.1", {"Forwarded": "for=203.0.113.9"}, 403),
        ({"PROXIES": 1}, "127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, 403),
        ({"PROXIES": 1}, "127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 200),
    ],
)
def test_metrics_are_for_the_token_and_the_networks(
    settings: Any, settings_: Labels, address: str, headers: Labels, status: int
) -> None:
    for name, value in settings_.items():
        setattr(settings, name, value)

    response = Client().get("/metrics", headers=headers, REMOTE_ADDR=address)

    assert response.status_code == status
    assert ("datarun_" in response.content.decode()) is (status == 200)


def test_metrics_are_only_read() -> None:
    assert Client().post("/metrics").status_code == 405


@transactional
def test_database_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **rest: object) -> None:
        raise OperationalError("no")

    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", refuse)

    found = parse(ask())

    assert found["datarun_database_up"].samples[0].value == 0
    assert "datarun_folds_waiting" not in found
    assert "datarun_broker_up" in found


@transactional
def test_broker_that_hangs_does_not_hang_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(view, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(view, "collect_broker", lambda: hanging.wait(60) and [])

    try:
        found = parse(ask())
    finally:
        hanging.set()

    assert found["datarun_broker_up"].samples[0].value == 0
    assert found["datarun_database_up"].samples[0].value == 1


@transactional
def test_database_that_hangs_for_many_scrapes_is_no_fault_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(view, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(view, "collect_database", lambda: hanging.wait(60) and [])

    try:
        *_, found = [parse(ask()) for _ in range(6)]
    finally:
        hanging.set()

    assert found["datarun_database_up"].samples[0].value == 0
    assert found["datarun_broker_up"].samples[0].value == 1
    assert "datarun_disk_free_bytes" in found


@transactional
def test_everything_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()
    waits: list[float | None] = []

    def record(futures: Any, timeout: float | None = None) -> Any:
        waits.append(timeout)
        return wait(futures, timeout=timeout)

    monkeypatch.setattr(view, "wait", record)
    monkeypatch.setattr(view, "PATIENCE_SECONDS", 0.5)
    for name in ("collect_database", "collect_broker", "collect_disks"):
        monkeypatch.setattr(view, name, lambda: hanging.wait(60) and [])

    try:
        found = parse(ask())
    finally:
        hanging.set()

    assert waits == [0.5]
    assert found["datarun_database_up"].samples[0].value == 0
    assert found["datarun_broker_up"].samples[0].value == 0


@transactional
def test_home_that_is_gone_leaves_all_other_metrics(settings: Any) -> None:
    settings.DATARUN_HOME = settings.DATARUN_HOME / "unmounted"
    settings.STORAGE_ROOT = settings.DATARUN_HOME / "storage"

    found = parse(ask())

    assert found["datarun_database_up"].samples[0].value == 1
    assert "datarun_disk_free_bytes" not in found


@transactional
def test_methods_that_clients_make_up_make_no_series() -> None:
    Client().generic("BREW7", "/runapp/rawdata/")

    assert "BREW7" not in ask().content.decode()
