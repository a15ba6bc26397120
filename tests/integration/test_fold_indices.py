"""rawdata/{id}/folds/: scikit-learn's cross-validation on the train part."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from runapp.models import RawData
from tests.factories import (
    make_account,
    make_broken_dataset,
    make_client,
    make_csv,
    make_raw_data,
    make_ready_dataset,
    post_fold,
    unpack_indices,
)

pytestmark = pytest.mark.django_db


def make_path(raw_data: RawData) -> str:
    return f"/runapp/rawdata/{raw_data.pk}/folds/"


def read_train_labels() -> np.ndarray:
    frame = pd.read_csv(io.BytesIO(make_csv()))
    train, _ = train_test_split(frame, test_size=0.2, random_state=42)
    return train["species"].to_numpy()


def read_folds(rows: list[dict[str, Any]]) -> list[tuple[list[int], list[int]]]:
    return [(unpack_indices(row["train_is"]), unpack_indices(row["test_is"])) for row in rows]


def make_expected(splitter: Any) -> list[tuple[list[int], list[int]]]:
    y = read_train_labels()
    return [(a.tolist(), b.tolist()) for a, b in splitter.split(np.zeros(len(y)), y)]


@pytest.mark.parametrize(
    ("body", "splitter"),
    [
        ({"n_splits": 3}, StratifiedKFold(3, shuffle=True, random_state=42)),
        (
            {"n_splits": 5, "random_state": 7},
            StratifiedKFold(5, shuffle=True, random_state=7),
        ),
        ({"n_splits": 2, "shuffle": False}, StratifiedKFold(2)),
        ({"n_splits": 3, "stratify": True}, StratifiedKFold(3, shuffle=True, random_state=42)),
        ({"n_splits": 3, "stratify": None}, StratifiedKFold(3, shuffle=True, random_state=42)),
        (
            {"n_splits": 4, "stratify": False, "random_state": 0},
            KFold(4, shuffle=True, random_state=0),
        ),
        ({"n_splits": 24, "stratify": False, "shuffle": False}, KFold(24)),
    ],
)
def test_folds_are_those_of_scikit_learn(body: dict[str, Any], splitter: Any) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)

    response = make_client(account).post(make_path(raw_data), body)

    assert response.status_code == 200
    rows = response.json()
    assert [row["fold"] for row in rows] == list(range(body["n_splits"]))
    assert all(list(row) == ["fold", "train_is", "test_is"] for row in rows)
    assert read_folds(rows) == make_expected(splitter)


def test_folds_of_a_regression_are_not_stratified() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account, target_column="width", workflow_elements="regressor")

    response = make_client(account).post(make_path(raw_data), {"n_splits": 3})

    expected = KFold(3, shuffle=True, random_state=42)
    assert read_folds(response.json()) == make_expected(expected)


def test_folds_can_be_posted_as_they_come() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)

    fold = client.post(make_path(raw_data), {"n_splits": 3}).json()[0]
    response = post_fold(client, raw_data, train_is=fold["train_is"], test_is=fold["test_is"])

    assert response.status_code == 201
    assert response.json()["train_is"] == fold["train_is"]
    assert response.json()["test_is"] == fold["test_is"]


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({}, "n_splits"),
    ({"n_splits": 1}, "n_splits"),
    ({"n_splits": 101}, "n_splits"),
    ({"n_splits": -3}, "n_splits"),
    ({"n_splits": 2.5}, "n_splits"),
    ({"n_splits": True}, "n_splits"),
    ({"n_splits": "three"}, "n_splits"),
    ({"n_splits": None}, "n_splits"),
    ({"n_splits": [3]}, "n_splits"),
    ({"n_splits": 3, "random_state": -1}, "random_state"),
    ({"n_splits": 3, "random_state": 2**32}, "random_state"),
    ({"n_splits": 3, "stratify": "perhaps"}, "stratify"),
    ({"n_splits": 3, "shuffle": "perhaps"}, "shuffle"),
    ({"n_splits": 3, "shuffle": None}, "shuffle"),
]


def test_folds_refuse_a_bad_body() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)

    for body, field in BAD_BODIES:
        response = client.post(make_path(raw_data), body)

        assert response.status_code == 400, body
        assert {error["field"] for error in response.json()["errors"]} == {field}


@pytest.mark.parametrize("body", [{"n_splits": 25, "stratify": False}, {"n_splits": 11}])
def test_folds_refuse_more_folds_than_rows(body: dict[str, Any]) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)

    response = make_client(account).post(make_path(raw_data), body)

    assert response.status_code == 400
    assert list(response.json()) == ["n_splits", "errors"]


def test_folds_refuse_to_stratify_numbers() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account, target_column="width", workflow_elements="regressor")

    response = make_client(account).post(make_path(raw_data), {"n_splits": 3, "stratify": True})

    assert response.status_code == 400


@pytest.mark.parametrize("make", [make_raw_data, make_broken_dataset])
def test_folds_need_a_split(make: Any) -> None:
    account = make_account()
    raw_data = make(account)

    response = make_client(account).post(make_path(raw_data), {"n_splits": 3})

    assert response.status_code == 409


def test_folds_of_no_dataset_are_not_found() -> None:
    response = make_client(make_account()).post("/runapp/rawdata/99/folds/", {"n_splits": 3})

    assert response.status_code == 404
