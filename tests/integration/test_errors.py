"""Every refusal in one shape, JSON everywhere, nothing of the server in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client

from runapp.common.exceptions import StorageError
from runapp.models import RawData, SubmissionFold
from tests.factories import (
    list_stored,
    make_account,
    make_client,
    make_fold_body,
    make_raw_data_body,
)

pytestmark = pytest.mark.django_db

POSTS = [
    "rawdata/",
    "rawdata/split/",
    "raw_data/split/",
    "rawdata/customsplit/",
    "raw_data/customsplit/",
    "submissionfold/",
    "testpredictions/list/",
    "testpredictions/new/",
]
# A value of each type, and the ends of some.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    2**63,
    2**64 - 1,
    2**64,
    10**200,
    "",
    " ",
    "x",
    "-1",
    "1e400",
    "NaN",
    "\0",
    "\u202ex",
    "x" * 100_000,
    [],
    [[]],
    [None],
    {},
    {"x": {}},
    {"": ""},
]
FIELDS = [
    ("rawdata/", field)
    for field in ("name", "target_column", "workflow_elements", "files", "limits")
]
FIELDS += [
    ("rawdata/split/", field) for field in ("raw_data_id", "held_out_test", "random_state", "force")
]
FIELDS += [
    ("submissionfold/", field)
    for field in (
        "databoard_sf_id",
        "databoard_s_id",
        "train_is",
        "test_is",
        "priority",
        "raw_data",
        "files",
        "force",
    )
]
FIELDS += [
    ("testpredictions/list/", "list_submission_fold"),
    ("testpredictions/new/", "raw_data_id"),
]
FIELDS += [("rawdata/customsplit/", "raw_data_id")]


def check_shape(response: Any, *, status: int) -> list[dict[str, Any]]:
    """Check that an answer is a refusal as the API makes them; return its errors."""
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    body = response.json()
    errors: list[dict[str, Any]] = body.pop("errors")
    assert errors
    for error in errors:
        assert set(error) == {"field", "code", "message"}
        assert all(isinstance(error[name], str) for name in ("code", "message"))
        shown = body.values() if error["field"] is None else [body[error["field"]]]
        assert any(error["message"] in texts for texts in shown)
    for secret in ("Traceback", "site-packages", settings.BASE_DIR, settings.STORAGE_ROOT):
        assert str(secret) not in response.content.decode()
    assert len(response.content) < 2000
    return errors


def send(client: Any, path: str, body: bytes | str, content_type: str = "application/json") -> Any:
    return client.generic("POST", f"/runapp/{path}", body, content_type=content_type)


BROKEN = [
    b"{",
    b"{'name': 'iris'}",
    b'{"name": }',
    b"{} {}",
    b"NaN",
    b'{"held_out_test": NaN}',
    b'{"held_out_test": Infinity}',
    b'{"held_out_test": 1e400}',
    b'{"raw_data_id": ' + b"9" * 400 + b"}",
    b"[" * 100_000,
    b"[" * 2000 + b"]" * 2000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b"\xff\xfe",
    b'{"name": "\xff"}',
    b'{"name": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"name=iris",
    b"\0",
]


@pytest.mark.parametrize("path", POSTS)
def test_broken_json_is_refused(path: str) -> None:
    client = make_client(make_account())

    for body in BROKEN:
        errors = check_shape(send(client, path, body), status=400)

        assert [(error["field"], error["code"]) for error in errors] == [(None, "parse_error")]


@pytest.mark.parametrize("path", POSTS)
def test_body_that_is_no_object_is_refused(path: str) -> None:
    client = make_client(make_account())

    for body in (b"[]", b"[{}]", b'"text"', b"5", b"true", b"1.5", b"null"):
        errors = check_shape(send(client, path, body), status=400)

        assert errors[0]["field"] is None


@pytest.mark.parametrize(("path", "field"), FIELDS)
def test_wrong_type_of_any_field_is_no_fault_of_ours(path: str, field: str) -> None:
    account = make_account()
    client = make_client(account)
    bodies: dict[str, dict[str, Any]] = {
        "rawdata/": make_raw_data_body(),
        "rawdata/split/": {"raw_data_id": 1, "held_out_test": 0.5},
        "submissionfold/": make_fold_body() | {"raw_data": 1, "files": {}},
    }

    for value in VALUES:
        body = bodies.get(path, {}) | {field: value}
        response = send(client, path, json.dumps(body))

        assert response.status_code < 500, (value, response.content)
        if response.status_code >= 400:
            check_shape(response, status=response.status_code)
    assert not SubmissionFold.objects.exists()
    assert bool(list_stored()) == RawData.objects.exists()


@pytest.mark.parametrize("path", POSTS)
def test_other_media_are_refused(path: str) -> None:
    client = make_client(make_account())
    forms = ["application/x-www-form-urlencoded", "multipart/form-data"]

    for content_type in ["text/plain", "application/xml", "text/csv", "nonsense", *forms]:
        errors = check_shape(send(client, path, b"{}", content_type), status=415)

        assert errors[0]["code"] == "unsupported_media_type"


def test_charset_beside_the_media_type_is_accepted() -> None:
    client = make_client(make_account())

    response = send(client, "testpredictions/new/", b"{}", "application/json; charset=utf-8")

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("put", "rawdata/"),
        ("delete", "rawdata/"),
        ("post", "rawdata/1/"),
        ("put", "rawdata/1/"),
        ("get", "rawdata/1/folds/"),
        ("get", "rawdata/split/"),
        ("get", "rawdata/customsplit/"),
        ("post", "submission/"),
        ("patch", "submissionfold/"),
        ("post", "submissionfold/1/"),
        ("put", "submissionfold/1/"),
        ("post", "submissionfold-light/"),
        ("get", "testpredictions/list/"),
        ("get", "testpredictions/new/"),
        ("trace", "rawdata/"),
    ],
)
def test_other_methods_are_refused(method: str, path: str) -> None:
    client = make_client(make_account())

    response = client.generic(method.upper(), f"/runapp/{path}")

    errors = check_shape(response, status=405)
    assert errors[0]["code"] == "method_not_allowed"
    assert "OPTIONS" in response["Allow"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing/",
        "/runapp/",
        "/runapp/nothing/",
        "/runapp/rawdata/x/",
        "/runapp/rawdata/-1/",
        "/runapp/rawdata/1/nothing/",
        f"/runapp/rawdata/{2**63}/",
        "/runapp/rawdata/%00/",
        "/runapp/rawdata/%ff/",
        "/runapp/rawdata/../../etc/passwd",
        "/runapp/submissionfold/1/2/",
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_unknown_paths_are_not_found(path: str, is_known: bool) -> None:
    client = make_client(make_account() if is_known else None)

    errors = check_shape(client.get(path), status=404)

    assert errors == [{"field": None, "code": "not_found", "message": "Not found."}]


@pytest.mark.parametrize("query", ["?format=xml", "?format=api", "?format="])
def test_other_formats_are_no_fault_of_ours(query: str) -> None:
    client = make_client(make_account())

    response = client.get(f"/runapp/rawdata/{query}")

    if response.status_code != 200:
        check_shape(response, status=404)


def test_media_type_that_is_not_spoken_is_not_acceptable() -> None:
    client = make_client(make_account())

    response = client.get("/runapp/rawdata/", headers={"Accept": "application/xml"})

    check_shape(response, status=406)


def test_path_without_its_slash_is_redirected() -> None:
    client = make_client(make_account())

    response = client.get("/runapp/rawdata")

    assert response.status_code == 301
    assert response["Location"] == "/runapp/rawdata/"


@pytest.mark.parametrize("path", ["rawdata/", "submission/", "submissionfold/"])
def test_head_answers_as_get_without_a_body(path: str) -> None:
    client = make_client(make_account())

    response = client.head(f"/runapp/{path}")

    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.parametrize("path", ["rawdata/", "rawdata/1/", "submissionfold/1/", *POSTS])
def test_options_tell_the_methods(path: str) -> None:
    client = make_client(make_account())

    response = client.options(f"/runapp/{path}")

    assert response.status_code == 200
    assert "OPTIONS" in response["Allow"]
    assert response.json()["parses"] == ["application/json"]


def test_foreign_host_is_refused_in_json() -> None:
    client = make_client(make_account())

    response = client.get("/runapp/rawdata/", headers={"Host": "evil.example"})

    check_shape(response, status=400)


def test_several_errors_are_listed_each_with_its_field() -> None:
    client = make_client(make_account())

    response = client.post("/runapp/submissionfold/", {"priority": "M", "databoard_s_id": -1})

    errors = check_shape(response, status=400)
    assert {(error["field"], error["code"]) for error in errors} == {
        ("databoard_sf_id", "required"),
        ("databoard_s_id", "min_value"),
        ("train_is", "required"),
        ("test_is", "required"),
        ("priority", "invalid_choice"),
    }


@pytest.mark.parametrize("error", [RuntimeError, StorageError, KeyError])
def test_fault_of_ours_tells_nothing_of_the_server(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**named: Any) -> None:
        raise error(f"cannot open {settings.BASE_DIR}" if error is not StorageError else "a blob")

    monkeypatch.setattr("runapp.views.raw_data.list_raw_data", fail)
    client = make_client(make_account())
    client.raise_request_exception = False

    check_shape(client.get("/runapp/rawdata/"), status=500)


def test_absent_database_asks_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**named: Any) -> None:
        raise OperationalError(f"unable to open {settings.BASE_DIR}")

    monkeypatch.setattr("runapp.views.raw_data.list_raw_data", fail)

    response = make_client(make_account()).get("/runapp/rawdata/")

    check_shape(response, status=503)
    assert response["Retry-After"]


def test_error_page_outside_the_api_is_json_too() -> None:
    check_shape(Client().get("/favicon.ico"), status=404)
