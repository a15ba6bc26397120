"""The main job, from the dataset to the predictions, on every profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from test_files import post_api
from test_files.examples import DIGITS, EXAMPLES, IRIS, Example, list_submission_files
from tests.functional.account import (
    Account,
    Row,
    assert_same_bits,
    check,
    read_predictions,
    train_example_locally,
)
from tests.functional.conftest import Serve
from tests.functional.service import Service, wait_until

N_FOLDS = 2
FIGURES = (
    "train_time",
    "validation_time",
    "test_time",
    "train_cpu_time",
    "test_cpu_time",
    "train_memory",
    "test_memory",
)
IRIS_ROWS = range(100)

# A fold that is no hurry: it can be watched.
SLOW = """
import time
import numpy as np

class Classifier:
    def fit(self, X, y):
        time.sleep({fit})

    def predict_proba(self, X):
        time.sleep({predict})
        return np.full((len(X), 3), 1 / 3)
"""

# No seed of its own, and a sum in the order of a set of texts.
UNSEEDED = """
import random
import numpy as np

class Classifier:
    def fit(self, X, y):
        words = {f"word {number}" for number in range(100)}
        self.order = [float(word.split()[1]) for word in words]

    def predict_proba(self, X):
        noise = np.random.rand(len(X), 3) + random.random() + np.random.choice(self.order, 3)
        return noise
"""

PATCHING = """
import sys
import types
import numpy as np

np.median = lambda *a, **k: 1 / 0
np.left_here = sys.left_here = True
sys.modules["classifier"] = sys.modules["left_here"] = types.ModuleType("classifier")
sys.modules["json"] = types.ModuleType("json")
np.random.seed(1)

class Classifier:
    def fit(self, X, y):
        open("left_here.txt", "w").close()

    def predict_proba(self, X):
        return np.ones((len(X), 3))
"""

INSPECTING = """
import json
import os
import sys
import numpy as np

class Classifier:
    def fit(self, X, y):
        np.median([1.0])
        print("left:", [
            hasattr(np, "left_here"), hasattr(sys, "left_here"), "left_here" in sys.modules,
            "classifier" in sys.modules, os.path.exists("left_here.txt"),
            not hasattr(json, "dumps"),
        ])

    def predict_proba(self, X):
        return np.random.rand(len(X), 3)
"""

# Half a second of processor time in a process of its own, and 60 MB held here.
GREEDY = """
import subprocess
import sys
import time
import numpy as np

BURN = "import time\\nwhile time.process_time() < 0.5: pass"

