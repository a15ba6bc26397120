"""The examples of the 2016 documentation, section 2.1, as they are written there.

Changed are the host, ids and contents, which the document abridges ("blablabla"), and a comma
that one of its examples lacks.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User

from runapp.models import RawData, SubmissionFold
from tests.factories import (
    CLASSIFIER,
    finish_fold,
    make_account,
    make_csv,
    make_fold,
    make_raw_data,
    make_ready_dataset,
    pack,
    pack_indices,
)

pytestmark = pytest.mark.django_db(transaction=True)

FILE = pack(make_csv())
CODE = pack(CLASSIFIER)
TRAIN_IS, TEST_IS = pack_indices(range(4, 20)), pack_indices(range(4))
AUTH = ("username", "password")


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setattr("runapp.scheduling.dispatch.publish", lambda *, task_id: False)
    return make_account("username", password="password")


@pytest.fixture
def curl(live_server: Any) -> Callable[[str], Any]:
    """Run a command of the document, in a shell as its reader would."""

    def run(command: str) -> Any:
        adapted = command.replace("http://127.0.0.1:8000", live_server.url)
        # -sS keeps the progress bar out; the rest is the document's own.
        adapted = adapted.replace("curl ", "curl -sS --noproxy '*' ", 1)
        ended = subprocess.run(
            adapted, shell=True, capture_output=True, text=True, timeout=30, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


@pytest.fixture
def host(live_server: Any) -> str:
    return live_server.url


def test_curl_posts_raw_data(curl: Callable[[str], Any]) -> None:
    row = curl(
        """curl -u username:password -H "Content-Type: application/json" -X POST -d """
        """'{"name": "iris", "target_column": "species", "workflow_elements": "classifier", """
        f""""files": {{"iris.csv": "{FILE}"}}}}' http://127.0.0.1:8000/runapp/rawdata/"""
    )

    assert row["id"] == RawData.objects.get(name="iris").pk


def test_requests_posts_raw_data(host: str) -> None:
    response = requests.post(
        f"{host}/runapp/rawdata/",
        auth=("username", "password"),
        json={
            "name": "iris",
            "target_column": "species",
            "workflow_elements": "classifier",
            "files": {"iris.csv": FILE},
        },
        timeout=30,
    )

    assert response.status_code == 201
    assert RawData.objects.get().name == "iris"


# `GET` is no option there but another host for curl, which fails to find it and goes on.
@pytest.mark.parametrize("path", ["rawdata/", "submissionfold/", "submissionfold-light/"])
def test_curl_lists(path: str, curl: Callable[[str], Any], account: User) -> None:
    make_fold(account, make_raw_data(account))

    rows = curl(f"curl -u username:password GET http://127.0.0.1:8000/runapp/{path}")

    assert len(rows) == 1


@pytest.mark.parametrize("path", ["rawdata/", "submissionfold/", "submissionfold-light/"])
def test_requests_lists(path: str, host: str, account: User) -> None:
    make_fold(account, make_raw_data(account))

    response = requests.get(f"{host}/runapp/{path}", auth=("username", "password"), timeout=30)

    assert response.status_code == 200
    assert len(response.json()) == 1


def test_curl_splits(curl: Callable[[str], Any], account: User) -> None:
    pk = make_raw_data(account).pk

    answer = curl(
        """curl -u username:password -H "Content-Type: application/json" -X POST -d """
        f"""'{{"random_state": 42, "held_out_test": 0.7, "raw_data_id": {pk}}}' """
        """http://127.0.0.1:8000/runapp/rawdata/split/"""
    )

    assert answer["task_id"]
    assert RawData.objects.get().split_request == {"random_state": 42, "held_out_test": 0.7}


def test_requests_splits_under_the_other_spelling(host: str, account: User) -> None:
    pk = make_raw_data(account).pk

    response = requests.post(
        f"{host}/runapp/raw_data/split/",
        auth=("username", "password"),
        json={"random_state": 42, "held_out_test": 0.7, "raw_data_id": pk},
        timeout=30,
    )

    assert response.status_code == 200
    assert response.json()["task_id"]


