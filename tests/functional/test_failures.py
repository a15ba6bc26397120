"""Submissions that fail or attack: what becomes of them, and of those who come after."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runapp.runner.metering.cgroups import find_cgroups
from runapp.runner.sandbox.levels import Level
from test_files import local
from test_files.examples import IRIS, RANDOM_STATE, list_submission_files
from tests.functional.account import (
    Account,
    Row,
    assert_same_bits,
    train_example_locally,
)
from tests.functional.service import Service, assert_shows_no_path, wait_until
from tests.hostile_cases import (
    CASES,
    Bait,
    Case,
    find_marked_on_host,
    laid_bait,
    load_case,
    split,
)

# What the worker of the service finds, too.
BEST = Level.ROOT if os.geteuid() == 0 else Level.USER
HAS_GROUPS = find_cgroups().memory is not None
BATCH_SECONDS = 300.0
# Whichever test is the first waits for all of them.
pytestmark = pytest.mark.timeout(BATCH_SECONDS + 60)


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bait]:
    with laid_bait(tmp_path_factory.mktemp("hostile") / "bait") as bait:
        yield bait


@pytest.fixture(scope="module")
def batch(account: Account, bait: Bait) -> dict[str, Row]:
    """Every case, posted at once and finished; keyed by the case's name."""
    datasets: dict[str, int] = {}
    folds = {}
    for case in [load_case(name, BEST, has_groups=HAS_GROUPS) for name in CASES]:
        key = json.dumps([case.elements, case.limits])
        if key not in datasets:
            datasets[key] = _post_dataset(account, case)
        folds[case.name] = account.post_fold(
            raw_data_id=datasets[key],
            files=case.write_files(bait.folder.parent / case.name, bait),
            train_is=case.train_is,
        )
    rows = account.wait_for_folds(folds.values(), seconds=BATCH_SECONDS)
    return {name: rows[fold_id] for name, fold_id in folds.items()}


def _post_dataset(account: Account, case: Case) -> int:
    raw_data_id = account.post_dataset(
        name=f"hostile {account.number()}",
        target=case.example.target,
        elements=case.elements,
        files=[case.example.data_file],
        limits=case.limits,
    )
    account.ask_for_split(raw_data_id, held_out_test=case.example.held_out_test or 0)
    return raw_data_id


@pytest.mark.parametrize("name", CASES)
def test_hostile_submission_ends_as_expected(
    name: str, batch: dict[str, Row], bait: Bait, embedded_service: Service
) -> None:
    case, row = load_case(name, BEST, has_groups=HAS_GROUPS), batch[name]

    log = row["log_messages"]
    assert (row["state"], row["error_code"]) == (case.state, case.error_code), log
    assert row["attempt"] == 1
    for text in case.log_contains:
        assert text in log
    for text in case.log_lacks:
        assert text not in log
    assert_shows_no_path(log, embedded_service)
    assert bait.secret not in log
    if case.state == "TESTED":
        assert_constant(row, case)
    else:
        assert row["test_predictions"] is row["full_train_predictions"] is None


def assert_constant(row: Row, case: Case) -> None:
    parts = split(case.example.name)
    wanted = [np.array([case.row] * len(y), dtype=float) for y in (parts.y_train, parts.y_test)]
    assert_same_bits(row, (wanted[0], wanted[1]))


def test_limit_that_was_met_is_told_with_the_use(batch: dict[str, Row]) -> None:
    for name in ("sleeps", "burns_cpu", "memory_shared"):
        sentence = batch[name]["log_messages"].splitlines()[-1]

        used, limit = map(float, re.findall(r"(\d+(?:\.\d+)?) (?:s|MB)", sentence))
        assert used >= limit
        assert used < 5 * limit


def test_failed_fold_has_the_figures_of_what_it_did(batch: dict[str, Row]) -> None:
    in_training, in_testing = batch["burns_cpu"], batch["predictions_nan"]

    assert 1 <= in_training["train_cpu_time"] < 5
    assert in_training["train_time"] >= 1
    assert in_training["train_memory"] > 0
    assert in_training["test_time"] is in_training["validation_time"] is None
    assert in_testing["train_time"] is not None
    assert in_testing["test_time"] is None


def test_honest_fold_after_the_hostile_ones_predicts_the_right_bits(
    account: Account, batch: dict[str, Row]
) -> None:
    raw_data_id = account.post_dataset(
        name="honest", target=IRIS.target, elements=IRIS.elements, files=[IRIS.data_file]
    )
    account.ask_for_split(raw_data_id)
    folds = {
        account.post_fold(
            raw_data_id=raw_data_id, files=list_submission_files(submission), train_is=range(90)
        ): submission
        for submission in IRIS.submissions * 3  # every slot gets some
    }

    rows = account.wait_for_folds(folds)

    for fold_id, submission in folds.items():
        expected = train_example_locally(IRIS, submission, range(90))
        assert_same_bits(rows[fold_id], expected)


