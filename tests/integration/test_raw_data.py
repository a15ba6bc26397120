"""rawdata/: post, list, look, change limits, delete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from runapp.models import RawData, Submission, SubmissionFold
from runapp.runner.contract import FrameKind
from runapp.storage import Kind
from tests.factories import (
    finish_fold,
    list_stored,
    make_account,
    make_client,
    make_csv,
    make_fold,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
    pack,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/"
DEFAULTS = {
    "wall_seconds": 600,
    "cpu_seconds": 600,
    "memory_mb": 2048,
    "processes": 64,
    "scratch_mb": 256,
    "output_kb": 256,
}


def test_post_answers_the_new_dataset() -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body())

    assert response.status_code == 201
    row = response.json()
    created_at = row.pop("created_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", created_at)
    stored = RawData.objects.get()
    assert row == {
        "id": stored.pk,
        "name": "iris",
        "files_path": stored.files_path,
        "workflow_elements": "classifier",
        "target_column": "species",
        "state": "NEW",
        "error_code": None,
        "log_messages": "",
        "classes": None,
        "n_train": None,
        "n_test": None,
        "limits": DEFAULTS,
        "paused": False,
        "fail_fast": False,
    }


def test_post_stores_the_files_below_files_path(storage: Path) -> None:
    client = make_client(make_account())

    row = client.post(PATH, make_raw_data_body(files={"data/iris.csv": pack(b"a,b\n")})).json()

    folder = storage / row["files_path"]
    assert not Path(row["files_path"]).is_absolute()
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert b"a,b\n" in contents


@pytest.mark.parametrize(
    "name",
    ["a", "n" * 40, "é" * 40, "مجموعة بيانات", "🌸" * 40, "../../etc/passwd", "<b>", "5"],
)
def test_post_accepts_names_of_any_script(name: str) -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(name=name))

    assert response.status_code == 201
    assert client.get(f"{PATH}{response.json()['id']}/").json()["name"] == name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("n" * 41, "max_length"),
        ("", "blank"),
        ("   ", "blank"),
        (None, "null"),
        (True, "invalid"),
        ([], "invalid"),
        ({}, "invalid"),
        ("a\0b", "null_characters_not_allowed"),
    ],
)
def test_post_refuses_a_bad_name(name: Any, code: str) -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(name=name))

    assert response.status_code == 400
    assert list(response.json()) == ["name", "errors"]
    assert [(e["field"], e["code"]) for e in response.json()["errors"]] == [("name", code)]
    assert not RawData.objects.exists()
    assert list_stored() == []


@pytest.mark.parametrize("field", ["name", "target_column", "workflow_elements", "files"])
def test_post_refuses_a_missing_field(field: str) -> None:
    client = make_client(make_account())
    body = make_raw_data_body()
    del body[field]

    response = client.post(PATH, body)

    assert response.status_code == 400
    assert response.json()[field] == ["This field is required."]


def test_post_refuses_a_taken_name() -> None:
    account = make_account()
    make_raw_data(account, name="iris")
    before = list_stored()

    response = make_client(account).post(PATH, make_raw_data_body(name="iris"))

    message = "RawData with this name already exists."
    assert response.status_code == 400
    assert response.json() == {
        "name": [message],
        "errors": [{"field": "name", "code": "unique", "message": message}],
    }
    assert list_stored() == before


def test_post_takes_a_name_that_another_account_has() -> None:
    make_raw_data(make_account("bob"), name="iris")

    response = make_client(make_account("ada")).post(PATH, make_raw_data_body(name="iris"))

    assert response.status_code == 201


def test_post_takes_a_name_again_after_its_dataset_was_deleted() -> None:
    client = make_client(make_account())
    first = client.post(PATH, make_raw_data_body()).json()
    client.delete(f"{PATH}{first['id']}/")

    response = client.post(PATH, make_raw_data_body())

    assert response.status_code == 201


@pytest.mark.parametrize(
    "elements",
    [
        "classifier",
        "regressor",
        "feature_extractor,classifier",
        "feature_extractor, regressor",
        "feature_extractor,classifier,calibrator",
        "classifier,calibrator",
    ],
)
def test_post_accepts_workflow_elements(elements: str) -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(workflow_elements=elements))

    assert response.status_code == 201
    assert response.json()["workflow_elements"] == elements.replace(" ", "")


@pytest.mark.parametrize(
    "elements",
    [
        "",
        ",",
        "classifier,",
        "clustering",
        "Classifier",
        "classifier,classifier",
        "classifier,regressor",
        "feature_extractor",
        "regressor,calibrator",
        "calibrator",
        None,
        3,
        ["classifier"],
    ],
)
def test_post_refuses_workflow_elements(elements: Any) -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(workflow_elements=elements))

    assert response.status_code == 400
    assert {error["field"] for error in response.json()["errors"]} == {"workflow_elements"}
    assert list_stored() == []


def test_post_refuses_a_standard_dataset_without_a_target() -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(target_column=""))

    assert response.status_code == 400
    assert response.json()["target_column"] == ["This field may not be blank."]


def test_post_keeps_the_blanks_of_a_target_column() -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(target_column=" species "))

    assert response.json()["target_column"] == " species "


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["specific.py"], 201),
        (["kit.py", "data.csv"], 201),
        (["specific.py", "other.py", "data.csv"], 201),
        (["kit.py", "other.py"], 400),
    ],
)
def test_post_of_a_kit_finds_its_module(names: list[str], status: int) -> None:
    client = make_client(make_account())
    files = {name: pack(b"") for name in names}

    response = client.post(PATH, make_raw_data_body(files=files, target_column=""))

    assert response.status_code == status
    assert bool(list_stored()) == (status == 201)


def test_post_ignores_fields_that_it_does_not_know() -> None:
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(id=77, state="READY", owner="bob"))

    assert response.status_code == 201
    assert response.json()["state"] == "NEW"
    assert RawData.objects.get().owner.username == "ada"


def test_post_refuses_a_field_given_twice() -> None:
    client = make_client(make_account())
    twice = '{"name": "first", "name": "last", "target_column": "b", '
    rest = f'"workflow_elements": "classifier", "files": {{"a.csv": "{pack(b"b")}"}}}}'

    response = client.generic("POST", PATH, twice + rest, content_type="application/json")

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "duplicate_key"
    assert not RawData.objects.exists()


def test_list_is_a_plain_array_oldest_first() -> None:
    account = make_account()
    made = [make_raw_data(account, name=name) for name in ("b", "a", "c")]
    client = make_client(account)

    response = client.get(PATH)

    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert [row["id"] for row in response.json()] == [raw_data.pk for raw_data in made]
    assert response.json()[0] == client.get(f"{PATH}{made[0].pk}/").json()


def test_list_is_empty_without_datasets() -> None:
    assert make_client(make_account()).get(PATH).json() == []


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
@pytest.mark.parametrize("pk", ["1000000", str(2**63 - 1), str(2**63), "9" * 60])
def test_unknown_id_is_not_found(method: str, pk: str) -> None:
    client = make_client(make_account())

    response = getattr(client, method)(f"{PATH}{pk}/")

    assert response.status_code == 404
    assert response.json()["errors"][0]["code"] == "not_found"


def test_delete_takes_files_submissions_and_folds_along(
    storage: Path, django_capture_on_commit_callbacks: Any
) -> None:
    account = make_account()
    kept = make_raw_data(account, name="kept")
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)

    with django_capture_on_commit_callbacks(execute=True):
        response = make_client(account).delete(f"{PATH}{raw_data.pk}/")

    assert response.status_code == 204
    assert response.content == b""
    assert list(RawData.objects.all()) == [kept]
    assert not Submission.objects.exists()
    assert not SubmissionFold.objects.exists()
    assert [path.name for path in (storage / "datasets").iterdir()] == [kept.storage_key]


def test_delete_stops_a_running_fold_and_what_it_wrote_goes_too(
    django_capture_on_commit_callbacks: Any,
) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    make_fold(account, raw_data)
    client = make_client(account)
    passed: list[FrameKind] = []

    def delete_once(kind: FrameKind) -> None:
        passed.append(kind)
        with django_capture_on_commit_callbacks(execute=True):
            client.delete(f"{PATH}{raw_data.pk}/")
        raw_data.bin.write(kind=Kind.PREDICTIONS, content=b"late")

    work(at_stage=delete_once)

    assert passed == [FrameKind.FITTED]
    assert not SubmissionFold.objects.exists()
    assert list_stored() == []


def test_deleting_an_account_takes_its_datasets_and_files_along(
    django_capture_on_commit_callbacks: Any,
) -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    with django_capture_on_commit_callbacks(execute=True):
        account.delete()

    assert not RawData.objects.exists()
    assert not SubmissionFold.objects.exists()
    assert list_stored() == []


def test_split_shows_on_the_dataset() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)

    row = make_client(account).get(f"{PATH}{raw_data.pk}/").json()

    assert row["state"] == "READY"
    assert row["classes"] == ["setosa", "versicolor", "virginica"]
    assert (row["n_train"], row["n_test"]) == (24, 6)


def test_regression_has_no_classes() -> None:
    account = make_account()
    raw_data = make_ready_dataset(
        account, target_column="width", workflow_elements="regressor", files={"a.csv": make_csv()}
    )

    row = make_client(account).get(f"{PATH}{raw_data.pk}/").json()

    assert (row["state"], row["classes"]) == ("READY", None)


def test_posting_kept_to_a_group_refuses_the_others(settings: Any) -> None:
    settings.ORGANISERS_GROUP = "organisers"
    member = make_account("member")
    member.groups.create(name="organisers")

    refused = make_client(make_account("other")).post(PATH, make_raw_data_body())
    accepted = make_client(member).post(PATH, make_raw_data_body())

    assert refused.status_code == 403
    assert accepted.status_code == 201