def test_curl_posts_a_fold(curl: Callable[[str], Any], account: User) -> None:
    pk = make_raw_data(account).pk

    row = curl(
        """curl -u username:password -H "Content-Type: application/json" -X POST -d """
        f"""'{{"databoard_s_id": 1, "files": {{"classifier.py": "{CODE}"}}, "train_is": """
        f""""{TRAIN_IS}", "raw_data":{pk}, "databoard_sf_id": 11, "test_is": "{TEST_IS}", """
        """"priority": "L"}' http://127.0.0.1:8000/runapp/submissionfold/"""
    )

    assert (row["databoard_sf_id"], row["databoard_s"], row["priority"]) == (11, 1, "L")
    assert SubmissionFold.objects.get().databoard_sf_id == 11


def test_requests_posts_a_fold(host: str, account: User) -> None:
    pk = make_raw_data(account).pk

    response = requests.post(
        f"{host}/runapp/submissionfold/",
        auth=("username", "password"),
        json={
            "databoard_sf_id": 10,
            "databoard_s_id": 24,
            "raw_data": pk,
            "train_is": TRAIN_IS,
            "test_is": TEST_IS,
            "priority": "L",
            "files": {"classifier.py": CODE},
        },
        timeout=30,
    )

    assert response.status_code == 201
    assert (response.json()["databoard_sf_id"], response.json()["databoard_s"]) == (10, 24)


def test_curl_looks_at_a_fold(curl: Callable[[str], Any], account: User) -> None:
    make_fold(account, make_raw_data(account), databoard_sf_id=10)

    row = curl("curl -u username:password GET http://127.0.0.1:8000/runapp/submissionfold/10/")

    assert (row["databoard_sf_id"], row["state"]) == (10, "TODO")


def test_requests_looks_at_a_fold(host: str, account: User) -> None:
    make_fold(account, make_raw_data(account), databoard_sf_id=10)

    response = requests.get(
        f"{host}/runapp/submissionfold/10/", auth=("username", "password"), timeout=30
    )

    assert response.json()["state"] == "TODO"


def test_curl_asks_for_listed_predictions(curl: Callable[[str], Any], account: User) -> None:
    finish_fold(account, make_ready_dataset(account), databoard_sf_id=10)

    rows = curl(
        """curl -u username:password -H "Content-Type: application/json" -X POST -d """
        """'{"list_submission_fold": [1, 2, 10]}' """
        """http://127.0.0.1:8000/runapp/testpredictions/list/"""
    )

    assert [row["databoard_sf_id"] for row in rows] == [10]
    assert rows[0]["test_predictions"]


def test_requests_asks_for_listed_predictions(host: str, account: User) -> None:
    finish_fold(account, make_ready_dataset(account), databoard_sf_id=10)

    response = requests.post(
        f"{host}/runapp/testpredictions/list/",
        auth=("username", "password"),
        json={"list_submission_fold": [1, 2, 10]},
        timeout=30,
    )

    assert [row["databoard_sf_id"] for row in response.json()] == [10]


def test_curl_asks_for_new_predictions(curl: Callable[[str], Any], account: User) -> None:
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)

    rows = curl(
        """curl -u username:password -H "Content-Type: application/json" -X POST -d """
        f"""'{{"raw_data_id": {raw_data.pk}}}' """
        """http://127.0.0.1:8000/runapp/testpredictions/new/"""
    )

    assert [row["databoard_sf_id"] for row in rows] == [11]


def test_requests_asks_for_new_predictions(host: str, account: User) -> None:
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)

    response = requests.post(
        f"{host}/runapp/testpredictions/new/",
        auth=("username", "password"),
        json={"raw_data_id": raw_data.pk},
        timeout=30,
    )

    assert [row["databoard_sf_id"] for row in response.json()] == [11]