class Classifier:
    def fit(self, X, y):
        block = np.ones(60 * 2**20 // 8)
        subprocess.run([sys.executable, "-c", BURN], check=True)
        time.sleep(0.3)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
"""


@dataclass(frozen=True)
class Posted:
    """A fold of an example, as it was posted."""

    example: Example
    submission: Path
    raw_data_id: int
    train_is: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """A profile's service, an account on it, and what was posted there."""

    name: str
    account: Account
    folds: Mapping[int, Posted]
    rows: Mapping[int, Row]


@pytest.fixture(
    scope="module",
    params=[
        "embedded",
        pytest.param("production", marks=pytest.mark.service),
        pytest.param("redis", marks=pytest.mark.service),
    ],
)
def profile(request: pytest.FixtureRequest) -> Profile:
    """The example datasets and all of their submissions, posted and finished on a profile."""
    service: Service = request.getfixturevalue(f"{request.param}_service")
    account = service.make_account("main-job")
    examples = EXAMPLES if request.param == "embedded" else (IRIS, DIGITS)
    folds: dict[int, Posted] = {}
    datasets = [(example, account.post_example(example)) for example in examples]
    for example, raw_data_id in datasets:
        account.wait_for_split(raw_data_id)
        folds |= post_example_folds(account, example, raw_data_id)
    return Profile(request.param, account, folds, account.wait_for_folds(folds))


def post_example_folds(account: Account, example: Example, raw_data_id: int) -> dict[int, Posted]:
    folds = {}
    for submission in example.submissions:
        submission_id = account.number()
        for train_is, test_is in account.ask_for_folds(raw_data_id, n_splits=N_FOLDS):
            fold_id = account.post_fold(
                raw_data_id=raw_data_id,
                files=list_submission_files(submission),
                train_is=train_is,
                test_is=test_is,
                submission=submission_id,
            )
            folds[fold_id] = Posted(example, submission, raw_data_id, train_is)
    return folds


def test_every_fold_predicts_what_local_training_does(profile: Profile) -> None:
    assert len(profile.rows) == N_FOLDS * len({fold.submission for fold in profile.folds.values()})
    for fold_id, posted in profile.folds.items():
        expected = train_example_locally(posted.example, posted.submission, posted.train_is)
        assert_same_bits(profile.rows[fold_id], expected)


def test_every_fold_has_plausible_figures(profile: Profile) -> None:
    for row in profile.rows.values():
        assert all(row[name] is not None for name in FIGURES)
        assert 0 < row["train_time"] < 60
        assert 0 < row["train_cpu_time"] < 60
        assert row["test_cpu_time"] >= 0
        assert 1024 < row["train_memory"] < 1024 * 1024
        assert row["test_memory"] > 0
        assert row["measured_by"]
        assert row["error_code"] is None
        assert row["waiting_because"] is None
        assert row["attempt"] == 1
        assert row["queued_at"] <= row["started_at"] <= row["finished_at"]


def test_new_predictions_are_handed_out_once_and_listed_ones_again(profile: Profile) -> None:
    account, credentials = profile.account, profile.account.credentials
    listed, *others = profile.folds
    raw_data_id = profile.folds[listed].raw_data_id
    of_dataset = {n for n in others if profile.folds[n].raw_data_id == raw_data_id}

    first = check(post_api.get_prediction_list(*credentials, [listed]))
    again = check(post_api.get_prediction_list(*credentials, [listed]))
    new = check(post_api.get_prediction_new(*credentials, raw_data_id))
    rest = check(post_api.get_prediction_new(*credentials, None))
    nothing = check(post_api.get_prediction_new(*credentials, None))

    assert first == again
    assert_same_bits(first[0], read_predictions(profile.rows[listed]))
    assert {row["databoard_sf_id"] for row in new} == of_dataset
    assert {row["databoard_sf_id"] for row in rest} == set(others) - of_dataset
    assert nothing == []
    assert not any(row["new"] for row in check(post_api.get_submission_fold_light(*credentials)))
    assert account.read_fold(listed)["new"] is False


def test_forced_fold_is_new_again_and_predicts_the_same_bits(profile: Profile) -> None:
    account = profile.account
    fold_id, posted = next(iter(profile.folds.items()))
    row = profile.rows[fold_id]
    response = post_api.post_submission_fold(
        *account.credentials,
        row["databoard_s"],
        fold_id,
        posted.train_is,
        post_api.decode_indices(row["test_is"]),
        priority="H",
        force="submission_fold",
    )

    forced = check(response, status=201)
    assert (forced["state"], forced["new"]) == ("TODO", True)
    assert forced["test_predictions"] is None

    again = account.wait_for_fold(fold_id)
    assert again["attempt"] == 2
    assert_same_bits(again, read_predictions(row))


@pytest.fixture(scope="module")
def iris(account: Account) -> int:
    raw_data_id = account.post_example(IRIS)
    account.wait_for_split(raw_data_id)
    return raw_data_id


def test_state_moves_live_from_todo_to_tested(account: Account, iris: int) -> None:
    seen: list[str] = []
    slow = SLOW.format(fit=0.7, predict=0.7)
    fold_id = account.post_code(iris, slow, train_is=IRIS_ROWS, priority="H")

    def is_finished() -> bool:
        state = account.read_states()[fold_id]
        if state not in seen[-1:]:
            seen.append(state)
        return state == "TESTED"

    wait_until(is_finished, what="the fold is tested")
    assert seen == ["TODO", "TRAINED", "VALIDATED", "TESTED"]
    row = account.read_fold(fold_id)
    assert all(0.7 <= row[f"{stage}_time"] < 10 for stage in ("train", "validation", "test"))


def test_same_code_data_and_rows_give_the_same_bits(account: Account, iris: int) -> None:
    folds = [account.post_code(iris, UNSEEDED, train_is=IRIS_ROWS) for _ in range(4)]

    rows = account.wait_for_folds(folds)

    for fold_id in folds[1:]:
        assert_same_bits(rows[fold_id], read_predictions(rows[folds[0]]))


def test_figures_cover_processes_that_the_submission_started(account: Account, iris: int) -> None:
    row = account.wait_for_fold(account.post_code(iris, GREEDY, train_is=IRIS_ROWS))

    assert row["state"] == "TESTED", row["log_messages"]
    assert 0.5 <= row["train_cpu_time"] < 5
    assert row["train_time"] >= 0.8
    assert 60 * 1024 <= row["train_memory"] <= 110 * 1024
    assert row["test_cpu_time"] < 0.3


@pytest.fixture(scope="module")
def one_slot(serve: Serve) -> Account:
    service = serve("one-slot", {"DATARUN_SLOTS": "1"})
    return service.make_account("one-slot")


@pytest.fixture(scope="module")
def one_slot_iris(one_slot: Account) -> int:
    raw_data_id = one_slot.post_example(IRIS)
    one_slot.wait_for_split(raw_data_id)
    return raw_data_id


def test_high_priority_starts_before_low_and_low_in_order(
    one_slot: Account, one_slot_iris: int
) -> None:
    first = one_slot.post_code(
        one_slot_iris, SLOW.format(fit=2, predict=0), train_is=IRIS_ROWS, priority="L"
    )
    one_slot.wait_until_running(first)
    quick = SLOW.format(fit=0, predict=0)

    low = [one_slot.post_code(one_slot_iris, quick, train_is=IRIS_ROWS) for _ in range(3)]
    high = [
        one_slot.post_code(one_slot_iris, quick, train_is=IRIS_ROWS, priority="H") for _ in range(2)
    ]

    assert one_slot.read_fold(first)["state"] == "TODO", "the long fold was too short for this test"
    assert one_slot.read_fold(low[0])["waiting_because"] == "behind_others"
    rows = one_slot.wait_for_folds([first, *low, *high])
    started = sorted(rows, key=lambda fold_id: rows[fold_id]["started_at"])
    assert started == [first, *high, *low]
    assert {row["state"] for row in rows.values()} == {"TESTED"}


def test_nothing_of_a_fold_is_left_for_the_next_in_its_slot(
    one_slot: Account, one_slot_iris: int
) -> None:
    before = one_slot.post_code(one_slot_iris, INSPECTING, train_is=IRIS_ROWS)
    patching = one_slot.post_code(one_slot_iris, PATCHING, train_is=IRIS_ROWS)
    after = one_slot.post_code(one_slot_iris, INSPECTING, train_is=IRIS_ROWS)

    rows = one_slot.wait_for_folds([before, patching, after])

    assert rows[patching]["state"] == "TESTED", rows[patching]["log_messages"]
    assert rows[after]["log_messages"].strip() == f"left: {[False] * 6}"
    assert_same_bits(rows[after], read_predictions(rows[before]))
