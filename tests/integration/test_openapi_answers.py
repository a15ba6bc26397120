"""Every success that the document tells of is answered, as it says.

All answers to the clients of the integration tests are checked (`factories.JSONClient`); here they
are also counted.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.factories import (
    PASSWORD,
    JSONClient,
    make_account,
    make_fold_body,
    make_kit,
    make_raw_data_body,
    pack,
    read_rows,
    work,
)
from tests.openapi import check_answer, check_response, read_document

pytestmark = pytest.mark.django_db


class Recorder(JSONClient):
    """Notes which answers of the document were met."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, int]] = set()

    def request(self, **request: Any) -> Any:
        response = super().request(**request)
        judged = check_response(request["REQUEST_METHOD"], request["PATH_INFO"], response)
        assert judged is not None
        self.seen.add((judged.operation_id, judged.status))
        return response


@pytest.fixture
def client() -> Recorder:
    client = Recorder()
    client.force_authenticate(make_account())
    return client


def list_successes() -> set[tuple[str, int]]:
    return {
        (operation["operationId"], int(status))
        for operations in read_document()["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
        if int(status) < 400
    }


def read_twice(client: Recorder, path: str) -> None:
    """Read, and ask whether that still holds."""
    etag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304


def post_dataset(client: Recorder) -> int:
    """Post a dataset, change it, split it and make folds of it."""
    pk: int = client.post("/runapp/rawdata/", make_raw_data_body()).json()["id"]
    path = f"/runapp/rawdata/{pk}/"
    client.get(path)
    client.patch(path, {"fail_fast": True})
    split = {"raw_data_id": pk, "held_out_test": 0.2}
    for prefix in ("rawdata", "raw_data"):
        client.post(f"/runapp/{prefix}/split/", split)
        work(most=1)
    client.post(f"{path}folds/", {"n_splits": 2})
    return pk


def post_folds(client: Recorder, raw_data: int) -> None:
    """Post folds in every way, see one run to its end, and cancel the others."""
    files = {"classifier.py": pack(b"class Classifier:\n    pass\n")}
    first = {**make_fold_body(), "raw_data": raw_data, "files": files}
    client.post("/runapp/submissionfold/", first)
    client.patch("/runapp/submissionfold/11/", {"priority": "H"})
    work(most=1)
    bulk = [make_fold_body(databoard_sf_id=12), None]
    assert len(read_rows(client.post("/runapp/submissionfold/bulk/", bulk))) == 2
    client.delete("/runapp/submissionfold/12/")
    client.post("/runapp/submissionfold/", make_fold_body(databoard_sf_id=13))
    work(at_stage=lambda kind: client.delete("/runapp/submissionfold/13/"))


def use_account(client: Recorder, raw_data: int) -> None:
    """Share a dataset, make a token, and look at what the account has and has done."""
    make_account("bob")
    shares = f"/runapp/rawdata/{raw_data}/shares/"
    share = client.post(shares, {"account": "bob", "role": "read"}).json()
    client.get(shares)
    client.delete(f"{shares}{share['id']}/")
    client.get("/runapp/account/")
    passwords = {"old_password": PASSWORD, "new_password": "An0ther-of-8"}
    client.post("/runapp/account/password/", passwords)
    token = client.post("/runapp/tokens/", {"name": "laptop"}).json()
    client.get("/runapp/tokens/")
    client.delete(f"/runapp/tokens/{token['id']}/")
    client.force_authenticate(make_account("root", is_superuser=True))
    read_twice(client, "/runapp/audit/")


def test_every_success_of_the_document_is_met(client: Recorder) -> None:
    raw_data = post_dataset(client)

    post_folds(client, raw_data)
    kit = make_kit(client.handler._force_user).pk
    for prefix in ("rawdata", "raw_data"):
        client.post(f"/runapp/{prefix}/customsplit/", {"raw_data_id": kit})
    client.get("/runapp/submissionfold/11/")
    read_twice(client, "/runapp/submissionfold/11/predictions/test/")
    for name in ("rawdata", "submission", "submissionfold", "submissionfold-light"):
        read_twice(client, f"/runapp/{name}/")
    client.post("/runapp/testpredictions/new/", {})
    client.post("/runapp/testpredictions/list/", {"list_submission_fold": [11, 12]})
    client.delete(f"/runapp/rawdata/{raw_data}/")
    use_account(client, kit)

    assert {met for met in client.seen if met[1] < 400} == list_successes()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"id": "1"}, jsonschema.ValidationError),
        ({"unheard_of": 1}, jsonschema.ValidationError),
    ],
)
def test_answer_that_differs_from_the_document_is_noticed(
    client: Recorder, change: dict[str, Any], error: type[Exception]
) -> None:
    row = client.post("/runapp/rawdata/", make_raw_data_body()).json()

    with pytest.raises(error):
        check_answer(
            method="POST",
            path="/runapp/rawdata/",
            status=201,
            headers={"Content-Type": "application/json"},
            content=json.dumps({**row, **change}).encode(),
        )


def test_status_that_the_document_does_not_tell_is_noticed() -> None:
    with pytest.raises(AssertionError, match="answered 418"):
        check_answer(method="GET", path="/runapp/rawdata/", status=418, headers={}, content=b"")
