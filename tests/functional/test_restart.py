"""Parts that die, folds that are cancelled, restarted or deleted while they run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from test_files import local, post_api
from test_files.examples import IRIS, RANDOM_STATE
from tests.functional.account import Account, Row, assert_same_bits, check
from tests.functional.conftest import Serve
from tests.functional.service import Service, list_slots, serving, wait_until

ENVIRONMENT = {"DATARUN_LEASE_SECONDS": "4", "DATARUN_HEARTBEAT_SECONDS": "1"}
TRAIN_IS = range(60)
# A cancelled fold is dead within this time.
DEAD_SECONDS = 2.0
ENDLESS = 1000

# Holds a process of its own while it fits; what it predicts depends on its rows and its number.
SLEEPING = """
import subprocess
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        child = subprocess.Popen(["sleep", "1000"])
        time.sleep({seconds})
        child.kill()
        child.wait()
        self.mean = X.mean(axis=0)[:3] + {number}

    def predict_proba(self, X):
        return X[:, :3] + self.mean
"""


def make_code(*, seconds: float, number: int = 0) -> str:
    return SLEEPING.format(seconds=seconds, number=number)


def predict(number: int = 0, *, held_out_test: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Return what that code predicts."""
    parts = local.split_standard(IRIS.data_file, IRIS.target, held_out_test, RANDOM_STATE)
    train, test = parts.X_train.to_numpy(), parts.X_test.to_numpy()
    mean = train[list(TRAIN_IS)].mean(axis=0)[:3] + number
    return train[:, :3] + mean, test[:, :3] + mean


@pytest.fixture(scope="module")
def service(serve: Serve) -> Service:
    return serve("restart", ENVIRONMENT, is_calm=False)


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.make_account("restart")


@pytest.fixture
def iris(account: Account, service: Service) -> Iterator[int]:
    """A dataset for one test; nothing of it may be left running."""
    raw_data_id = account.post_dataset(
        name=f"iris {account.number()}",
        target=IRIS.target,
        elements=IRIS.elements,
        files=[IRIS.data_file],
    )
    account.ask_for_split(raw_data_id)
    account.wait_for_split(raw_data_id)
    yield raw_data_id
    account.send("DELETE", f"rawdata/{raw_data_id}/")
    wait_until(lambda: not service.list_runs(), what="nothing runs", seconds=5)


@pytest.fixture
def waiting(account: Account, iris: int, service: Service) -> list[int]:
    """Two folds that run, one in each slot, and three that wait for them."""
    return post_folds(account, service, iris, seconds=3)


def post_folds(account: Account, service: Service, raw_data_id: int, *, seconds: int) -> list[int]:
    running = [
        account.post_code(raw_data_id, make_code(seconds=seconds, number=number), train_is=TRAIN_IS)
        for number in range(2)
    ]
    for fold_id in running:
        account.wait_until_running(fold_id)
    wait_for_runs(service, n_folds=2)
    return running + [
        account.post_code(raw_data_id, make_code(seconds=0, number=number), train_is=TRAIN_IS)
        for number in range(2, 5)
    ]


def wait_for_runs(service: Service, *, n_folds: int = 1) -> list[psutil.Process]:
    """Return the processes of so many folds, once each has started its own."""

    def find() -> list[psutil.Process]:
        runs = service.list_runs()
        sleeping = [run for run in runs if "sleep" in read_command(run)]
        return runs if len(sleeping) == n_folds else []

    return wait_until(find, what=f"{n_folds} folds run")


