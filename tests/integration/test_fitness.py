"""Workers take work only when they keep what is required; others say why they wait."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runapp.common.retry import Absence
from runapp.common.transitions import Phase
from runapp.datasets.raw_data import request_split
from runapp.execution import fitness, worker
from runapp.execution.registration import beat
from runapp.execution.step import Detours
from runapp.models import SubmissionFold, Worker
from runapp.runner.contract import Outcome
from runapp.runner.sandbox.levels import Level
from runapp.runner.selftest.promises import DEFAULT_REQUIRED, Promise, SelfTest
from tests.doubles import InstantSupervisor, ProbedSupervisor
from tests.factories import (
    make_account,
    make_client,
    make_fold,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    make_self_test,
    post_fold,
)

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

UNFIT = {Promise.FILES}


@pytest.fixture(autouse=True)
def worker_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make this process a worker's that has just begun; return what it rings for."""
    rung: list[str] = []
    for name, value in (
        ("farewell", worker.Farewell()),
        ("fitness", worker.Fitness()),
        ("_supervisor", InstantSupervisor()),
        ("_self_test", None),
        ("_beaten_at", 0.0),
        ("_hindrance", Absence()),
        ("_detours", Detours()),
        ("_stopping", threading.Event()),
        # A test's connection holds its transaction.
        ("connections", SimpleNamespace(close_all=lambda: None)),
        ("dispatch", SimpleNamespace(publish=lambda: rung.append("rung"))),
    ):
        monkeypatch.setattr(worker, name, value)
    return rung


