"""`worker` refuses what cannot work; `workers` tells what each does."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models.functions import Now

from datarun.processes import Part
from runapp.checks import list_local_parts
from runapp.execution.registration import beat
from runapp.management.commands.worker import make_name, make_worker_command
from runapp.models import SubmissionFold, Worker
from runapp.scheduling.live_workers import get_live_seconds
from tests.factories import make_account, make_fold, make_ready_dataset, make_self_test

pytestmark = pytest.mark.django_db


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Keep what the process would become, which would end the tests."""
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr("os.execv", lambda path, words: commands.append(words))
    monkeypatch.setattr("os.chdir", lambda path: None)
    return commands


def list_workers(*words: str) -> str:
    out = StringIO()
    call_command("workers", *words, stdout=out)
    return out.getvalue()


def test_worker_becomes_celerys(started: list[tuple[str, ...]]) -> None:
    call_command("worker", "--slots", "3", "--name", "trainer")

    assert started == [make_worker_command(slots=3, name="trainer")]
    assert f"trainer@{socket.gethostname()}" in started[0]


@pytest.mark.parametrize(
    ("broker", "is_silent"), [("filesystem://", True), ("amqp://", False), ("redis://", False)]
)
def test_worker_sends_its_heartbeat_where_flower_may_listen(
    broker: str, is_silent: bool, settings: Any
) -> None:
    settings.CELERY_BROKER_URL = broker

    command = make_worker_command(slots=1, name="trainer")

    assert ("--without-heartbeat" in command) == is_silent


def test_name_differs_with_the_home_and_stays(settings: Any) -> None:
    home = settings.DATARUN_HOME

    assert make_name(home=home) == make_name(home=home) != make_name(home=home / "other")
    assert make_name(home=home) != make_name(home=home, kind="serve")


@pytest.mark.parametrize(
    "words", [["--slots", "0"], ["--name", "a/b"], ["--name", "a b"], ["--name", "a" * 101]]
)
def test_worker_that_cannot_be_is_refused(words: list[str], started: list[tuple[str, ...]]) -> None:
    with pytest.raises(CommandError):
        call_command("worker", *words)

    assert started == []


@pytest.mark.sqlite
def test_worker_beside_those_of_another_machine_needs_what_they_have(
    started: list[tuple[str, ...]],
) -> None:
    beat(name="far", slots=1)
    Worker.objects.update(host="far.example.org")

    with pytest.raises(CommandError, match=r"far\.example\.org.*DATABASE_URL.*CELERY_BROKER_URL"):
        call_command("worker", "--name", "near")

    assert started == []


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keep which parts would be served, which would not end."""
    names: list[list[str]] = []

    def supervise(*, parts: list[Part], **_: Any) -> None:
        names.append([part.name for part in parts])

    monkeypatch.setattr("runapp.management.commands.serve.supervise", supervise)
    monkeypatch.setattr("django.conf.settings.PORT", 0)
    return names


def test_serve_beside_workers_of_another_machine_needs_what_they_have(
    served: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(name="far", slots=1)
    Worker.objects.update(host="far.example.org")
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")

    with pytest.raises(CommandError, match=r"far\.example\.org.*CELERY_BROKER_URL"):
        call_command("serve")

    assert served == []


@pytest.mark.sqlite
def test_serve_of_a_home_that_holds_the_database_is_kept_from_nothing(
    served: list[list[str]],
) -> None:
    beat(name="far", slots=1)
    Worker.objects.update(host="the-name-before")

    call_command("serve")

    assert served == [["web", "worker"]]


@pytest.mark.parametrize(("remote", "is_told"), [(None, True), (object(), False)])
def test_folder_in_the_home_is_local_unless_it_is_the_cache_of_a_remote_storage(
    remote: object, is_told: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.conf.settings.STORAGE_ROOT", settings.DATARUN_HOME / "cache")
    monkeypatch.setattr("django.conf.settings.STORAGE_REMOTE", remote)

    assert any("DATARUN_STORAGE_URL" in part for part in list_local_parts()) is is_told


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("LEASE_SECONDS", 9, ["datarun.E001"]),
        ("LEASE_SECONDS", 10, []),
        ("CELERY_BROKER_URL", "sqs://", ["datarun.E002"]),
        ("CELERY_BROKER_URL", "amqpfoo://mq.example.org", ["datarun.E002"]),
        ("CELERY_BROKER_URL", "amqp://mq.example.org:port//", ["datarun.E002"]),
        ("CELERY_BROKER_URL", "redis://mq.example.org/first", ["datarun.E002"]),
        ("CELERY_BROKER_URL", "amqp://one.example.org;nothing", ["datarun.E002"]),
        ("CELERY_BROKER_URL", "rediss://mq.example.org", []),
        ("CELERY_BROKER_URL", "amqp://ada:p@mq.example.org/datarun;amqps://other:5671//", []),
        ("CELERY_BROKER_URL", "redis://mq.example.org:6379/0", []),
    ],
)
def test_settings_that_cannot_work_are_told(
    name: str, value: Any, found: list[str], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fixture would set the database up anew.
    monkeypatch.setattr(f"django.conf.settings.{name}", value, raising=False)

    ids = [message.id for message in run_checks() if str(message.id).startswith("datarun.E")]

    assert ids == found


def test_no_worker_is_told() -> None:
    assert list_workers() == "No worker is live.\n"
    assert json.loads(list_workers("--json")) == []


def test_workers_are_listed_with_what_they_run() -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    beat(name="near@host", slots=2, self_test=make_self_test())
    beat(name="gone@host", slots=1)
    Worker.objects.filter(name="gone@host").update(
        seen_at=F("seen_at") - timedelta(seconds=get_live_seconds() + 1)
    )
    SubmissionFold.objects.update(
        phase="running", worker="near@host/77", started_at=Now() - timedelta(seconds=30)
    )

    shown, (near, gone) = list_workers().splitlines(), json.loads(list_workers("--json"))

    assert "near@host" in shown[1]
    assert "live" in shown[1]
    assert "1/2" in shown[1]
    assert f"fold {fold.databoard_sf_id} of {account.username}, 3" in shown[1]
    assert "LOST" in shown[2]
    assert "not tested yet" in shown[2]
    assert (near["is_live"], near["busy"], near["missing"]) == (True, 1, [])
    assert 30 <= near["jobs"][0]["seconds"] < 60
    assert (gone["is_live"], gone["busy"], gone["missing"]) == (False, 0, None)


def test_worker_that_beats_seldom_is_not_lost_between_two_beats(settings: Any) -> None:
    settings.HEARTBEAT_SECONDS = 30
    beat(name="near@host", slots=1)
    Worker.objects.update(seen_at=F("seen_at") - timedelta(seconds=80))

    [entry] = json.loads(list_workers("--json"))

    assert entry["is_live"]


def test_lost_workers_alone_are_no_live_ones() -> None:
    beat(name="gone@host", slots=1)
    Worker.objects.update(seen_at=F("seen_at") - timedelta(days=1))

    assert list_workers().endswith("No worker is live.\n")


def test_name_of_a_dataset_moves_no_cursor() -> None:
    from runapp.management.commands.workers import describe_job
    from runapp.ops.workers import Job

    assert describe_job(Job("split of \x1b[2Jx", None)) == "split of ?[2Jx"