def read_command(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def is_dead(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE or not process.is_running()
    return True


def is_gone(folder: Path) -> bool:
    return not folder.exists()


def wait_until_dead(processes: list[psutil.Process], *, seconds: float = DEAD_SECONDS) -> None:
    wait_until(lambda: all(map(is_dead, processes)), what="the processes are dead", seconds=seconds)


def list_outcomes(service: Service, account: Account, fold_id: int) -> list[str]:
    """Return what became of each attempt at a fold, from the database itself."""
    query = (
        "select a.outcome from runapp_foldattempt a"
        " join runapp_submissionfold f on f.id = a.fold_id"
        " join auth_user u on u.id = f.owner_id"
        " where u.username = ? and f.databoard_sf_id = ? order by a.number"
    )
    return [outcome for (outcome,) in ask_database(service, query, account, fold_id)]


def read_progress(service: Service, account: Account, fold_id: int) -> tuple[str, int]:
    """Return the phase of a fold and how many attempts it has lost, from the database itself."""
    query = (
        "select f.phase, f.failures from runapp_submissionfold f"
        " join auth_user u on u.id = f.owner_id"
        " where u.username = ? and f.databoard_sf_id = ?"
    )
    [(phase, n_failures)] = ask_database(service, query, account, fold_id)
    return phase, n_failures


def ask_database(service: Service, query: str, account: Account, fold_id: int) -> list[Any]:
    address = f"file:{service.home / 'datarun.sqlite3'}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return connection.execute(query, (account.username, fold_id)).fetchall()


def assert_each_tested_once(service: Service, account: Account, fold_ids: list[int]) -> None:
    rows = account.wait_for_folds(fold_ids)
    for number, fold_id in enumerate(fold_ids):
        assert_same_bits(rows[fold_id], predict(number))
        assert list_outcomes(service, account, fold_id).count("tested") == 1
    new = check(post_api.get_prediction_new(*account.credentials, None))
    handed_out = [row["databoard_sf_id"] for row in new]
    assert sorted(set(fold_ids) & set(handed_out)) == sorted(fold_ids)
    assert len(handed_out) == len(set(handed_out))


def test_folds_of_a_killed_worker_are_tested_once_by_the_next(
    waiting: list[int], account: Account, service: Service
) -> None:
    worker = service.find_part("celery")
    assert worker is not None
    tree = [worker, *worker.children(recursive=True)]

    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.kill()

    wait_until(lambda: service.find_part("celery") not in (None, worker), what="a new worker")
    wait_until_dead(tree, seconds=5)
    assert_each_tested_once(service, account, waiting)
    assert list_outcomes(service, account, waiting[0]) == ["lost", "tested"]
    assert account.read_fold(waiting[0])["attempt"] == 2
    assert list(service.scratch.glob("*")) == [], "what the killed runs had written is left"


def test_folds_of_killed_keepers_are_tested_once(
    waiting: list[int], account: Account, service: Service
) -> None:
    runs = service.list_runs()
    for keeper in service.list_keepers():
        keeper.kill()

    assert_each_tested_once(service, account, waiting)
    wait_until_dead(runs, seconds=1)


def test_folds_of_a_killed_slot_are_tested_once(
    waiting: list[int], account: Account, service: Service
) -> None:
    runs = service.list_runs()
    worker = service.find_part("celery")
    assert worker is not None
    for slot in list_slots(worker):
        slot.kill()

    wait_until_dead(runs, seconds=5)
    assert_each_tested_once(service, account, waiting)


def test_fold_is_tested_after_each_idle_slot_was_killed(
    iris: int, account: Account, service: Service
) -> None:
    worker = service.find_part("celery")
    assert worker is not None
    before = list_slots(worker)
    assert len(before) == 2

    for slot in before:
        slot.kill()

    fold_id = account.post_code(iris, make_code(seconds=0), train_is=TRAIN_IS)
    assert_same_bits(account.wait_for_fold(fold_id), predict())
    assert service.find_part("celery") == worker


def test_folds_killed_from_outside_are_tested_once(
    waiting: list[int], account: Account, service: Service
) -> None:
    for keeper in service.list_keepers():
        for child in keeper.children():
            child.kill()

    assert_each_tested_once(service, account, waiting)
    assert list_outcomes(service, account, waiting[0]) == ["lost", "tested"]


def test_killed_web_server_comes_back_with_the_folds(
    waiting: list[int], account: Account, service: Service
) -> None:
    web = service.find_part("gunicorn")
    assert web is not None

    web.kill()

    def answers() -> bool:
        with suppress(requests.ConnectionError):
            return bool(account.read_fold(waiting[0])["attempt"] == 1)
        return False

    wait_until(lambda: is_dead(web), what="the web server is dead")
    wait_until(answers, what="the web server is back")
    assert_each_tested_once(service, account, waiting)
    assert list_outcomes(service, account, waiting[0]) == ["tested"]


def test_cancelled_running_fold_is_dead_within_two_seconds(
    iris: int, account: Account, service: Service
) -> None:
    fold_id = account.post_code(iris, make_code(seconds=ENDLESS), train_is=TRAIN_IS)
    account.wait_until_running(fold_id)
    runs = wait_for_runs(service)

    row = check(account.send("DELETE", f"submissionfold/{fold_id}/"), status=202)

    assert (row["state"], row["error_code"]) == ("ERROR", "cancelled")
    wait_until_dead(runs)
    assert account.read_fold(fold_id)["log_messages"] == "Cancelled on request."
    wait_until(
        lambda: list_outcomes(service, account, fold_id) == ["cancelled"],
        what="the attempt is recorded",
    )


def test_cancelled_waiting_fold_never_runs(iris: int, account: Account, service: Service) -> None:
    *running, first, second, third = post_folds(account, service, iris, seconds=ENDLESS)

    row = check(account.send("DELETE", f"submissionfold/{second}/"), status=200)

    assert (row["state"], row["error_code"]) == ("ERROR", "cancelled")
    for fold_id in running:
        check(account.send("DELETE", f"submissionfold/{fold_id}/"), status=202)
    rows = account.wait_for_folds([first, second, third])
    assert [rows[n]["state"] for n in (first, second, third)] == ["TESTED", "ERROR", "TESTED"]
    assert rows[second]["attempt"] == 0
    assert rows[second]["started_at"] is None


def test_finished_fold_cannot_be_cancelled(iris: int, account: Account) -> None:
    fold_id = account.post_code(iris, make_code(seconds=0), train_is=TRAIN_IS)
    account.wait_for_fold(fold_id)

    refused = account.send("DELETE", f"submissionfold/{fold_id}/")

    assert refused.status_code == 409
    assert_same_bits(account.read_fold(fold_id), predict())


def test_cancelled_fold_runs_when_it_is_forced(
    iris: int, account: Account, service: Service
) -> None:
    submission = account.number()
    fold_id = account.post_code(
        iris, make_code(seconds=ENDLESS), train_is=TRAIN_IS, submission=submission
    )
    account.wait_until_running(fold_id)
    wait_for_runs(service)
    check(account.send("DELETE", f"submissionfold/{fold_id}/"), status=202)

    account.post_code(
        iris,
        make_code(seconds=0, number=1),
        train_is=TRAIN_IS,
        submission=submission,
        fold=fold_id,
        force="submission, submission_fold",
    )

    assert_same_bits(account.wait_for_fold(fold_id), predict(1))


def test_dataset_deleted_while_its_folds_run_is_gone_with_them(
    iris: int, account: Account, service: Service
) -> None:
    folds = post_folds(account, service, iris, seconds=ENDLESS)
    runs = service.list_runs()
    storage = service.home / "storage" / account.read_dataset(iris)["files_path"]
    assert storage.is_dir()
    assert len(runs) >= 2

    deleted = account.send("DELETE", f"rawdata/{iris}/")

    assert deleted.status_code == 204
    wait_until_dead(runs)
    assert not set(folds) & set(account.read_states())
    assert account.send("GET", f"rawdata/{iris}/").status_code == 404
    wait_until(partial(is_gone, storage), what="the storage is gone", seconds=5)
    assert list(service.scratch.glob("*")) == []


def test_forced_split_restarts_running_folds_and_keeps_finished_ones(
    iris: int, account: Account, service: Service
) -> None:
    finished = account.post_code(iris, make_code(seconds=0), train_is=TRAIN_IS)
    account.wait_for_fold(finished)
    running = [
        account.post_code(iris, make_code(seconds=2, number=number), train_is=TRAIN_IS)
        for number in range(2)
    ]
    for fold_id in running:
        account.wait_until_running(fold_id)
    runs = wait_for_runs(service, n_folds=2)
    request = {"raw_data_id": iris, "held_out_test": 0.5, "random_state": RANDOM_STATE}

    refused = account.send("POST", "rawdata/split/", request)
    forced = account.send("POST", "rawdata/split/", {**request, "force": True})

    assert refused.status_code == 409
    check(forced)
    wait_until_dead(runs)
    rows = account.wait_for_folds(running)
    for number, fold_id in enumerate(running):
        assert_same_bits(rows[fold_id], predict(number, held_out_test=0.5))
        assert list_outcomes(service, account, fold_id) == ["restarted", "tested"]
    assert_same_bits(account.read_fold(finished), predict())


def test_forced_code_restarts_running_siblings_and_keeps_finished_ones(
    iris: int, account: Account, service: Service
) -> None:
    submission = account.number()
    old, new = make_code(seconds=3), make_code(seconds=0, number=1)

    def post(code: str, **options: object) -> int:
        return account.post_code(iris, code, train_is=TRAIN_IS, submission=submission, **options)

    finished = post(old)
    account.wait_for_fold(finished)
    running, forced = post(old), post(old)
    for fold_id in (running, forced):
        account.wait_until_running(fold_id)
    runs = wait_for_runs(service, n_folds=2)
    waiting = post(old)

    post(new, fold=forced, force="submission, submission_fold")

    wait_until_dead(runs)
    rows = account.wait_for_folds([finished, running, forced, waiting])
    assert_same_bits(rows[finished], predict())
    for fold_id in (running, forced, waiting):
        assert_same_bits(rows[fold_id], predict(1))


def test_split_of_a_killed_worker_is_made_by_the_next(
    account: Account, service: Service, tmp_path: Path
) -> None:
    module = tmp_path / "specific.py"
    module.write_text(
        "import time\n\n\n"
        "def prepare_data(path):\n    time.sleep(1.5)\n\n\n"
        "def get_train_data(path):\n    return [1, 2, 3], [0, 1, 1]\n\n\n"
        "get_test_data = get_train_data\n"
    )
    raw_data_id = account.post_dataset(
        name="killed split", target="y", elements="classifier", files=[module]
    )
    account.ask_for_custom_split(raw_data_id)
    wait_until(service.list_runs, what="the split runs")
    worker = service.find_part("celery")
    assert worker is not None

    worker.kill()

    row: Row = account.wait_for_split(raw_data_id)
    assert (row["n_train"], row["classes"]) == (3, [0, 1])


def test_second_signal_gives_running_folds_back_unspent(tmp_path: Path) -> None:
    grace = {"DATARUN_SHUTDOWN_GRACE_SECONDS": "600"}
    with serving(tmp_path, {**ENVIRONMENT, **grace}) as service:
        account = service.make_account("second-signal")
        raw_data_id = account.post_example(IRIS)
        account.wait_for_split(raw_data_id)
        code = make_code(seconds=ENDLESS)
        fold_id = account.post_code(raw_data_id, code, train_is=TRAIN_IS)
        account.wait_until_running(fold_id)
        wait_for_runs(service)

        service.process.terminate()
        stopped_at = time.monotonic()
        wait_until(lambda: time.monotonic() - stopped_at > 1.5, what="it is a wish of its own")
        service.process.terminate()

        # Well before the parts would be killed, and so the fold be lost, or the grace be over.
        assert service.process.wait(10) == 0
        assert "is killed" not in service.log
        assert list_outcomes(service, account, fold_id) == ["returned"]
        assert read_progress(service, account, fold_id) == ("waiting", 0)
