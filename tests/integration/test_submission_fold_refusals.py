"""submissionfold/: what a fold must be, and what is left of one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from runapp.models import Submission, SubmissionFold
from tests.factories import (
    N_TRAIN,
    list_stored,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_raw_data,
    make_ready_dataset,
    pack,
    pack_indices,
    post_fold,
    unpack_indices,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold/"
OTHER_CODE = pack(b"class Classifier:\n    other = True\n")


def look(client: Any, databoard_sf_id: int = 11) -> dict[str, Any]:
    return client.get(f"{PATH}{databoard_sf_id}/").json()


def test_other_files_for_a_known_submission_are_refused() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    post_fold(client, raw_data, databoard_sf_id=1)
    stored = list_stored()

    for force in (None, "submission_fold"):
        files = {"classifier.py": OTHER_CODE}
        response = post_fold(client, raw_data, databoard_sf_id=2, files=files, force=force)

        assert response.status_code == 409
        assert response.json()["errors"][0]["code"] == "conflict"
    assert SubmissionFold.objects.count() == 1
    assert list_stored() == stored


@pytest.mark.parametrize("databoard_id", [0, 2**63 - 1, "12", 12.0])
def test_ids_are_whole_numbers_from_0(databoard_id: Any) -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)

    response = post_fold(
        client, raw_data, databoard_sf_id=databoard_id, databoard_s_id=databoard_id
    )

    assert response.status_code == 201
    assert look(client, int(databoard_id))["databoard_s"] == int(databoard_id)


BAD_IDS = [-1, 2**63, 2**64, 10**300, 1.5, True, None, "", "x", "1" * 2000, [], [1], {}]


@pytest.mark.parametrize("field", ["databoard_sf_id", "databoard_s_id"])
def test_other_ids_are_refused(field: str) -> None:
    account = make_account()
    client = make_client(account)
    raw_data = make_raw_data(account)
    stored = list_stored()

    for value in BAD_IDS:
        response = post_fold(client, raw_data, **{field: value})

        assert response.status_code == 400, value
        assert {error["field"] for error in response.json()["errors"]} == {field}
        assert len(response.content) < 1000
    assert not Submission.objects.exists()
    assert list_stored() == stored


def test_unknown_dataset_is_refused() -> None:
    account = make_account()
    client = make_client(account)
    body = make_fold_body(make_raw_data(account))

    for value in [*(value for value in BAD_IDS if value is not None), 99]:
        response = client.post(PATH, body | {"raw_data": value})

        assert response.status_code == 400, value
        assert {error["field"] for error in response.json()["errors"]} == {"raw_data"}
    assert not Submission.objects.exists()


@pytest.mark.parametrize(
    ("drop", "field"), [("raw_data", "raw_data"), ("files", "files")], ids=["dataset", "files"]
)
@pytest.mark.parametrize("how", ["absent", "null"])
def test_new_submission_must_bring_dataset_and_files(drop: str, field: str, how: str) -> None:
    account = make_account()
    body = make_fold_body(make_raw_data(account))
    if how == "null":
        body[drop] = None
    else:
        del body[drop]

    response = make_client(account).post(PATH, body)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert not Submission.objects.exists()


def test_known_submission_cannot_change_its_dataset() -> None:
    account = make_account()
    make_fold(account, make_raw_data(account))
    other = make_raw_data(account, name="other")
    stored = list_stored()

    for force in (None, "submission, submission_fold"):
        response = post_fold(make_client(account), other, databoard_sf_id=12, force=force)

        assert response.status_code == 400
        assert response.json()["errors"][0]["field"] == "raw_data"
    assert list_stored() == stored


@pytest.mark.parametrize(
    ("elements", "missing"),
    [
        ("classifier,calibrator", "calibrator.py"),
        ("feature_extractor,classifier", "feature_extractor.py"),
        ("feature_extractor,regressor", "feature_extractor.py, regressor.py"),
    ],
)
def test_absent_workflow_file_is_refused(elements: str, missing: str) -> None:
    account = make_account()
    raw_data = make_raw_data(account, workflow_elements=elements)
    stored = list_stored()

    response = post_fold(make_client(account), raw_data)

    assert response.status_code == 400
    assert response.json()["files"] == [f"Missing: {missing}."]
    assert response.json()["errors"][0]["code"] == "missing_file"
    assert not Submission.objects.exists()
    assert list_stored() == stored


def test_code_is_not_looked_at_when_it_is_posted() -> None:
    account = make_account()

    response = post_fold(
        make_client(account), make_raw_data(account), files={"classifier.py": pack(b"def (:\0\xff")}
    )

    assert response.status_code == 201


BAD_INDICES = {
    "odd bytes": pack(b"1234567"),
    "no base64": "GDHRFdfgfd!",
    "no zlib": "Z2FyYmFnZQ==",
    "cut short": pack_indices(range(100))[:20],
    "empty array": pack_indices([]),
    "empty text": "",
    "negative": pack_indices([0, 1, -1]),
    "repeated": pack_indices([0, 1, 1]),
    "null": None,
    "number": 5,
    "list": [0, 1, 2],
    "object": {"0": 1},
    "true": True,
    "not ASCII": "é" * 8,
}


@pytest.mark.parametrize("field", ["train_is", "test_is"])
def test_bad_indices_are_refused(field: str) -> None:
    account = make_account()
    client = make_client(account)
    raw_data = make_raw_data(account)
    stored = list_stored()

    for name, value in BAD_INDICES.items():
        response = post_fold(client, raw_data, **{field: value})

        assert response.status_code == 400, name
        assert {error["field"] for error in response.json()["errors"]} == {field}
    assert not Submission.objects.exists()
    assert not SubmissionFold.objects.exists()
    assert list_stored() == stored


@pytest.mark.parametrize("field", ["train_is", "test_is"])
def test_index_out_of_range_is_refused_where_the_split_is_known(field: str) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    stored = list_stored()

    response = post_fold(make_client(account), raw_data, **{field: pack_indices([0, N_TRAIN])})

    assert response.status_code == 400
    assert "24" in response.json()[field][0]
    assert not Submission.objects.exists()
    assert list_stored() == stored


def test_index_out_of_range_before_the_split_ends_in_error() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    post_fold(client, raw_data, train_is=pack_indices([0, N_TRAIN]))

    body = {"raw_data_id": raw_data.pk, "held_out_test": 0.2, "force": True}
    client.post("/runapp/rawdata/split/", body)
    work()

    row = look(client)
    assert (row["state"], row["error_code"]) == ("ERROR", "split_error")
    assert "names row 24" in row["log_messages"]


def test_indices_keep_their_order_and_may_overlap() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)

    row = post_fold(
        make_client(account),
        raw_data,
        train_is=pack_indices([23, 0, 5]),
        test_is=pack_indices([5, 1]),
    ).json()

    assert unpack_indices(row["train_is"]) == [23, 0, 5]
    assert unpack_indices(row["test_is"]) == [5, 1]


@pytest.mark.parametrize("priority", ["L", "H"])
def test_priority_is_kept(priority: str) -> None:
    account = make_account()

    response = post_fold(make_client(account), make_raw_data(account), priority=priority)

    assert response.json()["priority"] == priority


def test_unknown_priority_is_refused() -> None:
    account = make_account()
    client = make_client(account)
    raw_data = make_raw_data(account)

    for priority in ("M", "h", "", " H", None, 1, True, [], ["H"], {}):
        response = post_fold(client, raw_data, priority=priority)

        assert response.status_code == 400, priority
        assert {error["field"] for error in response.json()["errors"]} == {"priority"}
    assert not SubmissionFold.objects.exists()


def test_taken_id_is_refused() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    post_fold(client, raw_data)
    stored = list_stored()

    message = "SubmissionFold with this databoard_sf_id already exists."
    for body in (
        make_fold_body(raw_data),
        make_fold_body(raw_data, databoard_s_id=2),
        make_fold_body(raw_data, files={"classifier.py": OTHER_CODE}),
        make_fold_body(),
    ):
        response = client.post(PATH, body)

        assert response.status_code == 400
        assert response.json() == {
            "databoard_sf_id": [message],
            "errors": [{"field": "databoard_sf_id", "code": "unique", "message": message}],
        }
    assert Submission.objects.count() == SubmissionFold.objects.count() == 1
    assert list_stored() == stored
