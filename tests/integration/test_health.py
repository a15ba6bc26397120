"""What load balancers ask: whether the process lives, and whether it is ready for work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from runapp.common.exceptions import StorageAway
from runapp.monitoring import health as condition
from runapp.monitoring.health import NEEDS, Finding, Level
from runapp.storage import RemoteStorage
from runapp.views import health
from tests.factories import make_live_worker

pytestmark = pytest.mark.django_db(transaction=True)

Findings = dict[str, Any]


@pytest.fixture(autouse=True)
def has_slots(settings: Any) -> None:
    settings.SLOTS = 2
    settings.LEAST_FREE_BYTES = 1


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test know how the one before has ended."""
    monkeypatch.setattr(health, "_failed", frozenset())


def ask(path: str = "/health/ready", **extra: Any) -> Any:
    return Client().get(path, **extra)


def list_failed(response: Any) -> set[str]:
    checks = response.json()["checks"].items()
    return {name for name, shown in checks if shown["status"] != "ok"}


def test_live_answers_without_asking_anything(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        response = ask("/health/live")

    assert (response.status_code, response.json()) == (200, {"status": "live"})


def test_ready_with_everything_there() -> None:
    make_live_worker()

    response = ask()

    assert response.status_code == 200, response.json()
    assert response.json()["status"] == "ready"
    assert set(response.json()["checks"]) == set(NEEDS)
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probe_needs_neither_account_nor_known_host(path: str) -> None:
    make_live_worker()

    response = ask(path, headers={"Host": "10.1.2.3:8000"})

    assert response.status_code == 200
    assert ask("/runapp/rawdata/", headers={"Host": "10.1.2.3:8000"}).status_code == 400


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probe_is_not_sent_to_tls(path: str, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    make_live_worker()

    assert ask(path).status_code == 200
    assert ask("/runapp/rawdata/").status_code == 301


def test_probe_takes_head_and_refuses_what_would_write() -> None:
    make_live_worker()

    assert Client().head("/health/ready").status_code == 200
    assert Client().post("/health/ready").status_code == 405


def test_not_ready_without_a_live_worker() -> None:
    response = ask()

    assert response.status_code == 503
    assert list_failed(response) == {"workers"}
    assert response.json()["checks"]["workers"]["reason"] == "No worker is live."


def test_ready_without_worker_where_no_slots_are_wanted(settings: Any) -> None:
    settings.SLOTS = 0

    assert ask().status_code == 200


def test_not_ready_with_the_disk_limit_reached(settings: Any) -> None:
    settings.LEAST_FREE_BYTES = 2**60
    make_live_worker()

    response = ask()

    assert response.status_code == 503
    assert list_failed(response) == {"disk"}
    assert str(configured.DATARUN_HOME) not in response.content.decode()


def test_not_ready_with_a_storage_that_cannot_be_written(settings: Any) -> None:
    make_live_worker()
    settings.STORAGE_ROOT.parent.mkdir(exist_ok=True)
    settings.STORAGE_ROOT.write_text("a file where a folder should be")

    response = ask()

    assert list_failed(response) == {"storage"}
    assert str(settings.STORAGE_ROOT) not in response.content.decode()


def test_storage_is_left_as_it_was(settings: Any) -> None:
    make_live_worker()

    ask()

    assert list(settings.STORAGE_ROOT.iterdir()) == []


def test_not_ready_with_a_broker_that_is_away(settings: Any, monkeypatch: Any) -> None:
    from datarun.celery import app

    make_live_worker()
    url = "amqp://guest:hush@127.0.0.1:1//"
    settings.CELERY_BROKER_URL = url
    connect = app.connection_for_write
    monkeypatch.setattr(app, "connection_for_write", lambda: connect(url, transport="pyamqp"))

    response = ask()

    assert list_failed(response) == {"broker"}
    assert "hush" not in response.content.decode()


def test_not_ready_with_a_migration_missing() -> None:
    make_live_worker()
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("sessions", "0001_initial")
    try:
        response = ask()
    finally:
        recorder.record_applied("sessions", "0001_initial")

    assert list_failed(response) == {"migrations"}
    assert "sessions.0001_initial" in response.json()["checks"]["migrations"]["reason"]


def test_not_ready_with_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **rest: object) -> None:
        raise OperationalError("connection to db.example.org refused for user datarun")

    # The check's own thread finds no database; this one still has its.
    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", refuse)

    response = ask()

    assert response.status_code == 503
    assert list_failed(response) == {"database", "migrations", "workers"}
    assert "example.org" not in response.content.decode()


@pytest.mark.postgresql
def test_not_ready_with_a_database_that_can_only_be_read() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        found = condition.check_database()
    finally:
        connection.close()

    assert found.level is Level.FAIL
    assert "is read-only" in found.sentence


@pytest.mark.sqlite
def test_not_ready_with_a_database_file_that_can_only_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)

    found = condition.check_database()

    assert found.level is Level.FAIL
    assert "is read-only" in found.sentence


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Let go, at the end, of whatever hangs."""
    event = threading.Event()
    yield event
    event.set()


def test_check_that_hangs_does_not_hang_the_probe(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> Finding:
        hanging.wait(60)
        return Finding(Level.OK, "at last")

    monkeypatch.setitem(NEEDS, "broker", hang)
    # The library adds a second.
    monkeypatch.setattr(health, "PATIENCE", timedelta(seconds=-0.5))
    began_at = time.monotonic()

    response = ask()

    assert response.status_code == 503
    assert "broker" in list_failed(response)
    assert time.monotonic() - began_at < 10


def test_check_that_hangs_for_many_probes_fails_no_other(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> Finding:
        hanging.wait(60)
        return Finding(Level.OK, "at last")

    make_live_worker()
    for name in ("database", "migrations"):
        monkeypatch.setitem(NEEDS, name, hang)
    monkeypatch.setattr(health, "PATIENCE", timedelta(seconds=-0.5))

    *_, response = [ask() for _ in range(8)]

    assert list_failed(response) == {"database", "migrations"}


def test_checks_that_fail_unexpectedly_are_told_as_such(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Finding:
        raise RuntimeError("the password is hush")

    make_live_worker()
    monkeypatch.setitem(NEEDS, "broker", fail)

    response = ask()

    assert response.json()["checks"]["broker"]["reason"] == "It could not be checked."
    assert "the check of broker failed" in caplog.text


def test_log_tells_what_has_changed_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="runapp.views.health")

    for _ in range(3):
        ask()
    make_live_worker()
    for _ in range(2):
        ask()

    told = [record.message for record in caplog.records if record.name == health.__name__]
    assert told == ["not ready: workers: No worker is live.", "ready again"]


class _SilentStore:
    def measure(self, name: str) -> int | None:
        raise StorageAway()


def test_object_store_that_does_not_answer_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = RemoteStorage(objects=_SilentStore(), cache=None)  # type: ignore[arg-type]
    monkeypatch.setattr(condition, "get_storage", lambda: storage)

    assert condition.check_storage().level is Level.FAIL


def test_disk_that_will_soon_be_full_is_a_warning(settings: Any) -> None:
    (room, *_) = condition.list_rooms().values()
    settings.LEAST_FREE_BYTES = int(room.free_bytes * 0.75)

    assert condition.check_disk().level is Level.WARN
