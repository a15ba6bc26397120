"""testpredictions/: handing out what has been predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runapp.models import SubmissionFold
from tests.doubles import make_predictions
from tests.factories import (
    N_TEST,
    N_TRAIN,
    Outcome,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_ready_dataset,
    post_fold,
    unpack_predictions,
    work,
)

pytestmark = pytest.mark.django_db

LIST = "/runapp/testpredictions/list/"
NEW = "/runapp/testpredictions/new/"


def list_ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["databoard_sf_id"] for row in rows]


def ask(client: Any, ids: Any) -> Any:
    return client.post(LIST, {"list_submission_fold": ids})


def is_new(number: int) -> bool:
    return SubmissionFold.objects.get(databoard_sf_id=number).new


def test_row_holds_predictions_and_figures() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account), databoard_sf_id=11, databoard_s_id=24)

    response = ask(make_client(account), [11])

    assert response.status_code == 200
    (row,) = response.json()
    assert np.array_equal(unpack_predictions(row, "test"), make_predictions(N_TEST, 3))
    assert np.array_equal(unpack_predictions(row, "full_train"), make_predictions(N_TRAIN, 3))
    plain = {name: value for name, value in row.items() if "predictions" not in name}
    assert plain == {
        "databoard_sf_id": 11,
        "databoard_s": 24,
        "state": "TESTED",
        "error_code": None,
        "log_messages": "printed\n",
        "train_time": 1.5,
        "validation_time": 0.25,
        "test_time": 0.125,
        "train_cpu_time": 1.25,
        "test_cpu_time": 0.0625,
        "train_memory": 3.0,
        "test_memory": 5.0,
    }


def test_new_answers_the_same_row_as_list() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)

    new = client.post(NEW, {}).json()

    assert new == ask(client, [11]).json()


def test_list_answers_finished_folds_alone_in_the_order_asked_for() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data, databoard_sf_id=1)
    finish_fold(account, raw_data, databoard_sf_id=2, outcome=Outcome.KILLED)
    finish_fold(account, raw_data, databoard_sf_id=3)
    make_fold(account, raw_data, databoard_sf_id=4)

    rows = ask(make_client(account), [4, 3, 99, 2, 1, 3]).json()

    assert list_ids(rows) == [3, 2, 1]
    failed = rows[1]
    assert (failed["state"], failed["error_code"]) == ("ERROR", "killed")
    assert failed["test_predictions"] is failed["full_train_predictions"] is None
    assert failed["test_predictions_shape"] is failed["test_predictions_dtype"] is None


def test_listed_folds_stop_being_new_and_the_others_do_not() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data, databoard_sf_id=1)
    finish_fold(account, raw_data, databoard_sf_id=2, outcome=Outcome.KILLED)
    finish_fold(account, raw_data, databoard_sf_id=3)
    make_fold(account, raw_data, databoard_sf_id=4)

    ask(make_client(account), [1, 2, 4])

    assert [is_new(number) for number in (1, 2, 3, 4)] == [False, False, True, True]


def test_list_answers_again_what_was_handed_out() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)

    first, second = ask(client, [11]), ask(client, [11])

    assert first.json() == second.json() != []


def test_list_of_nothing_is_empty() -> None:
    response = ask(make_client(make_account()), [])

    assert (response.status_code, response.json()) == (200, [])


BAD_LISTS: list[Any] = [
    {},
    {"list_submission_fold": None},
    {"list_submission_fold": 11},
    {"list_submission_fold": "11"},
    {"list_submission_fold": "[1, 2]"},
    {"list_submission_fold": {"0": 11}},
    {"list_submission_fold": ["11"]},
    {"list_submission_fold": [True]},
    {"list_submission_fold": [1.5]},
    {"list_submission_fold": [None]},
    {"list_submission_fold": [[11]]},
    {"list_submission_fold": [-1]},
    {"list_submission_fold": [2**63]},
    {"list_submission_fold": [10**30]},
    {"list_submission_fold": list(range(10_001))},
    [11],
]


def test_list_refuses_what_is_not_a_list_of_whole_numbers() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)

    for body in BAD_LISTS:
        response = client.post(LIST, body)

        assert response.status_code == 400, body
        assert response.json()["errors"]
    assert is_new(11)


def test_list_takes_more_ids_than_one_statement_does() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account), databoard_sf_id=9_999)

    response = ask(make_client(account), list(range(10_000)))

    assert list_ids(response.json()) == [9_999]


def test_new_hands_out_each_tested_fold_once() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in (3, 1, 2):
        finish_fold(account, raw_data, databoard_sf_id=number)
    finish_fold(account, raw_data, databoard_sf_id=4, outcome=Outcome.KILLED)
    make_fold(account, raw_data, databoard_sf_id=5)
    client = make_client(account)

    first, second = client.post(NEW, {}), client.post(NEW, {})

    assert first.status_code == second.status_code == 200
    assert list_ids(first.json()) == [3, 1, 2]
    assert second.json() == []
    assert [is_new(number) for number in (1, 2, 3, 4, 5)] == [False] * 3 + [True] * 2


def test_new_passes_by_what_was_listed() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)
    ask(client, [11])

    assert client.post(NEW, {}).json() == []


def test_new_hands_out_a_forced_fold_again() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)
    client.post(NEW, {})
    post_fold(client, force="submission_fold")
    between = client.post(NEW, {}).json()
    work()

    rows = client.post(NEW, {}).json()

    assert between == []
    assert list_ids(rows) == [11]


@pytest.mark.parametrize("body", [{}, {"raw_data_id": None}])
def test_new_without_a_dataset_covers_all(body: dict[str, Any]) -> None:
    account = make_account()
    for number, name in enumerate(("one", "two")):
        raw_data = make_ready_dataset(account, name=name)
        finish_fold(account, raw_data, databoard_sf_id=number, databoard_s_id=number)

    rows = make_client(account).post(NEW, body).json()

    assert list_ids(rows) == [0, 1]


def test_new_needs_no_body() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    response = make_client(account).post(NEW)

    assert list_ids(response.json()) == [11]


def test_new_of_one_dataset_leaves_the_others() -> None:
    account = make_account()
    datasets = [make_ready_dataset(account, name=name) for name in ("one", "two")]
    for number, raw_data in enumerate(datasets):
        finish_fold(account, raw_data, databoard_sf_id=number, databoard_s_id=number)
    client = make_client(account)

    rows = client.post(NEW, {"raw_data_id": datasets[1].pk}).json()

    assert list_ids(rows) == [1]
    assert list_ids(client.post(NEW, {}).json()) == [0]


def test_new_of_no_dataset_is_refused() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)

    for raw_data_id in (99, 2**63 - 1):
        assert client.post(NEW, {"raw_data_id": raw_data_id}).status_code == 404
    for raw_data_id in (2**63, -1, "x", [], True):
        assert client.post(NEW, {"raw_data_id": raw_data_id}).status_code == 400
    assert is_new(11)


def test_new_hands_out_more_folds_than_one_statement_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runapp.services.predictions._MOST_PARAMETERS", 2)
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(5):
        make_fold(account, raw_data, databoard_sf_id=number)
    work()

    rows = make_client(account).post(NEW, {}).json()

    assert list_ids(rows) == list(range(5))
    assert not SubmissionFold.objects.filter(new=True).exists()
