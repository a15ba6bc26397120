"""Accounts, clients, bodies and rows to test with, each sane unless told otherwise."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.response import Response
from rest_framework.test import APIClient

from runapp.accounts.tokens import create_token
from runapp.datasets.raw_data import create_raw_data, request_split
from runapp.execution.registration import beat
from runapp.execution.step import Step, run_next
from runapp.models import AccessToken, RawData, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.runner.selftest.promises import Finding, Promise, SelfTest
from tests.doubles import InstantSupervisor
from tests.openapi import check_response

PASSWORD = "Tr0ubadour-of-7"
N_ROWS, N_TRAIN, N_TEST = 30, 24, 6
CLASSES = ["setosa", "versicolor", "virginica"]
CLASSIFIER = b"class Classifier:\n    pass\n"


class JSONClient(APIClient):
    """Speaks JSON unless told otherwise, and has every answer checked against the document."""

    default_format = "json"

    def request(self, **request: Any) -> Any:
        response = super().request(**request)
        check_response(request["REQUEST_METHOD"], request["PATH_INFO"], response)
        return response


def read_rows(response: Any) -> list[dict[str, Any]]:
    """Return the rows of a list's answer, streamed and packed or not."""
    assert response.status_code == 200, response.content
    content = response.getvalue()
    if response.headers.get("Content-Encoding") == "gzip":
        content = gzip.decompress(content)
    rows: list[dict[str, Any]] = json.loads(content)
    return rows


def make_account(name: str = "ada", *, password: str = PASSWORD, **fields: Any) -> User:
    return User.objects.create_user(name, f"{name}@example.org", password, **fields)


def make_token(
    account: User, *, name: str | None = None, **changes: Any
) -> tuple[AccessToken, str]:
    """Return a token and its key."""
    token, key = create_token(account=account, name=name)
    AccessToken.objects.filter(pk=token.pk).update(**changes)
    token.refresh_from_db()
    return token, key


def make_client(account: User | None = None, *, password: str = PASSWORD) -> JSONClient:
    """Return a client that signs in by Basic, or not at all."""
    client = JSONClient()
    if account is not None:
        client.credentials(HTTP_AUTHORIZATION=make_basic(account.username, password))
    return client


def sign_in(account: User, **options: Any) -> Client:
    """Return a browser of sorts in whose session an account is signed in."""
    client = Client(**options)
    client.force_login(account, "django.contrib.auth.backends.ModelBackend")
    return client


def make_basic(name: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))


def pack_indices(values: Any) -> str:
    return pack(np.asarray(values, dtype="<i8").tobytes())


def unpack_indices(text: str) -> list[int]:
    return np.frombuffer(unpack(text), dtype="<i8").tolist()


def unpack_predictions(row: dict[str, Any], part: str) -> np.ndarray:
    assert row[f"{part}_predictions_dtype"] == "float64"
    values = np.frombuffer(unpack(row[f"{part}_predictions"]), dtype="<f8")
    return values.reshape(row[f"{part}_predictions_shape"])


def make_csv(*, n_rows: int = N_ROWS) -> bytes:
    """Return a CSV whose class goes round with the row."""
    lines = [f"{row},{row / 4},{CLASSES[row % len(CLASSES)]}" for row in range(n_rows)]
    return "\n".join(["length,width,species", *lines, ""]).encode()


def make_raw_data_body(**changes: Any) -> dict[str, Any]:
    return {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": pack(make_csv())},
        **changes,
    }


def make_raw_data(owner: User, **changes: Any) -> RawData:
    body = {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": make_csv()},
        "limits": {},
        **changes,
    }
    return create_raw_data(owner=owner, **body)


def make_kit(owner: User, *, name: str = "digits") -> RawData:
    """Return a dataset with a module of its own."""
    return make_raw_data(owner, name=name, files={"specific.py": b"", "pixels.bin": b"\0"})


def make_ready_dataset(owner: User, **changes: Any) -> RawData:
    """Return a dataset whose parts are stored: 24 rows to train on, 6 to test on."""
    raw_data = make_raw_data(owner, **changes)
    split_now(raw_data)
    return raw_data


def make_broken_dataset(owner: User, **changes: Any) -> RawData:
    """Return a dataset whose split has failed."""
    raw_data = make_raw_data(owner, **{"target_column": "no such column", **changes})
    split_now(raw_data)
    return raw_data


def split_now(raw_data: RawData, *, force: bool = False) -> None:
    request_split(raw_data=raw_data, held_out_test=0.2, random_state=42, force=force)
    work(most=1)
    raw_data.refresh_from_db()


def make_fold_body(raw_data: RawData | None = None, **changes: Any) -> dict[str, Any]:
    """Return a fold's body, with the submission's files if a dataset is named."""
    body = {
        "databoard_sf_id": 11,
        "databoard_s_id": 1,
        "train_is": pack_indices(range(4, N_TRAIN)),
        "test_is": pack_indices(range(4)),
    }
    if raw_data is not None:
        body |= {"raw_data": raw_data.pk, "files": {"classifier.py": pack(CLASSIFIER)}}
    return {**body, **changes}


def post_fold(client: APIClient, raw_data: RawData | None = None, **changes: Any) -> Response:
    return client.post("/runapp/submissionfold/", make_fold_body(raw_data, **changes))


def make_fold(account: User, raw_data: RawData | None = None, **changes: Any) -> SubmissionFold:
    """Return the row of a fold that was posted."""
    client = JSONClient()
    client.force_authenticate(account)
    response = post_fold(client, raw_data, **changes)
    assert response.status_code == 201, response.json()
    return SubmissionFold.objects.get(
        owner=account, databoard_sf_id=response.json()["databoard_sf_id"]
    )


def work(
    *,
    outcome: Outcome = Outcome.TESTED,
    is_before_fit: bool = False,
    at_stage: Any = lambda kind: None,
    most: int = 1000,
) -> InstantSupervisor:
    """Run what waits, splits first, as a worker would; return the stand-in that ran it."""
    supervisor = InstantSupervisor(outcome=outcome, is_before_fit=is_before_fit, at_stage=at_stage)
    for _ in range(most):
        step = run_next(worker="worker-1", supervisor=supervisor, is_leaving=lambda: False)
        if step is not Step.WORKED:
            break
    return supervisor


def finish_fold(
    account: User, raw_data: RawData, *, outcome: Outcome = Outcome.TESTED, **changes: Any
) -> SubmissionFold:
    """Return a fold that was posted and has been run, and all that waited with it."""
    fold = make_fold(account, raw_data, **changes)
    work(outcome=outcome)
    fold.refresh_from_db()
    return fold


def make_live_worker(name: str = "worker-1", *, broken: Collection[Promise] | None = None) -> None:
    """Register a worker; one that has tested itself if it is told what it does not keep."""
    beat(name=name, slots=1, self_test=None if broken is None else make_self_test(broken=broken))


def make_self_test(*, broken: Collection[Promise] = ()) -> SelfTest:
    """Return what a worker finds that keeps every promise but those."""
    findings = (
        Finding(promise, promise not in broken, "walls", f"what was tried of {promise}")
        for promise in Promise
    )
    return SelfTest(tuple(findings), "pretence", "a stand-in", {"python": "3"}, ("no reason",))


def list_stored() -> list[Path]:
    """Return every file and folder of the storage but its top."""
    root = Path(settings.STORAGE_ROOT)
    return sorted(path.relative_to(root) for path in root.glob("datasets/**/*"))
