"""PostgreSQL that is away, read-only or locked: 503 and what can be served, never 500."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from test_files.examples import IRIS
from tests.functional.account import Account
from tests.functional.conftest import Serve
from tests.functional.instances import Postgres, private_postgres
from tests.functional.service import PROJECT, Service, wait_until

ANSWER_SECONDS = 30
CLASSIFIER = """
import numpy as np


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(set(y))

    def predict_proba(self, X):
        return np.full((len(X), self.n_classes), 1 / self.n_classes)
"""
ROOT_PASSWORD = "another-long-secret"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with private_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def service(server: Postgres, serve: Serve) -> Service:
    environment = {"DATABASE_URL": server.url, "DATARUN_SLOTS": "1", "DATARUN_WEB_THREADS": "4"}
    return serve("away", environment)


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    service.manage("createuser", "root", "root@example.org", ROOT_PASSWORD, "--superuser")
    account = service.make_account("away")
    account.post_dataset(
        name="iris", target=IRIS.target, elements=IRIS.elements, files=[IRIS.data_file]
    )
    return account


def ask_to_split(account: Account) -> requests.Response:
    (raw_data,) = account.send("GET", "rawdata/").json()
    body = {"raw_data_id": raw_data["id"], "held_out_test": 0.3, "force": True}
    return account.send("POST", "rawdata/split/", body)


def check_unavailable(response: requests.Response) -> dict[str, Any]:
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    (error,) = response.json()["errors"]
    assert error["code"] == "unavailable"
    assert response.json()["detail"] == error["message"]
    return error


def test_sessions_that_the_server_ended_cost_no_request(server: Postgres, account: Account) -> None:
    assert account.send("GET", "rawdata/").status_code == 200

    assert server.end_sessions()
    answers = [account.send("GET", "rawdata/").status_code for _ in range(8)]

    assert answers == [200] * 8


def test_read_only_database_is_read(server: Postgres, account: Account, service: Service) -> None:
    token = service.manage("createtoken", account.username).split()[-1]
    server.execute("alter database datarun set default_transaction_read_only = on")
    server.end_sessions()
    try:
        by_password = account.send("GET", "rawdata/")
        by_token = requests.get(
            f"{service.host_url}runapp/rawdata/",
            headers={"Authorization": f"Token {token}"},
            timeout=ANSWER_SECONDS,
        )
        (raw_data,) = by_password.json()
        changed = account.send("PATCH", f"rawdata/{raw_data['id']}/", {"limits": {}})
        posted = ask_to_split(account)
        site = sign_in(service)
    finally:
        server.execute(
            "alter database datarun reset default_transaction_read_only", database="postgres"
        )
        server.end_sessions()

    assert (by_password.status_code, by_token.status_code) == (200, 200)
    for response in (changed, posted, site):
        assert "is read-only" in check_unavailable(response)["message"]
    assert account.send("PATCH", f"rawdata/{raw_data['id']}/", {"limits": {}}).status_code == 200


def sign_in(service: Service) -> requests.Response:
    """Sign in to the admin site, which writes a session and who signed in when."""
    browser = requests.Session()
    url = f"{service.host_url}admin/login/"
    browser.get(url, timeout=ANSWER_SECONDS)
    form = {
        "username": "root",
        "password": ROOT_PASSWORD,
        "csrfmiddlewaretoken": browser.cookies["csrftoken"],
    }
    return browser.post(url, data=form, timeout=ANSWER_SECONDS)


def test_lock_that_is_held_is_not_waited_for_without_end(
    server: Postgres, account: Account
) -> None:
    with server.connect() as holder:
        holder.execute("begin")
        holder.execute("lock table runapp_rawdata in exclusive mode")
        refused = ask_to_split(account)
        read = account.send("GET", "rawdata/")
        holder.execute("rollback")

    check_unavailable(refused)
    assert read.status_code == 200


def test_absent_database_is_told_and_found_again(
    server: Postgres, account: Account, service: Service
) -> None:
    lines_before = service.log.count("the database answers again")
    server.stop()

    try:
        for path in ("rawdata/", "submissionfold-light/"):
            check_unavailable(account.send("GET", path))
        browser = requests.Session()
        browser.cookies["sessionid"] = "0123456789abcdef0123456789abcdef"
        check_unavailable(browser.get(f"{service.host_url}admin/", timeout=ANSWER_SECONDS))
        wait_until(lambda: "the database is away" in service.log, what="the worker says so")
    finally:
        server.start()
        server.wait_until_it_answers()

    wait_until(
        lambda: account.send("GET", "rawdata/").status_code == 200,
        what="the database is found again",
        seconds=10,
    )
    wait_until(
        lambda: service.log.count("the database answers again") > lines_before,
        what="the worker has found it as well",
        seconds=15,
    )


def test_connections_are_few_and_given_back(server: Postgres, service: Service) -> None:
    def count_sessions() -> int:
        ((number,),) = server.execute(
            "select count(*) from pg_stat_activity "
            "where datname = 'datarun' and pid <> pg_backend_pid()"
        )
        return int(number)

    # The web server's threads, the worker's main process; an idle slot has none.
    assert count_sessions() <= 4 + 1


def find_slot(service: Service) -> psutil.Process | None:
    worker = service.find_part("celery")
    for child in worker.children() if worker is not None else []:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "celery" in child.cmdline():
                return child
    return None


def list_sockets(process: psutil.Process, port: int) -> list[Any]:
    found = process.net_connections("tcp")
    return [connection for connection in found if connection.raddr and connection.raddr[1] == port]


def test_slot_that_was_started_again_trains_with_a_connection_of_its_own(
    server: Postgres, service: Service, account: Account
) -> None:
    for _ in range(8):
        slot = wait_until(lambda: find_slot(service), what="there is a slot")
        slot.kill()
        wait_until(
            lambda killed=slot: find_slot(service) not in (None, killed),
            what="there is another slot",
        )
        assert (fresh := find_slot(service))
        assert list_sockets(fresh, server.port) == []

    (raw_data,) = account.send("GET", "rawdata/").json()
    assert ask_to_split(account).status_code == 200
    account.wait_for_split(raw_data["id"])
    fold_id = account.post_code(raw_data["id"], CLASSIFIER, train_is=range(60))
    assert account.wait_for_fold(fold_id)["state"] == "TESTED"


def test_worker_of_another_home_comes_and_goes(service: Service, tmp_path: Path) -> None:
    """Both machines of this test are one; the broker is a folder that only the first one has."""

    def list_live() -> list[str]:
        found = json.loads(service.manage("workers", "--json"))
        return [worker["name"] for worker in found if worker["is_live"]]

    (first,) = list_live()
    environment = {**service.environment, "DATARUN_HOME": str(tmp_path / "other")}
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, str(PROJECT / "manage.py"), "worker", "--slots", "1"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: len(list_live()) == 2, what="there are two workers")
        assert "--concurrency" in psutil.Process(worker.pid).cmdline()
        worker.terminate()
        assert worker.wait(timeout=30) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()

    assert list_live() == [first]


# A thread is in the middle of a transaction when the process forks; then the process is killed.
FORKS = """
import os, signal, sys, threading
import django
django.setup()
from django.db import connection, transaction
from datarun.forks import cut_off_in_children
from django.conf import settings
cut_off_in_children(database=settings.DATABASES["default"])
ready, never = threading.Event(), threading.Event()
def hold():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(4711)")
        ready.set()
        never.wait()
threading.Thread(target=hold, daemon=True).start()
assert ready.wait(30)
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    sys.stdin.read()
    with connection.cursor() as cursor:
        cursor.execute("select 42")
        print(cursor.fetchone()[0], flush=True)
    os._exit(0)
never.wait()
"""


def test_lock_of_a_killed_process_is_not_kept_by_its_child(
    server: Postgres, service: Service
) -> None:
    environment = {**service.environment, "DJANGO_SETTINGS_MODULE": "datarun.settings"}
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=PROJECT,
        env={**environment, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        assert list_sockets(psutil.Process(parent.pid), server.port) != []
        assert list_sockets(child, server.port) == []

        parent.kill()
        parent.wait()

        wait_until(
            lambda: server.execute("select pg_try_advisory_lock(4711)") == [(True,)],
            what="the lock is free",
            seconds=10,
        )
        parent.stdin.close()
        assert parent.stdout.readline() == "42\n"
    finally:
        parent.kill()
        if child.is_running():
            child.kill()
        parent.stdout.close()
