"""A request's id follows its folds from the post to the result; no log holds what was printed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now

from datarun.logs import Form, make_formatter
from runapp.datasets.raw_data import request_split
from runapp.models import RawData, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.scheduling.attempts import begin_attempt
from runapp.scheduling.claims import claim_fold, claim_split, reap_expired
from tests.factories import (
    make_client,
    make_fold_body,
    make_raw_data,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db


class Log:
    """What is logged, line by line, as machines read it."""

    def __init__(self) -> None:
        self.stream = StringIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def find(self, action: str) -> dict[str, Any]:
        (line,) = [line for line in self.lines if line.get("action") == action]
        return line


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    handler = logging.StreamHandler(log.stream)
    handler.setFormatter(make_formatter(form=Form.JSON))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield log
    root.setLevel(level)
    root.removeHandler(handler)


def test_request_id_follows_a_fold_to_its_result(ada: User, iris: RawData, log: Log) -> None:
    client = make_client(ada)

    response = client.post(
        "/runapp/submissionfold/", make_fold_body(iris), headers={"X-Request-ID": "front-end-7"}
    )
    work()

    assert response.headers["X-Request-ID"] == "front-end-7"
    fold = SubmissionFold.objects.get()
    assert fold.request_id == "front-end-7"
    ids = {"request": "front-end-7"}
    held = {**ids, "fold": fold.pk, "attempt": 1, "worker": "worker-1", "keeper": 4711}
    assert log.find("request").items() >= {**ids, "method": "POST", "status": 201}.items()
    assert log.find("fold_claimed").items() >= {**held, "dataset": iris.pk}.items()
    assert log.find("attempt_begun").items() >= held.items()
    assert log.find("fold_ended").items() >= {**held, "outcome": "tested"}.items()


@pytest.mark.parametrize(
    ("failures", "action", "outcome"),
    [(0, "fold_returned", "lost"), (2, "fold_ended", "worker_lost")],
)
def test_fold_of_a_lost_worker_is_told_with_all_it_belongs_to(
    ada: User, iris: RawData, log: Log, failures: int, action: str, outcome: str
) -> None:
    post_fold(make_client(ada), iris)
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None
    begin_attempt(fold=claimed)
    SubmissionFold.objects.update(lease_expires_at=Now() - timedelta(seconds=1), failures=failures)

    reap_expired()

    ids = {"request": claimed.request_id, "fold": claimed.pk, "attempt": 1, "worker": "worker-1"}
    assert log.find(action).items() >= {**ids, "outcome": outcome}.items()


def test_split_is_told_from_its_claim_to_its_end(ada: User, log: Log) -> None:
    iris = make_raw_data(ada)
    request_split(raw_data=iris, held_out_test=0.2, random_state=42, force=False)

    claim_split(worker="worker-1")
    RawData.objects.update(split_lease_expires_at=Now() - timedelta(seconds=1))
    reap_expired()
    work()

    assert log.find("split_returned").items() >= {"dataset": iris.pk, "worker": "worker-1"}.items()
    assert log.find("split_ended").items() >= {"dataset": iris.pk, "outcome": "ready"}.items()


def test_folds_of_a_bulk_have_the_id_of_their_request(ada: User, iris: RawData) -> None:
    bodies = [make_fold_body(iris, databoard_sf_id=number) for number in range(3)]

    response = make_client(ada).post("/runapp/submissionfold/bulk/", bodies)
    response.getvalue()

    ids = set(SubmissionFold.objects.values_list("request_id", flat=True))
    assert ids == {response.headers["X-Request-ID"]}


def test_fold_that_is_posted_again_has_the_later_id(ada: User, iris: RawData) -> None:
    client = make_client(ada)
    post_fold(client, iris)

    again = post_fold(client, iris, force="submission_fold")

    assert again.status_code == 201, again.json()
    assert SubmissionFold.objects.get().request_id == again.headers["X-Request-ID"]


def test_id_that_is_no_sane_token_is_not_taken(ada: User, iris: RawData) -> None:
    response = make_client(ada).get(
        "/runapp/rawdata/", headers={"X-Request-ID": "<script>alert(1)</script>"}
    )

    assert "script" not in response.headers["X-Request-ID"]


def test_two_requests_without_id_get_two(ada: User) -> None:
    client = make_client(ada)

    first, second = (client.get("/runapp/rawdata/") for _ in range(2))

    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


def test_reads_and_probes_leave_no_line(ada: User, log: Log) -> None:
    make_client(ada).get("/runapp/rawdata/")
    make_client().get("/health/live")
    make_client().post("/health/live")

    assert [line for line in log.lines if line.get("action") == "request"] == []


def test_refused_request_leaves_a_line_without_its_query(ada: User, log: Log) -> None:
    make_client().get("/runapp/rawdata/?owner=ada")

    line = log.find("request")
    assert (line["status"], line["path"]) == (401, "/runapp/rawdata/")


def test_path_cannot_forge_a_line(ada: User, log: Log) -> None:
    make_client(ada).get("/nowhere%0a2026-01-01 forged")

    assert "\n" not in log.find("request")["event"]


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.WALL_LIMIT, Outcome.SUBMISSION_ERROR])
def test_what_participants_print_is_not_logged(
    ada: User, iris: RawData, log: Log, outcome: Outcome
) -> None:
    post_fold(make_client(ada), iris)

    work(outcome=outcome, most=1)

    assert "printed" not in log.stream.getvalue()
    assert str(outcome.value) in log.stream.getvalue()


def test_what_the_child_prints_before_it_begins_is_logged(
    ada: User, iris: RawData, log: Log
) -> None:
    post_fold(make_client(ada), iris)

    work(outcome=Outcome.SETUP_FAILED, most=1)

    assert "printed" in log.find("fold_hindered")["event"]


def test_credentials_of_requests_are_not_logged(ada: User, iris: RawData, log: Log) -> None:
    client = make_client(ada)

    post_fold(client, iris)
    make_client(ada, password="wrong-Tr0ub").get("/runapp/rawdata/")

    logged = log.stream.getvalue()
    assert "Basic" not in logged
    assert "Tr0ub" not in logged
