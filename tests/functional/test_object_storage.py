"""A service whose blobs lie in an S3-compatible store."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from test_files import post_api
from test_files.examples import IRIS, list_submission_files
from tests.functional.account import (
    Account,
    assert_same_bits,
    check,
    read_predictions,
    train_example_locally,
)
from tests.functional.service import Service, serving, wait_until
from tests.object_server import BUCKET, CREDENTIALS, ObjectServer, serving_objects

CACHE_MB = 6
PREFIX = "a/prefix"
N_ROWS, N_COLUMNS = 12_000, 12

# Its predictions are too large for a row of the database.
WIDE = """
import numpy as np

class Classifier:
    def fit(self, X, y):
        self.mean = np.mean(X)

    def predict_proba(self, X):
        ones = (np.asarray(X)[:, 0] > self.mean).astype(float)
        return np.column_stack([ones, 1 - ones])
"""


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectServer]:
    with serving_objects() as server:
        yield server


@pytest.fixture(scope="module")
def service(store: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    environment = {
        **CREDENTIALS,
        "DATARUN_STORAGE_URL": store.make_storage_url(PREFIX),
        "DATARUN_CACHE_MB": str(CACHE_MB),
    }
    with serving(tmp_path_factory.mktemp("objects"), environment) as service:
        yield service


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.make_account("ada")


@dataclass
class CacheWatch:
    """Looks at the size of a cache all the time."""

    folder: Path
    sizes: list[int] = field(default_factory=list)

    def look(self) -> None:
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
        self.sizes.append(total)


@contextmanager
def watching(folder: Path) -> Iterator[CacheWatch]:
    watch, is_over = CacheWatch(folder), threading.Event()

    def look_on() -> None:
        while not is_over.wait(0.02):
            with suppress(FileNotFoundError):  # a folder that goes while it is listed
                watch.look()

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield watch
    finally:
        is_over.set()
        thread.join()


@contextmanager
def silenced(store: ObjectServer) -> Iterator[None]:
    """Have the store take connections and answer nothing."""
    os.kill(store.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store.process.pid, signal.SIGCONT)


def write_table(path: Path, seed: int) -> Path:
    values = np.random.default_rng(seed).normal(size=(N_ROWS, N_COLUMNS))
    names = ",".join(f"x{number}" for number in range(N_COLUMNS))
    lines = (
        ",".join(f"{value:.6f}" for value in row) + f",{'ab'[number % 2]}"
        for number, row in enumerate(values)
    )
    path.write_text("\n".join([f"{names},y", *lines, ""]))
    return path


def test_main_job_runs_on_objects_within_the_bound_of_the_cache(
    account: Account, service: Service, store: ObjectServer
) -> None:
    """Each of several datasets fits the cache, and all of them together do not."""
    with watching(service.home / "cache" / "datasets") as watch:
        datasets = [
            account.post_dataset(
                name=f"wide {number}",
                target="y",
                elements="classifier",
                files=[write_table(service.folder / f"{number}.csv", number)],
            )
            for number in range(4)
        ]
        for raw_data_id in datasets:
            account.ask_for_split(raw_data_id)
        for raw_data_id in datasets:
            account.wait_for_split(raw_data_id)
        folds = [
            account.post_code(raw_data_id, WIDE, train_is=range(1000))
            for _ in range(3)
            for raw_data_id in datasets
        ]
        rows = account.wait_for_folds(folds)

    assert [row["log_messages"] for row in rows.values() if row["state"] != "TESTED"] == []
    train, test = read_predictions(rows[folds[0]])
    assert len(train) + len(test) == N_ROWS
    assert CACHE_MB * 2**18 < max(watch.sizes) <= CACHE_MB * 2**20
    kinds = {name.split("/")[4] for name in store.list_names(PREFIX)}
    assert kinds == {"raw", "features", "labels", "code", "predictions"}
    sizes = store.make_client().list_objects_v2(Bucket=BUCKET, Prefix=PREFIX)["Contents"]
    assert sum(entry["Size"] for entry in sizes) > CACHE_MB * 2**20

    for raw_data_id in datasets:
        assert account.send("DELETE", f"rawdata/{raw_data_id}/").status_code == 204

    assert store.list_names(PREFIX) == []


def test_predictions_are_those_of_training_locally(account: Account, service: Service) -> None:
    raw_data_id = account.post_example(IRIS)
    submission = IRIS.folder / "submissions" / "logistic"
    train_is = np.arange(90)
    account.wait_for_split(raw_data_id)

    fold_id = account.post_fold(
        raw_data_id=raw_data_id, files=list_submission_files(submission), train_is=train_is
    )

    row = account.wait_for_fold(fold_id)
    assert_same_bits(row, train_example_locally(IRIS, submission, train_is))
    assert "removed 0 files that no row refers to" in service.manage("prune")


def test_store_that_falls_silent_costs_no_fold_and_no_other_request(
    account: Account, service: Service, store: ObjectServer
) -> None:
    raw_data_id = account.post_dataset(
        name="silent", target=IRIS.target, elements=IRIS.elements, files=[IRIS.data_file]
    )
    account.ask_for_split(raw_data_id)
    account.wait_for_split(raw_data_id)
    submission = account.number()
    files = list_submission_files(IRIS.folder / "submissions" / "logistic")
    account.wait_for_fold(
        account.post_fold(
            raw_data_id=raw_data_id, files=files, train_is=range(50), submission=submission
        )
    )
    shutil.rmtree(service.home / "cache" / "datasets")

    with silenced(store):
        refused = post_api.post_data(
            *account.credentials, "refused", IRIS.target, IRIS.elements, IRIS.data_file
        )
        # Its code is known: only the worker needs the store.
        waiting = account.number()
        posted = post_api.post_submission_fold(
            *account.credentials, submission, waiting, np.arange(60), np.arange(60, 70)
        )
        check(posted, status=201)
        check(account.send("GET", "rawdata/"))
        wait_until(
            lambda: "is busy, full or unavailable" in service.log,
            what="a slot has given the fold back",
        )
        row = account.read_fold(waiting)

    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    assert store.url not in refused.text
    assert row["state"] == "TODO"
    assert account.wait_for_fold(waiting)["state"] == "TESTED"
    assert "refused" not in {entry["name"] for entry in check(account.send("GET", "rawdata/"))}
