"""testpredictions/: handing out what has been predicted."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from django.db import connections

from runapp import rows
from runapp.accounts.access import Scope
from runapp.common.exceptions import StorageAway, StorageError
from runapp.models import SubmissionFold
from runapp.submissions.predictions import hand_out_listed
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
    read_rows,
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
    monkeypatch.setattr("runapp.submissions.predictions._MOST_PARAMETERS", 2)
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(5):
        make_fold(account, raw_data, databoard_sf_id=number)
    work()

    rows = make_client(account).post(NEW, {}).json()

    assert list_ids(rows) == list(range(5))
    assert not SubmissionFold.objects.filter(new=True).exists()


def test_new_hands_out_so_many_those_first_that_ended_first() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in (13, 11, 14, 12):
        finish_fold(account, dataset, databoard_sf_id=number, databoard_s_id=number)
    client = make_client(account)

    answers = [client.post(NEW, {"limit": 3}).json() for _ in range(3)]

    assert [list_ids(answer) for answer in answers] == [[13, 11, 14], [12], []]


def test_new_hands_out_errors_to_those_who_ask_for_them() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    finish_fold(account, dataset, outcome=Outcome.SUBMISSION_ERROR)
    finish_fold(account, dataset, databoard_sf_id=12, databoard_s_id=2)
    make_fold(account, dataset, databoard_sf_id=13, databoard_s_id=3)
    client = make_client(account)

    tested = client.post(NEW, {}).json()
    both = client.post(NEW, {"include_errors": True}).json()
    again = client.post(NEW, {"include_errors": True}).json()

    assert list_ids(tested) == [12]
    assert [(row["error_code"], row["test_predictions"]) for row in both] == [
        ("submission_error", None)
    ]
    assert again == []
    assert not is_new(11)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"include_errors": "perhaps"}, "include_errors"),
    ],
)
def test_new_refuses_what_it_cannot_do(body: dict[str, Any], field: str) -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    response = make_client(account).post(NEW, body)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert is_new(11)


@pytest.mark.parametrize("n_broken", [0, 2, 3])
def test_what_cannot_be_read_on_the_way_stays_new(
    n_broken: int, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS_OF_HEAVY_COLUMNS", 1)
    settings.INLINE_PREDICTIONS_BYTES = 0
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in range(5):
        finish_fold(account, dataset, databoard_sf_id=number, databoard_s_id=number)
    read, n_read = rows.read_predictions, []

    def read_some(*args: Any, **names: Any) -> bytes:
        n_read.append(1)
        if len(n_read) > 2 * n_broken:  # of two parts each
            raise StorageAway
        return read(*args, **names)

    monkeypatch.setattr(rows, "read_predictions", read_some)
    response = make_client(account).post(NEW, {})

    if n_broken >= 2:
        assert response.status_code == 200
        with pytest.raises(StorageAway):
            response.getvalue()
    else:
        assert response.status_code == 503
    sent = n_broken if n_broken >= 2 else 0
    assert [is_new(number) for number in range(5)] == [number >= sent for number in range(5)]


@pytest.mark.parametrize("place", ["in the row", "as a blob"])
def test_predictions_come_as_a_file_of_numpy(place: str, settings: Any) -> None:
    settings.INLINE_PREDICTIONS_BYTES = 0 if place == "as a blob" else 2**16
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)

    test, train = (
        client.get(f"/runapp/submissionfold/11/predictions/{part}/")
        for part in ("test", "full_train")
    )

    assert test.headers["Content-Type"] == "application/x-npy"
    array = np.load(io.BytesIO(test.content), allow_pickle=False)
    assert array.dtype == np.float64
    assert np.array_equal(array, make_predictions(N_TEST, 3))
    train_array = np.load(io.BytesIO(train.content), allow_pickle=False)
    assert np.array_equal(train_array, make_predictions(N_TRAIN, 3))
    assert is_new(11)


def test_file_that_is_known_is_not_sent_again() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)
    path = "/runapp/submissionfold/11/predictions/test/"
    etag = client.get(path).headers["ETag"]

    response = client.get(path, HTTP_IF_NONE_MATCH=etag)

    assert response.status_code == 304
    assert response.content == b""


@pytest.mark.parametrize(
    "path", ["11/predictions/test/", "11/predictions/other/", "12/predictions/test/"]
)
def test_predictions_that_are_not_there_are_not_found(path: str) -> None:
    account, other = make_account(), make_account("bob")
    finish_fold(other, make_ready_dataset(other), databoard_sf_id=12)
    make_fold(account, make_ready_dataset(account))

    response = make_client(account).get(f"/runapp/submissionfold/{path}")

    assert response.status_code == 404
    assert response.json()["errors"]


def test_file_is_sent_to_who_accepts_nothing_else() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    response = make_client(account).get(
        "/runapp/submissionfold/11/predictions/test/", HTTP_ACCEPT="application/x-npy"
    )

    assert response.status_code == 200


def test_fold_that_is_posted_again_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS_OF_HEAVY_COLUMNS", 1)
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in range(4):
        finish_fold(account, dataset, databoard_sf_id=number, databoard_s_id=number)

    response = make_client(account).post(NEW, {})
    make_fold(account, databoard_sf_id=3, databoard_s_id=3, force="submission_fold")

    assert response.streaming
    assert list_ids(read_rows(response)) == [0, 1, 2]
    assert is_new(3)


def test_damaged_predictions_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    folds = [
        finish_fold(account, dataset, databoard_sf_id=number, databoard_s_id=number)
        for number in range(3)
    ]
    read = rows.read_predictions

    def read_some(predictions: Any, **names: Any) -> bytes:
        if predictions.fold_id == folds[0].pk:
            raise StorageError("A blob is damaged.")
        return read(predictions, **names)

    monkeypatch.setattr(rows, "read_predictions", read_some)
    client = make_client(account)

    got = client.post(NEW, {}).json()
    again = client.post(NEW, {}).json()

    assert list_ids(got) == [1, 2]
    assert again == []
    assert f"fold {folds[0].pk}" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
def test_lists_of_many_ids_in_any_order_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runapp.submissions.predictions._MOST_PARAMETERS", 3)
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in range(12):
        make_fold(account, dataset, databoard_sf_id=number, databoard_s_id=number)
    work()
    ids = list(range(12))

    def ask_often(order: list[int]) -> int:
        try:
            for _ in range(30):
                SubmissionFold.objects.filter(pk__in=keys[:1]).update(new=True)
                hand_out_listed(scope=Scope(account, clock=0), owner=account, ids=order)
            return 30
        finally:
            connections.close_all()

    keys = sorted(SubmissionFold.objects.values_list("pk", flat=True))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask_often, [ids, ids[::-1]])) == [30, 30]
