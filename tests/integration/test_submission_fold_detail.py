"""submissionfold/{id}/: look, cancel, re-prioritise."""

from __future__ import annotations

from typing import Any

import pytest

from runapp.models import FoldAttempt, SubmissionFold
from runapp.runner.contract import FrameKind
from runapp.scheduling import control
from runapp.scheduling.attempts import held_fold
from runapp.scheduling.claims import claim_fold
from tests.factories import (
    Outcome,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_raw_data,
    make_ready_dataset,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold/11/"


def test_get_answers_what_the_post_did_but_the_task_id() -> None:
    account = make_account()
    client = make_client(account)
    posted = post_fold(client, make_raw_data(account)).json()
    del posted["task_id"]

    response = client.get(PATH)

    assert response.status_code == 200
    place = {"queue_position": None, "estimated_start": None}
    assert response.json() == {**posted, **place}


@pytest.mark.parametrize("method", ["get", "delete", "patch"])
@pytest.mark.parametrize(
    "number", ["12", str(2**63 - 1), str(2**63), "1" * 40, "-1", "1.5", "x", "%00", "\u0661"]
)
def test_unknown_id_is_not_found(method: str, number: str) -> None:
    client = make_client(make_account())

    response = getattr(client, method)(f"/runapp/submissionfold/{number}/")

    assert response.status_code == 404
    assert response.json()["errors"][0]["code"] == "not_found"


def test_delete_cancels_a_waiting_fold_at_once() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    client = make_client(account)

    response = client.delete(PATH)

    assert response.status_code == 200
    row = response.json()
    assert (row["state"], row["error_code"]) == ("ERROR", "cancelled")
    assert row["log_messages"]
    assert row["finished_at"]
    assert row == client.get(PATH).json()
    assert claim_fold(worker="worker-1") is None


def test_delete_cancels_a_running_fold_which_its_worker_notices() -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    client = make_client(account)
    statuses: list[int] = []

    def cancel(kind: FrameKind) -> None:
        statuses.append(client.delete(PATH).status_code)

    work(at_stage=cancel)

    assert statuses == [202]
    row = client.get(PATH).json()
    assert (row["state"], row["error_code"]) == ("ERROR", "cancelled")
    assert row["test_predictions"] is None
    assert FoldAttempt.objects.get(fold=fold).outcome == "cancelled"


def test_cancelled_claim_is_lost() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    fold = claim_fold(worker="worker-1")
    assert fold is not None

    response = make_client(account).delete(PATH)

    assert response.status_code == 202
    assert not held_fold(fold).exists()


def test_delete_tells_of_the_fold_as_it_was_cancelled_not_as_it_was_seen() -> None:
    account = make_account()
    seen = make_fold(account, make_ready_dataset(account))
    claim_fold(worker="worker-1")

    was_running = control.cancel_fold(fold=seen)

    assert was_running is True


@pytest.mark.parametrize("outcome", [Outcome.TESTED, Outcome.SUBMISSION_ERROR])
def test_delete_of_a_finished_fold_is_a_conflict(outcome: Outcome) -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account), outcome=outcome)
    client = make_client(account)
    before = client.get(PATH).json()

    response = client.delete(PATH)

    assert response.status_code == 409
    assert client.get(PATH).json() == before


def test_delete_twice_is_a_conflict() -> None:
    account = make_account()
    make_fold(account, make_raw_data(account))
    client = make_client(account)

    statuses = [client.delete(PATH).status_code for _ in range(2)]

    assert statuses == [200, 409]


def test_cancelled_fold_can_be_forced() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    client = make_client(account)
    client.delete(PATH)

    response = post_fold(client, force="submission_fold")
    work()

    assert response.status_code == 201
    assert client.get(PATH).json()["state"] == "TESTED"


@pytest.mark.parametrize(("before", "after"), [("L", "H"), ("H", "L"), ("H", "H")])
def test_patch_changes_the_priority_of_a_waiting_fold(before: str, after: str) -> None:
    account = make_account()
    make_fold(account, make_raw_data(account), priority=before)
    client = make_client(account)

    response = client.patch(PATH, {"priority": after})

    assert response.status_code == 200
    assert response.json()["priority"] == after
    assert response.json() == client.get(PATH).json()


def test_patched_priority_is_served_first() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    make_fold(account, raw_data, databoard_sf_id=10)
    make_fold(account, databoard_sf_id=11)

    make_client(account).patch(PATH, {"priority": "H"})

    claimed = claim_fold(worker="worker-1")
    assert claimed is not None
    assert claimed.databoard_sf_id == 11


@pytest.mark.parametrize(
    "body", [{}, {"priority": None}, {"priority": "M"}, {"priority": ["H"]}, {"state": "H"}, [], 1]
)
def test_patch_refuses_anything_else(body: Any) -> None:
    account = make_account()
    make_fold(account, make_raw_data(account))

    response = make_client(account).patch(PATH, body)

    assert response.status_code == 400
    assert SubmissionFold.objects.get().priority == "L"


def test_patch_of_a_running_fold_is_a_conflict() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    claim_fold(worker="worker-1")

    response = make_client(account).patch(PATH, {"priority": "H"})

    assert response.status_code == 409
    assert SubmissionFold.objects.get().priority == "L"


def test_patch_of_a_finished_fold_is_a_conflict() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    response = make_client(account).patch(PATH, {"priority": "H"})

    assert response.status_code == 409


def test_fold_deleted_while_it_is_shown_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    account = make_account()
    fold = make_fold(account, make_raw_data(account))

    def find_and_delete(**named: Any) -> SubmissionFold:
        found = SubmissionFold.objects.get(pk=fold.pk)
        fold.submission.raw_data.delete()
        return found

    monkeypatch.setattr("runapp.views.folds.get_fold", find_and_delete)

    response = make_client(account).get(PATH)

    assert response.status_code == 404
