"""The service that is posted to: an account, a split dataset, and a worker when one is wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.databases import execute
from bench.intake.bodies import HELD_OUT
from bench.web import PROJECT, Client, stop
from test_files import post_api
from test_files.examples import IRIS

SLOTS = 2
_WAIT_SECONDS = 90.0
_COUNT_RUNNING = "SELECT count(*) FROM runapp_submissionfold WHERE phase = 'running'"


def create_account(environment: Mapping[str, str]) -> str:
    """Make the tables and an account; return its token."""
    _manage(environment, "migrate", "--verbosity", "0")
    _manage(environment, "createuser", "poster", "poster@example.org", "a-long-passphrase-57")
    return _manage(environment, "createtoken", "poster").strip()


def _manage(environment: Mapping[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def post_dataset(client: Client, environment: Mapping[str, str]) -> int:
    """Post iris and let a worker split it; return the dataset's id."""
    body = {
        "name": "iris",
        "target_column": IRIS.target,
        "workflow_elements": IRIS.elements,
        "files": {IRIS.data_file.name: post_api.encode_file(IRIS.data_file.read_bytes())},
    }
    raw_data_id = int(json.loads(_post(client, "rawdata/", body))["id"])
    _post(client, "rawdata/split/", {"raw_data_id": raw_data_id, "held_out_test": HELD_OUT})
    path = f"/runapp/rawdata/{raw_data_id}/"
    with _run_worker(environment):
        _wait_until(lambda: b'"READY"' in client.ask(path).content, what="the split")
    return raw_data_id


def _post(client: Client, path: str, body: object) -> bytes:
    return client.ask(f"/runapp/{path}", method="POST", body=json.dumps(body).encode()).content


@contextmanager
def training(environment: Mapping[str, str]) -> Iterator[None]:
    """Let a worker train what waits; its slots are busy from the beginning to the end.

    Raises
    ------
    RuntimeError
        When they were not.
    """
    with _run_worker(environment):
        _wait_until(lambda: _count_running(environment) == SLOTS, what="busy slots")
        yield
        if _count_running(environment) != SLOTS:
            raise RuntimeError("the slots were not busy to the end")


def _count_running(environment: Mapping[str, str]) -> int:
    return int(execute(environment, _COUNT_RUNNING)[0])


@contextmanager
def _run_worker(environment: Mapping[str, str]) -> Iterator[None]:
    changes = {**environment, "DATARUN_SHUTDOWN_GRACE_SECONDS": "1"}
    with Path(environment["DATARUN_HOME"], "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "worker", "--slots", str(SLOTS)],
            cwd=PROJECT,
            env={**os.environ, **changes},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        stop(process)


def _wait_until(is_so: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {_WAIT_SECONDS:.0f} s")
        time.sleep(0.2)
