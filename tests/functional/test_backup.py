"""A service that is restored from its backup, or moved, by the commands that the page tells.

Finished folds answer the same bits there, and what waited or ran is trained to its end, once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from test_files import local, post_api
from test_files.examples import RANDOM_STATE
from tests.functional.account import (
    Account,
    Row,
    assert_same_bits,
    check,
    read_predictions,
)
from tests.functional.instances import Postgres, private_postgres
from tests.functional.service import PROJECT, Service, serving
from tests.unit.test_documentation import list_code_blocks

ACCOUNT = "clerk"
PAGE = PROJECT / "docs" / "deployment.md"
ENVIRONMENT = {
    "DATARUN_LEASE_SECONDS": "4",
    "DATARUN_HEARTBEAT_SECONDS": "1",
    "DATARUN_SHUTDOWN_GRACE_SECONDS": "1",
    "DATARUN_SECRET_KEY": "the-same-before-and-after-the-backup",
}
# The predictions of a table's train part are too large for a row: they lie in the storage.
N_ROWS = 8000
LARGE_BYTES = 64 * 1024
TRAIN_IS = range(50)
CODE = """
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        time.sleep({seconds})
        self.shift = X[:, 0].mean() + {number}

    def predict_proba(self, X):
        return X + self.shift
"""
AUDIT = """
import json
from runapp.models import FoldAttempt, Predictions, RawData, Submission, SubmissionFold
digests = set(Predictions.objects.filter(data=None).values_list("digest", flat=True))
for row in RawData.objects.all():
    # Beside the parts' digests it says of what kind they are.
    digests |= {*row.files.values(), *(word for word in row.parts.values() if len(word) == 64)}
for row in Submission.objects.all():
    digests |= {*row.files.values(), row.hash_files}
attempts = FoldAttempt.objects.order_by("number").values_list("fold__databoard_sf_id", "outcome")
folds = SubmissionFold.objects.all()
failures = folds.values_list("databoard_sf_id", "failures")
claims = folds.values_list("databoard_sf_id", "attempt")
found = {"digests": digests, "attempts": attempts, "failures": failures, "claims": claims}
print(json.dumps({name: list(values) for name, values in found.items()}))
"""


@dataclass(frozen=True)
class Posted:
    """What an account has on a service: folds by their ids, unfinished ones with a number."""

    account: Account
    token: str
    table: Path
    raw_data_id: int
    finished: Mapping[int, Row]
    held: Mapping[int, int]
    waiting: Mapping[int, int]

    @property
    def unfinished(self) -> dict[int, int]:
        return {**self.held, **self.waiting}

    @property
    def ids(self) -> list[int]:
        return sorted([*self.finished, *self.unfinished])

    def post_late(self) -> None:
        """Have one more fold finished."""
        code = CODE.format(seconds=0, number=8)
        self.account.wait_for_fold(
            self.account.post_code(self.raw_data_id, code, train_is=TRAIN_IS)
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with private_postgres() as running:
        # As the page has it: not the superuser, and without the right to make databases.
        running.execute(f"create role {ACCOUNT} login")
        running.execute(f"alter database datarun owner to {ACCOUNT}")
        yield running


def write_table(path: Path) -> Path:
    values = np.random.default_rng(RANDOM_STATE).normal(size=(N_ROWS, 2))
    lines = (f"{a:.6f},{b:.6f},{'no' if a < b else 'yes'}" for a, b in values)
    path.write_text("\n".join(["a,b,answer", *lines, ""]))
    return path


def predict(table: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the code with that number predicts."""
    parts = local.split_standard(table, "answer", 0.3, RANDOM_STATE)
    train, test = parts.X_train.to_numpy(), parts.X_test.to_numpy()
    shift = train[list(TRAIN_IS)][:, 0].mean() + number
    return train + shift, test + shift


def post_work(service: Service) -> Posted:
    """Have two folds finished, one running in each of two slots, and two waiting for them."""
    account = service.make_account("ada")
    table = write_table(service.folder / "table.csv")
    raw_data_id = account.post_dataset(
        name="table", target="answer", elements="classifier", files=[table]
    )
    account.ask_for_split(raw_data_id)
    account.wait_for_split(raw_data_id)

    def post(number: int, *, seconds: int) -> int:
        code = CODE.format(seconds=seconds, number=number)
        return account.post_code(raw_data_id, code, train_is=TRAIN_IS)

    finished = account.wait_for_folds([post(number, seconds=0) for number in range(2)])
    token = service.manage("createtoken", "ada").split()[-1]
    held = {post(number, seconds=3): number for number in (2, 3)}
    for fold_id in held:
        account.wait_until_running(fold_id)
    return Posted(
        account=account,
        token=token,
        table=table,
        raw_data_id=raw_data_id,
        finished=finished,
        held=held,
        waiting={post(number, seconds=0): number for number in (4, 5)},
    )