def let_find(
    monkeypatch: pytest.MonkeyPatch,
    found: SelfTest,
    *,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Replace the self-test by one that finds this, after it has asked whether to stop."""

    def examine(*, should_stop: Callable[[], bool], **_: object) -> SelfTest:
        should_stop()
        meanwhile()
        return found

    monkeypatch.setattr(worker, "examine_worker", examine)


def find_out() -> None:
    worker._find_out_fitness(name="worker-1", slots=2)


def read_reason(client: Any, **changes: Any) -> str | None:
    reason: str | None = client.get("/runapp/submissionfold/11/").json()["waiting_because"]
    return reason


# Why a fold waits


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        pytest.param([], "no_live_worker", id="none"),
        pytest.param([UNFIT], "no_fit_worker", id="unfit"),
        pytest.param([UNFIT, set(Promise)], "no_fit_worker", id="all-unfit"),
        pytest.param([set()], "behind_others", id="fit"),
        pytest.param([{Promise.CPU, Promise.KERNEL}], "behind_others", id="fit-enough"),
        pytest.param([UNFIT, set()], "behind_others", id="one-fit"),
        pytest.param([None], "behind_others", id="still-testing"),
        pytest.param([UNFIT, None], "behind_others", id="one-still-testing"),
    ],
)
def test_fold_waits_because(workers: list[set[Promise] | None], reason: str) -> None:
    for number, broken in enumerate(workers):
        make_live_worker(f"worker-{number}", broken=broken)
    account = make_account()

    response = post_fold(make_client(account), make_ready_dataset(account))

    assert response.json()["waiting_because"] == reason


def test_fold_waits_for_its_split_first() -> None:
    make_live_worker(broken=UNFIT)
    account = make_account()

    response = post_fold(make_client(account), make_raw_data(account))

    assert response.json()["waiting_because"] == "raw_data_not_split"


def test_less_that_is_required_makes_a_worker_fit(settings: Any) -> None:
    make_live_worker(broken=set(Promise))
    account = make_account()
    settings.REQUIRED_PROMISES = frozenset()

    response = post_fold(make_client(account), make_ready_dataset(account))

    assert response.json()["waiting_because"] == "behind_others"


def test_workers_are_looked_up_once_for_a_whole_list() -> None:
    account = make_account()
    client = make_client(account)
    raw_data = make_ready_dataset(account)
    for number in range(3):
        make_live_worker(f"worker-{number}", broken=UNFIT)
        make_fold(account, raw_data, databoard_sf_id=number)
    client.get("/runapp/submissionfold/")

    with CaptureQueriesContext(connection) as queries:
        rows = client.get("/runapp/submissionfold/").json()

    assert [row["waiting_because"] for row in rows] == ["no_fit_worker"] * 3
    assert len([query for query in queries if "runapp_worker" in query["sql"]]) == 1


# What slots take


@pytest.mark.parametrize(
    ("broken", "is_taken"),
    [
        pytest.param(None, False, id="not-known"),
        pytest.param(UNFIT, False, id="unfit"),
        pytest.param({Promise.CPU}, True, id="fit-enough"),
        pytest.param(set(), True, id="fit"),
    ],
)
def test_slot_takes_folds_and_splits_when_its_worker_is_fit(
    broken: set[Promise] | None, is_taken: bool
) -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    unsplit = make_raw_data(account, name="unsplit")
    request_split(raw_data=unsplit, held_out_test=0.2, random_state=42, force=False)
    if broken is not None:
        worker.fitness.announce(frozenset(Promise) - broken)

    worker.run_until_idle()

    fold.refresh_from_db()
    unsplit.refresh_from_db()
    assert fold.phase == (Phase.DONE if is_taken else Phase.WAITING)
    assert unsplit.state == ("READY" if is_taken else "SPLITTING")


def test_slot_that_is_hindered_leaves_the_work_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    monkeypatch.setattr(worker, "_supervisor", InstantSupervisor(outcome=Outcome.NOT_STARTED))
    worker.fitness.announce(frozenset(Promise))

    for _ in range(3):
        worker.run_until_idle()

    fold.refresh_from_db()
    assert (fold.attempt, fold.phase) == (1, Phase.WAITING)
    monkeypatch.setattr(worker, "_supervisor", InstantSupervisor())
    worker._hindrance.end()
    worker.run_until_idle()
    fold.refresh_from_db()
    assert fold.state == "TESTED"


def test_unfit_worker_tests_itself_again(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [make_self_test(broken=UNFIT), make_self_test(broken=UNFIT), make_self_test()]

    def examine(**_: object) -> SelfTest:
        found = findings.pop(0)
        if not findings:
            worker._stopping.wait = lambda seconds: worker._stopping.set() or True  # type: ignore[method-assign]
        return found

    monkeypatch.setattr(worker, "examine_worker", examine)
    monkeypatch.setattr(worker, "FIRST_RETEST_SECONDS", 0.0)
    monkeypatch.setattr(worker, "TICK_SECONDS", 0.0)

    worker._tick_on(name="worker-1", slots=2)

    assert worker.fitness.read() == frozenset(Promise)
    assert findings == []
    assert Worker.objects.get().promises == sorted(Promise)


def test_slot_takes_nothing_before_the_self_test_even_if_nothing_is_required(
    settings: Any,
) -> None:
    settings.REQUIRED_PROMISES = frozenset()
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    worker.run_until_idle()
    assert SubmissionFold.objects.get().phase == Phase.WAITING
    worker.fitness.announce(frozenset())
    worker.run_until_idle()

    assert SubmissionFold.objects.get().phase == Phase.DONE


@pytest.mark.parametrize("promise", Promise)
def test_slots_share_each_promise(promise: Promise) -> None:
    shared = worker.Fitness()
    assert shared.read() is None

    shared.announce(frozenset({promise}))
    assert shared.read() == {promise}

    shared.announce(frozenset())
    assert shared.read() == frozenset()


# What the worker's main process does


def test_worker_beats_while_it_tests_itself_and_then_shows_what_it_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Any, Any]] = []
    found = make_self_test(broken={Promise.SCRATCH})
    let_find(
        monkeypatch,
        found,
        meanwhile=lambda: seen.extend(Worker.objects.values_list("promises", "self_test")),
    )

    find_out()
    worker._tick(name="worker-1", slots=2)

    assert seen == [(None, None)]
    row = Worker.objects.get()
    assert (row.name, row.slots) == ("worker-1", 2)
    assert row.promises == sorted(set(Promise) - {Promise.SCRATCH})
    assert SelfTest.from_json(row.self_test) == found
    assert set(row.versions) == {
        *("python", "numpy", "pandas", "scikit-learn"),
        *("datarun", "kernel"),
    }
    assert all(row.versions.values())
    assert worker.fitness.read() == found.kept


def test_worker_rings_only_when_it_is_fit(
    monkeypatch: pytest.MonkeyPatch, worker_process: list[str]
) -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    for broken, n_rung in ((UNFIT, 0), (set(), 1)):
        let_find(monkeypatch, make_self_test(broken=broken))
        find_out()
        worker._tick(name="worker-1", slots=2)
        assert len(worker_process) == n_rung


def test_worker_goes_on_after_a_fault_that_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble() -> int:
        raise AttributeError("'NoneType' object has no attribute 'write'")

    monkeypatch.setattr(worker, "reap_expired", stumble)

    worker._tick(name="worker-1", slots=2)

    assert "the main process could not look after its work" in caplog.text
    assert Worker.objects.get().name == "worker-1"


def test_unfit_worker_says_once_what_it_lacks_and_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_find(monkeypatch, make_self_test(broken={Promise.FILES, Promise.LABELS, Promise.CPU}))

    find_out()
    worker._tick(name="worker-1", slots=2)

    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    text = record.getMessage()
    assert "does not keep: files, labels." in text
    assert "DATARUN_REQUIRED_PROMISES" in text
    assert "what was tried of files" in text
    assert "no reason" in text
    assert "cpu" not in text


def test_worker_that_leaves_meanwhile_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        worker.farewell.announce(grace_seconds=0)

    let_find(monkeypatch, SelfTest.fail("stopped"), meanwhile=leave)

    find_out()

    assert worker.fitness.read() is None
    assert Worker.objects.get().promises is None


def test_worker_of_a_name_that_was_killed_starts_unknown() -> None:
    beat(name="worker-1", slots=1, self_test=make_self_test())

    worker._tick(name="worker-1", slots=1)

    assert Worker.objects.get().promises is None


@pytest.mark.parametrize(
    ("required", "words"),
    [
        (DEFAULT_REQUIRED, None),
        (frozenset(Promise), None),
        (frozenset({Promise.NETWORK}), "does not require: files, labels"),
        (frozenset(), "does not require: network, files, labels"),
    ],
)
def test_worker_and_check_warn_when_less_is_required(
    required: frozenset[Promise],
    words: str | None,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.REQUIRED_PROMISES = required

    fitness.warn_if_lowered()
    found = [
        check for check in run_checks(include_deployment_checks=True) if check.id == "datarun.W001"
    ]

    assert len(found) == len(caplog.records) == (0 if words is None else 1)
    if words is not None:
        assert words in caplog.text
        assert words.partition(": ")[2] in found[0].msg
    assert list_own_checks(include_deployment_checks=False) == []


def list_own_checks(*, include_deployment_checks: bool) -> list[CheckMessage]:
    found = run_checks(include_deployment_checks=include_deployment_checks)
    return [check for check in found if check.id == "datarun.W001"]


# manage.py selftest


def use(monkeypatch: pytest.MonkeyPatch, supervisor: ProbedSupervisor) -> ProbedSupervisor:
    monkeypatch.setattr(fitness, "make_supervisor", lambda **_: supervisor)
    return supervisor


def run(*arguments: str) -> tuple[str, str]:
    """Return what the command prints and, if it fails, its exit status and why."""
    output = StringIO()
    try:
        call_command("selftest", *arguments, stdout=output)
    except CommandError as error:
        return output.getvalue(), f"{error.returncode}: {error}"
    return output.getvalue(), ""


def test_selftest_prints_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = use(monkeypatch, ProbedSupervisor(broken={Promise.SCRATCH}))

    output, failure = run()

    assert failure == ""
    words = output.split()
    assert [promise for promise in Promise if promise not in words] == []
    assert words.count("yes") == len(Promise) - 1
    assert words.count("NO") == 1
    assert words.count("(required)") == len(DEFAULT_REQUIRED)
    assert "level: pretence\n" in output
    assert "measured by: a stand-in\n" in output
    assert "not a higher level, because: it is a test\n" in output
    assert supervisor.is_closed


def test_selftest_fails_when_a_required_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, ProbedSupervisor(broken={Promise.NETWORK, Promise.LABELS}))

    output, failure = run("--json")

    found = json.loads(output)
    assert found["kept"] == sorted(set(Promise) - {Promise.NETWORK, Promise.LABELS})
    assert found["required"] == sorted(DEFAULT_REQUIRED)
    assert failure.startswith("1: Required but not kept: network, labels. ")


def test_selftest_that_cannot_be_made_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = use(monkeypatch, ProbedSupervisor())

    def break_down(**_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(supervisor, "describe", break_down)

    found = fitness.examine_worker()

    assert found.kept == frozenset()
    assert found.findings[0].detail == "the self-test could not be made: no room"
    assert "no room" in caplog.text
    assert supervisor.is_closed


def test_selftest_with_real_runs(settings: Any, tmp_path: Path) -> None:
    settings.SCRATCH_ROOT = tmp_path / "scratch"
    if fitness.make_supervisor().describe().level == Level.PROCESS:
        pytest.skip("this host seals nothing, and the probes would run loose on it")

    output, failure = run("--json")

    found = json.loads(output)
    missing = set(found["required"]) - set(found["kept"])
    assert [finding["promise"] for finding in found["findings"]] == list(Promise)
    assert bool(failure) is bool(missing), failure
    assert not [one for one in found["findings"][:3] if "tried" in one["detail"]]
    assert [path for path in settings.STORAGE_ROOT.rglob("*") if path.is_file()] == []
