"""`manage.py doctor`: one line for each thing, and exit status 1 when one is wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now

from runapp.execution.fitness import read_versions
from runapp.models import Worker
from runapp.monitoring import doctor, health
from runapp.monitoring.health import Finding, Level
from runapp.runner.selftest.promises import Promise, SelfTest
from tests.factories import make_account, make_live_worker, make_raw_data, make_self_test

pytestmark = pytest.mark.django_db

NAMES = [
    *("settings", "database", "database options", "migrations", "clock", "broker", "cache"),
    *("storage", "blobs", "disk", "workers", "versions", "sandbox", "metering"),
]


@pytest.fixture(autouse=True)
def self_test(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SLOTS = 2
    settings.LEAST_FREE_BYTES = 1
    pretend(monkeypatch, make_self_test())


def pretend(monkeypatch: pytest.MonkeyPatch, found: SelfTest) -> None:
    monkeypatch.setattr(doctor, "examine_worker", lambda: found)


def run_doctor(*words: str) -> tuple[str, CommandError | None]:
    """Return what the command prints, and the error with which it ends."""
    out = StringIO()
    try:
        call_command("doctor", *words, stdout=out)
    except CommandError as error:
        return out.getvalue(), error
    return out.getvalue(), None


def read_findings() -> dict[str, dict[str, str]]:
    out, _ = run_doctor("--json")
    return {row["name"]: row for row in json.loads(out)}


def test_doctor_finds_everything_in_order() -> None:
    make_live_worker()

    out, error = run_doctor()

    assert error is None
    lines = out.splitlines()
    assert [line[5:].partition(": ")[0] for line in lines] == NAMES
    assert not any(line.startswith("FAIL") for line in lines)


def test_doctor_fails_and_says_what_to_do_without_a_worker() -> None:
    out, error = run_doctor()

    assert "FAIL workers: No worker is live. -> Start one (manage.py worker)" in out
    assert str(error) == "Failed: workers."
    assert error.returncode == 1


def test_doctor_prints_the_same_for_machines() -> None:
    findings = read_findings()

    assert list(findings) == NAMES
    assert findings["workers"]["level"] == "fail"
    assert set(findings["workers"]) == {"name", "level", "sentence", "advice", "cause"}


def test_doctor_tells_settings_that_cannot_work(settings: Any) -> None:
    settings.HEARTBEAT_SECONDS, settings.LEASE_SECONDS = 20, 20

    found = read_findings()["settings"]

    assert found["level"] == "fail"
    assert "datarun.E001" in found["sentence"]


def test_doctor_warns_of_lowered_promises(settings: Any) -> None:
    settings.REQUIRED_PROMISES = frozenset()

    found = read_findings()["settings"]

    assert found["level"] == "warn"
    assert "datarun.W001" in found["sentence"]


def test_doctor_tells_required_promises_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, make_self_test(broken=[Promise.NETWORK]))

    found = read_findings()["sandbox"]

    assert found["level"] == "fail"
    assert "network: what was tried of network" in found["sentence"]


def test_doctor_warns_of_promises_that_nobody_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, make_self_test(broken=[Promise.KERNEL]))

    found = read_findings()["sandbox"]

    assert found["level"] == "warn"
    assert "not kept: kernel" in found["sentence"]


def test_doctor_tells_why_the_sandbox_was_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SelfTest.fail("the self-test could not be made: disk full"))

    found = read_findings()

    assert found["sandbox"]["level"] == "fail"
    assert found["sandbox"]["sentence"].count("disk full") == 1
    assert "metering" not in found


def test_doctor_warns_of_a_redis_that_counts_nothing(settings: Any) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://:hush@127.0.0.1:1/0",
        }
    }

    found = read_findings()["cache"]

    assert found["level"] == "warn"
    assert "DATARUN_CACHE_URL" in found["sentence"]
    assert "hush" not in found["cause"]


def test_doctor_tests_no_sandbox_where_no_slots_are_wanted(settings: Any) -> None:
    settings.SLOTS = 0

    assert read_findings()["sandbox"]["level"] == "ok"
    assert "metering" not in read_findings()


def test_doctor_warns_of_workers_of_other_versions() -> None:
    make_live_worker("old")
    Worker.objects.update(versions={**read_versions(), "numpy": "1.0"})

    found = read_findings()["versions"]

    assert found["level"] == "warn"
    assert "numpy" in found["sentence"]


def test_doctor_does_not_mind_other_kernels() -> None:
    make_live_worker()
    Worker.objects.update(versions={**read_versions(), "kernel": "1.0"})

    assert read_findings()["versions"]["level"] == "ok"


def test_doctor_warns_of_a_clock_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    late = ExpressionWrapper(Now() + timedelta(seconds=60), output_field=DateTimeField())
    monkeypatch.setattr(doctor, "Now", lambda: late)

    found = read_findings()["clock"]

    assert found["level"] == "warn"
    assert "+60.0 s" in found["sentence"] or "+59.9 s" in found["sentence"]


def test_doctor_tells_causes_that_probes_do_not(settings: Any) -> None:
    settings.STORAGE_ROOT.parent.mkdir(exist_ok=True)
    settings.STORAGE_ROOT.write_text("a file where a folder should be")

    found = read_findings()["storage"]

    assert found["level"] == "fail"
    assert str(settings.STORAGE_ROOT) in found["cause"]
    assert str(settings.STORAGE_ROOT) not in found["sentence"]


def test_doctor_tells_a_storage_of_another_installation(settings: Any, tmp_path: Path) -> None:
    raw_data = make_raw_data(make_account())

    before = read_findings()["blobs"]
    settings.STORAGE_ROOT = tmp_path
    (tmp_path / "datasets").mkdir()
    found = read_findings()["blobs"]

    assert before["level"] == "ok"
    assert found["level"] == "fail"
    assert f"newest dataset ({raw_data.pk})" in found["sentence"]
    assert "DATARUN_STORAGE_URL" in found["advice"]


def test_look_that_fails_does_not_end_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Finding:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(doctor._LOOKS, "broker", fail)

    found = read_findings()

    assert list(found) == NAMES
    assert "no such luck" in found["broker"]["sentence"]


@pytest.mark.sqlite
def test_options_that_would_lose_rows_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"sqlite": {"synchronous": ("PRAGMA synchronous", ("17",))}}
    monkeypatch.setattr(doctor, "_WANTED", wanted)

    assert doctor.check_database_options().level is Level.WARN


@pytest.mark.postgresql
def test_options_of_postgresql_are_as_wanted() -> None:
    found = doctor.check_database_options()

    assert found.level is Level.OK
    assert "jit off" in found.sentence


def test_checks_of_health_are_the_doctors_own() -> None:
    assert health.NEEDS.items() <= doctor._LOOKS.items()