def run_block(containing: str, environment: Mapping[str, str]) -> None:
    """Run the one block of commands of the page that contains this."""
    (block,) = [text for text in list_code_blocks(PAGE, "sh") if containing in text]
    done = subprocess.run(
        ["sh", "-eu", "-c", block.replace(".venv/bin/python", sys.executable)],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def check_service_goes_on(service: Service, posted: Posted, *, storage: Path) -> dict[str, Any]:
    """Check that a service has what was posted on another, and ends it; return its audit."""
    account = replace(posted.account, host_url=service.host_url)
    by_token = requests.get(
        f"{service.host_url}runapp/rawdata/",
        headers={"Authorization": f"Token {posted.token}"},
        timeout=30,
    )
    assert [row["id"] for row in check(by_token)] == [posted.raw_data_id]
    check_folds(account, posted)

    audit = read_audit(service)
    tested = [number for number, outcome in audit["attempts"] if outcome == "tested"]
    assert sorted(tested) == posted.ids
    assert set(audit["digests"]) <= list_whole_blobs(storage)
    check_rows_can_be_made(service, account, posted.raw_data_id)
    return audit


def check_folds(account: Account, posted: Posted) -> None:
    """Check that the folds are those that were posted, and end as they must."""
    assert sorted(account.read_states()) == posted.ids
    for fold_id, row in posted.finished.items():
        assert_same_bits(account.read_fold(fold_id), read_predictions(row))
        assert read_predictions(row)[0].nbytes > LARGE_BYTES
    rows = account.wait_for_folds(posted.unfinished)
    for fold_id, number in posted.unfinished.items():
        assert_same_bits(rows[fold_id], predict(posted.table, number))
    handed_out = check(post_api.get_prediction_new(*account.credentials, None))
    assert sorted(row["databoard_sf_id"] for row in handed_out) == posted.ids


def check_rows_can_be_made(service: Service, account: Account, raw_data_id: int) -> None:
    """Check that the database gives numbers to new rows that no old one has."""
    fold_id = account.post_code(raw_data_id, CODE.format(seconds=0, number=9), train_is=TRAIN_IS)
    assert account.wait_for_fold(fold_id)["state"] == "TESTED"
    other = service.make_account("grace")
    check(other.send("GET", "rawdata/"))


def read_audit(service: Service) -> dict[str, Any]:
    audit: dict[str, Any] = json.loads(service.manage("shell", "--verbosity", "0", "-c", AUDIT))
    return audit


def list_whole_blobs(storage: Path) -> set[str]:
    """Return the names of the files that are what they are named for."""
    return {
        path.name
        for path in storage.rglob("*")
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    }


@dataclass(frozen=True)
class Site:
    """Where a service runs and what its operator has in the environment of a shell."""

    folder: Path
    settings: Mapping[str, str]
    words: Mapping[str, str]

    @property
    def storage(self) -> Path:
        return self.folder / "home" / "storage"


def make_site(folder: Path, *, backup: Path, server: Postgres | None, name: str) -> Site:
    """Return a place to serve from: on SQLite, or in a database of that name on a server."""
    folder.mkdir(exist_ok=True)
    settings, path = dict(ENVIRONMENT), os.environ["PATH"]
    words: dict[str, str] = {}
    if server is not None:
        settings["DATABASE_URL"] = make_url(server, name)
        path = f"{server.programs}:{path}"
        words = {"DATABASE": name, "ACCOUNT": ACCOUNT, "SUPERUSER_URL": server.url}
    words |= {
        "PATH": path,
        "BACKUP": str(backup),
        "DATARUN_HOME": str(folder / "home"),
        "STORAGE": str(folder / "home" / "storage"),
        **settings,
    }
    return Site(folder=folder, settings=settings, words=words)


def make_url(server: Postgres, name: str) -> str:
    """Return the address of a database for datarun's own account, with an option of libpq."""
    return f"postgres://{ACCOUNT}@127.0.0.1:{server.port}/{name}?sslmode=prefer"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Site, Site]:
    """The site that is backed up, and an empty one."""
    is_sqlite = request.param == "sqlite"
    server = None if is_sqlite else request.getfixturevalue("server")
    backup = tmp_path / "backup"
    backup.mkdir()
    old = make_site(tmp_path / "old", backup=backup, server=server, name="datarun")
    new = make_site(tmp_path / "new", backup=backup, server=server, name="restored")
    return old, new


def test_restored_service_ends_what_its_backup_found_unfinished(sites: tuple[Site, Site]) -> None:
    old, new = sites
    dump, restore = (
        ("pg_dump", "pg_restore")
        if "DATABASE_URL" in old.settings
        else ("vacuum into", 'cp "$BACKUP/database"')
    )
    with serving(old.folder, old.settings) as service:
        posted = post_work(service)
        run_block(dump, old.words)
        light = posted.account.send("GET", "submissionfold-light/")
        cursor = light.headers["Datarun-Cursor"]
        # What ends from here on is in the storage, and not in the database that was dumped.
        posted.account.wait_for_folds(posted.unfinished)
        posted.post_late()
        run_block("tar --create", old.words)
    shutil.rmtree(old.folder / "home")

    run_block(restore, new.words)
    run_block("tar --extract", new.words)
    run_block("manage.py newepoch", new.words)

    with serving(new.folder, new.settings) as service:
        account = replace(posted.account, host_url=service.host_url)
        stale = account.send("GET", f"submissionfold-light/?updated_since={cursor}")
        audit = check_service_goes_on(service, posted, storage=new.storage)
    assert stale.status_code == 410
    # Those that ran at that time have an attempt that was lost, the others none.
    attempts = dict(audit["claims"])
    assert {attempts[number] for number in posted.held} == {2}
    assert {attempts[number] for number in posted.waiting} == {1}


@pytest.mark.service
def test_embedded_service_is_moved_to_postgresql(server: Postgres, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    server.execute(f"create database moved owner {ACCOUNT}", database="postgres")
    embedded = make_site(folder, backup=tmp_path, server=None, name="")
    moved = make_site(folder, backup=tmp_path, server=server, name="moved")
    with serving(embedded.folder, embedded.settings) as service:
        posted = post_work(service)

    run_block("manage.py dumpdata", embedded.words)
    run_block("manage.py loaddata", moved.words)

    with serving(moved.folder, moved.settings) as service:
        audit = check_service_goes_on(service, posted, storage=moved.storage)
    assert {failures for _, failures in audit["failures"]} == {0}
    assert dict(audit["claims"])[min(posted.held)] == 2