def test_hostile_submissions_leave_no_process_and_no_file(
    batch: dict[str, Row], bait: Bait, embedded_service: Service
) -> None:
    wait_until(lambda: not find_marked_on_host(bait), what="nothing is left", seconds=5)
    assert bait.find_marks() == []
    wait_until(lambda: not embedded_service.list_runs(), what="all runs are over", seconds=5)
    assert len(embedded_service.list_keepers()) == 3
    assert list(embedded_service.scratch.glob("*")) == []
    known = {
        "manage.py",
        "gunicorn",
        "celery",
        "runapp.runner.keeper.launch",
        "runapp.runner.keeper.process",
    }
    for process in embedded_service.list_processes():
        command = " ".join(process.cmdline())
        assert any(word in command for word in known), command


# Labels that cannot be mistaken for anything else in a memory.
SECRETS = {float(f"7.{number:04d}e+150"): number for number in range(1, 201)}

# Looks through all memory that is its own, and all files that it holds, for labels. It knows only
# their digests, so what it finds is not its own knowledge.
SEARCHING = r"""
import hashlib
import os
import re
import struct

import numpy as np

KNOWN = {known}


def search():
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps.read().splitlines():
            span, permissions, *_, name = [*line.split(None, 5), ""][:6]
            start, end = (int(address, 16) for address in span.split("-"))
            if permissions[0] == "r" and ".so" not in name and "[v" not in name:
                memory.seek(start)
                found |= look(read(memory, end - start))
    for name in os.listdir("/proc/self/fd"):
        if os.path.isfile(f"/proc/self/fd/{{name}}"):
            found |= look(os.pread(int(name), os.fstat(int(name)).st_size, 0))
    return sorted(found)


def read(memory, size):
    pieces = []
    while size > 0:
        try:
            piece = memory.read(min(size, 2**26))
        except OSError:  # beyond the end of a mapped file
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def look(content):
    likely = re.findall(rb"7\.\d{{1,16}}e\+150", content)
    for shift in range(8) if len(content) < 2**22 else [0]:
        length = max(len(content) - shift, 0) // 8
        with np.errstate(all="ignore"):
            values = np.frombuffer(content, count=length, offset=shift if length else 0)
            likely += [struct.pack("<d", v) for v in values[(values > 7e150) & (values < 8e150)]]
    return {{KNOWN[digest] for text in likely if (digest := make_digest(text)) in KNOWN}}


def make_digest(text):
    return hashlib.sha256(text).hexdigest()


class Regressor:
    def fit(self, X, y):
        print("fit:", search())

    def predict(self, X):
        print("predict:", search())
        return np.zeros(len(X))
"""

SPECIFIC = """
from importlib import import_module
from pathlib import Path

import pandas as pd


def prepare_data(path):
    pass


def get_train_data(path):
    return read(path, slice(0, 140))


def get_test_data(path):
    return read(path, slice(140, None))


def read(path, rows):
    frame = pd.read_csv(Path(path) / "secret.csv").iloc[rows]
    return frame.drop(columns="y").to_numpy(), frame["y"].to_numpy()


def train_submission(module_path, X, y, train_is):
    regressor = import_module(".regressor", module_path).Regressor()
    regressor.fit(X[train_is], y[train_is])
    return regressor


def test_submission(trained_model, X, test_is):
    return trained_model.predict(X[test_is])
"""


def list_digests() -> dict[str, int]:
    """Return the digests of all labels, as numbers and as texts."""
    forms = [(form, number) for y, number in SECRETS.items() for form in _list_forms(y)]
    return {hashlib.sha256(form).hexdigest(): number for form, number in forms}


def _list_forms(y: float) -> tuple[bytes, bytes]:
    return struct.pack("<d", y), repr(y).encode()


def write_secrets(folder: Path) -> Path:
    path = folder / "secret.csv"
    lines = [f"{number},{y!r}" for y, number in SECRETS.items()]
    path.write_text("\n".join(["x,y", *lines]) + "\n")
    return path


@pytest.mark.parametrize("is_own", [False, True], ids=["standard", "specific"])
def test_labels_that_a_fold_does_not_train_on_are_nowhere_in_its_process(
    is_own: bool, account: Account, tmp_path: Path
) -> None:
    files = [write_secrets(tmp_path)]
    if is_own:
        files.append(tmp_path / "specific.py")
        files[-1].write_text(SPECIFIC)
    raw_data_id = account.post_dataset(
        name=f"secret {is_own}", target="y", elements="regressor", files=files
    )
    if is_own:
        account.ask_for_custom_split(raw_data_id)
    else:
        account.ask_for_split(raw_data_id)
    account.wait_for_split(raw_data_id)
    y_train = local.split_standard(files[0], "y", 0.3, RANDOM_STATE).y_train
    numbers = range(1, 141) if is_own else [SECRETS[y] for y in y_train]
    code = {"regressor": SEARCHING.format(known=list_digests())}

    row = account.wait_for_fold(account.post_code(raw_data_id, code, train_is=range(50)))

    assert row["state"] == "TESTED", row["log_messages"]
    searches = row["log_messages"].strip().splitlines()
    own = sorted(numbers[:50])
    assert searches == [f"fit: {own}", f"predict: {own}", f"predict: {own}"]
