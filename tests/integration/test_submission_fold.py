"""submissionfold/: post and list."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db.models.functions import Now

from runapp.models import Predictions, Submission, SubmissionFold, Worker
from runapp.runner.contract import FrameKind
from runapp.scheduling.claims import claim_fold
from runapp.storage import bins
from runapp.submissions.code import find_submission
from tests.doubles import make_predictions
from tests.factories import (
    CLASSIFIER,
    N_TEST,
    N_TRAIN,
    Outcome,
    finish_fold,
    list_stored,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    pack,
    post_fold,
    read_rows,
    unpack_predictions,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold/"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


def look(client: Any, databoard_sf_id: int = 11) -> dict[str, Any]:
    return client.get(f"{PATH}{databoard_sf_id}/").json()


def test_post_answers_the_fold_and_a_task_id() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    body = make_fold_body(raw_data, databoard_sf_id=11, databoard_s_id=24)

    response = client.post(PATH, body)

    assert response.status_code == 201
    row = response.json()
    assert uuid.UUID(row.pop("task_id"))
    assert re.fullmatch(MOMENT, row.pop("queued_at"))
    assert row == {
        "databoard_sf_id": 11,
        "databoard_s": 24,
        "train_is": body["train_is"],
        "test_is": body["test_is"],
        "priority": "L",
        "full_train_predictions": None,
        "full_train_predictions_shape": None,
        "full_train_predictions_dtype": None,
        "test_predictions": None,
        "test_predictions_shape": None,
        "test_predictions_dtype": None,
        "state": "TODO",
        "error_code": None,
        "log_messages": "",
        "train_time": None,
        "validation_time": None,
        "test_time": None,
        "train_cpu_time": None,
        "train_memory": None,
        "test_cpu_time": None,
        "test_memory": None,
        "new": True,
        "attempt": 0,
        "measured_by": None,
        "started_at": None,
        "finished_at": None,
        "waiting_because": "no_live_worker",
    }


def test_tested_fold_shows_predictions_and_figures() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)

    row = look(make_client(account))

    assert row["state"] == "TESTED"
    assert row["error_code"] is None
    assert row["log_messages"] == "printed\n"
    train, test = (unpack_predictions(row, part) for part in ("full_train", "test"))
    assert np.array_equal(train, make_predictions(N_TRAIN, 3))
    assert np.array_equal(test, make_predictions(N_TEST, 3))
    assert (row["train_time"], row["validation_time"], row["test_time"]) == (1.5, 0.25, 0.125)
    assert (row["train_cpu_time"], row["test_cpu_time"]) == (1.25, 0.0625)
    assert (row["train_memory"], row["test_memory"]) == (3.0, 5.0)
    assert row["measured_by"] == "a stand-in"
    assert row["attempt"] == 1
    assert row["new"] is True
    assert row["waiting_because"] is None
    assert re.fullmatch(MOMENT, row["started_at"])
    assert row["queued_at"] <= row["started_at"] <= row["finished_at"]


def test_regression_predicts_one_value_a_row() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account, target_column="width", workflow_elements="regressor")
    finish_fold(account, raw_data, files={"regressor.py": pack(b"")})

    row = look(make_client(account))

    assert row["test_predictions_shape"] == [N_TEST]
    assert row["full_train_predictions_shape"] == [N_TRAIN]


def test_large_predictions_are_answered_from_the_storage(settings: Any) -> None:
    settings.INLINE_PREDICTIONS_BYTES = 0
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    row = look(make_client(account))

    assert not Predictions.objects.filter(data__isnull=False).exists()
    assert np.array_equal(unpack_predictions(row, "test"), make_predictions(N_TEST, 3))


def test_state_moves_while_the_fold_runs() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    client = make_client(account)
    seen: list[tuple[str, Any, Any]] = []

    def note(kind: FrameKind) -> None:
        row = look(client)
        seen.append((row["state"], row["train_time"], row["test_predictions"]))

    work(at_stage=note)

    assert seen == [("TRAINED", 1.5, None), ("VALIDATED", 1.5, None), ("VALIDATED", 1.5, None)]
    assert look(client)["state"] == "TESTED"


def test_failed_fold_tells_its_code_and_no_predictions() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account), outcome=Outcome.MEMORY_LIMIT)

    row = look(make_client(account))

    assert (row["state"], row["error_code"]) == ("ERROR", "memory_limit")
    assert row["log_messages"] == "printed\nIt went wrong"
    assert row["test_predictions"] is None
    assert row["finished_at"]


def test_submission_is_stored_once_and_used_by_later_folds() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    post_fold(client, raw_data, databoard_sf_id=1)
    stored = list_stored()

    bare = post_fold(client, databoard_sf_id=2)
    again = post_fold(client, raw_data, databoard_sf_id=3)
    nulls = post_fold(client, databoard_sf_id=4, raw_data=None, files=None, force=None)

    assert [bare.status_code, again.status_code, nulls.status_code] == [201, 201, 201]
    assert Submission.objects.count() == 1
    assert SubmissionFold.objects.filter(submission=Submission.objects.get()).count() == 4
    assert list_stored() == stored


def test_two_accounts_may_use_the_same_ids() -> None:
    for name in ("ada", "bob"):
        account = make_account(name)

        response = post_fold(make_client(account), make_raw_data(account))

        assert response.status_code == 201
    assert SubmissionFold.objects.filter(databoard_sf_id=11).count() == 2


def test_high_priority_runs_first_and_then_the_oldest() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number, priority in enumerate("LHLH"):
        make_fold(account, raw_data, databoard_sf_id=number, priority=priority)

    claimed = [claim_fold(worker="worker-1") for _ in range(5)]

    assert [fold and fold.databoard_sf_id for fold in claimed] == [1, 3, 0, 2, None]


def test_fold_waits_for_its_split() -> None:
    account = make_account()
    make_live_worker()

    response = post_fold(make_client(account), make_raw_data(account))

    assert response.json()["waiting_because"] == "raw_data_not_split"
    assert claim_fold(worker="worker-1") is None


def test_fold_waits_behind_others_with_a_live_worker() -> None:
    account = make_account()
    make_live_worker()

    response = post_fold(make_client(account), make_ready_dataset(account))

    assert response.json()["waiting_because"] == "behind_others"


def test_fold_waits_for_a_worker_that_was_last_heard_of_long_ago() -> None:
    account = make_account()
    make_live_worker()
    Worker.objects.update(seen_at=Now() - timedelta(minutes=1))

    response = post_fold(make_client(account), make_ready_dataset(account))

    assert response.json()["waiting_because"] == "no_live_worker"


def test_running_fold_waits_for_nothing() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    claim_fold(worker="worker-1")

    assert look(make_client(account))["waiting_because"] is None


def test_list_shows_all_attributes_oldest_first() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    assert client.get(PATH).json() == []
    finish_fold(account, raw_data, databoard_sf_id=5)
    make_fold(account, databoard_sf_id=3)

    rows = client.get(PATH).json()

    details = [look(client, 5), look(client, 3)]
    place = {"queue_position", "estimated_start"}
    assert rows == [{k: v for k, v in row.items() if k not in place} for row in details]
    assert rows[0]["test_predictions"]


def test_list_costs_the_same_queries_for_any_number_of_folds(
    django_assert_max_num_queries: Any,
) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(12):
        make_fold(account, raw_data, databoard_sf_id=number)
    client = make_client(account)
    client.get("/runapp/rawdata/")  # pays for the password, and writes the sign-in down

    with django_assert_max_num_queries(5):
        rows = client.get(PATH).json()

    assert len(rows) == 12


def test_list_of_more_folds_than_fit_one_query_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runapp.rows.PIECE_ROWS_OF_HEAVY_COLUMNS", 2)
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(5):
        make_fold(account, raw_data, databoard_sf_id=number)
    work()

    rows = read_rows(make_client(account).get(PATH))

    assert [row["databoard_sf_id"] for row in rows] == list(range(5))
    assert all(row["test_predictions"] for row in rows)


def test_fold_of_a_dataset_deleted_meanwhile_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    def find_and_delete(**named: Any) -> Submission | None:
        # As if another request came between the look at the dataset and the transaction.
        with django_capture_on_commit_callbacks(execute=True):
            raw_data.__class__.objects.get(pk=raw_data.pk).delete()
        return find_submission(**named)

    monkeypatch.setattr("runapp.submissions.folds.find_submission", find_and_delete)

    response = post_fold(make_client(account), raw_data)

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "does_not_exist"
    assert not SubmissionFold.objects.exists()
    assert list_stored() == []


def test_code_is_stored_as_it_was_sent(tmp_path: Path) -> None:
    account = make_account()
    make_fold(account, make_raw_data(account))

    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]

    assert CLASSIFIER in contents


def test_fold_of_a_dataset_deleted_while_its_code_is_written_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    publish = bins._publish

    def delete_and_publish(draft: Path, path: Path) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            raw_data.__class__.objects.filter(pk=raw_data.pk).delete()
        publish(draft, path)

    monkeypatch.setattr(bins, "_publish", delete_and_publish)

    response = post_fold(make_client(account), raw_data)

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "does_not_exist"
    assert not SubmissionFold.objects.exists()
    assert list_stored() == []
