"""rawdata/split/ and rawdata/customsplit/: asking for a split, and what becomes of the folds."""

from __future__ import annotations

import io
import uuid
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from django.db.models.functions import Now
from sklearn.model_selection import train_test_split

from runapp.common.transitions import Phase
from runapp.datasets.raw_data import request_split
from runapp.models import FoldAttempt, RawData, SubmissionFold
from runapp.runner.contract import FrameKind
from runapp.runner.data import array_file
from runapp.scheduling.claims import claim_fold, claim_split, renew_split, return_split
from runapp.storage import Kind
from tests.factories import (
    finish_fold,
    make_account,
    make_broken_dataset,
    make_client,
    make_csv,
    make_fold,
    make_kit,
    make_raw_data,
    make_ready_dataset,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/split/"
CUSTOM_PATH = "/runapp/rawdata/customsplit/"


def make_body(raw_data: RawData, **changes: Any) -> dict[str, Any]:
    return {"raw_data_id": raw_data.pk, "held_out_test": 0.2, **changes}


def read_labels(raw_data: RawData, part: str) -> list[Any]:
    content = raw_data.bin.read(kind=Kind.LABELS, digest=raw_data.parts[part])
    return array_file.read_column(content).tolist()


@pytest.mark.parametrize("path", [PATH, "/runapp/raw_data/split/"])
def test_split_answers_a_task_id(path: str) -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    response = make_client(account).post(path, make_body(raw_data))

    assert response.status_code == 200
    assert list(response.json()) == ["task_id"]
    assert uuid.UUID(response.json()["task_id"])
    raw_data.refresh_from_db()
    assert raw_data.state == "SPLITTING"


@pytest.mark.parametrize("path", [CUSTOM_PATH, "/runapp/raw_data/customsplit/"])
def test_custom_split_answers_a_task_id(path: str) -> None:
    account = make_account()
    kit = make_kit(account)

    response = make_client(account).post(path, {"raw_data_id": kit.pk})

    assert response.status_code == 200
    assert list(response.json()) == ["task_id"]
    kit.refresh_from_db()
    assert kit.state == "SPLITTING"


@pytest.mark.parametrize("given", [{}, {"random_state": 42}, {"random_state": 7}])
def test_split_is_the_one_that_a_client_makes(given: dict[str, int]) -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    make_client(account).post(PATH, make_body(raw_data, held_out_test=0.3, **given))
    work()

    raw_data.refresh_from_db()
    train, test = train_test_split(
        pd.read_csv(io.BytesIO(make_csv())),
        test_size=0.3,
        random_state=given.get("random_state", 42),
    )
    assert read_labels(raw_data, "y_train") == train["species"].tolist()
    assert read_labels(raw_data, "y_test") == test["species"].tolist()
    assert (raw_data.state, raw_data.n_train, raw_data.n_test) == ("READY", len(train), len(test))


@pytest.mark.parametrize("held_out_test", [1e-300, 0.5, "0.5", 0.999999])
def test_split_accepts_fractions_strictly_between_0_and_1(held_out_test: Any) -> None:
    account = make_account()
    body = make_body(make_raw_data(account), held_out_test=held_out_test)

    response = make_client(account).post(PATH, body)

    assert response.status_code == 200


def test_split_refuses_other_fractions() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    odd = [0, 1, 0.0, 1.0, -0.5, 1.5, 70, "nan", "inf", "1e400", "half", "", None, True, [0.5], {}]

    for held_out_test in odd:
        response = client.post(PATH, make_body(raw_data, held_out_test=held_out_test))

        assert response.status_code == 400, held_out_test
        assert {error["field"] for error in response.json()["errors"]} == {"held_out_test"}
    raw_data.refresh_from_db()
    assert raw_data.state == "NEW"


def test_split_needs_a_fraction() -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    response = make_client(account).post(PATH, {"raw_data_id": raw_data.pk})

    assert response.status_code == 400
    assert response.json()["held_out_test"] == ["This field is required."]


@pytest.mark.parametrize(
    ("random_state", "status"),
    [
        (0, 200),
        (2**32 - 1, 200),
        (2**32, 400),
        (-1, 400),
        (1.5, 400),
        (True, 400),
        ("x", 400),
        (None, 400),
        ([], 400),
        (2**64, 400),
    ],
)
def test_split_takes_what_numpy_takes_for_a_seed(random_state: Any, status: int) -> None:
    account = make_account()
    body = make_body(make_raw_data(account), random_state=random_state)

    response = make_client(account).post(PATH, body)

    assert response.status_code == status


@pytest.mark.parametrize("path", [PATH, CUSTOM_PATH])
def test_split_refuses_an_odd_force(path: str) -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)

    for force in ("perhaps", "", None, [], {}, 2, 0.5):
        response = client.post(path, make_body(raw_data, force=force))

        assert response.status_code == 400, force
        assert {error["field"] for error in response.json()["errors"]} == {"force"}


@pytest.mark.parametrize("path", [PATH, CUSTOM_PATH])
def test_split_of_no_dataset_is_refused(path: str) -> None:
    client = make_client(make_account())
    expected = [(10**6, 404), (2**63 - 1, 404)]
    expected += [(odd, 400) for odd in (2**63, 2**64, -1, True, "x", None, [1], {})]

    for raw_data_id, status in expected:
        response = client.post(path, {"raw_data_id": raw_data_id, "held_out_test": 0.2})

        assert response.status_code == status, raw_data_id
        assert response.json()["errors"]


def test_split_refuses_a_dataset_with_a_module_of_its_own() -> None:
    account = make_account()
    kit = make_kit(account)

    response = make_client(account).post(PATH, make_body(kit))

    assert response.status_code == 400
    assert "customsplit" in response.json()["raw_data_id"][0]
    kit.refresh_from_db()
    assert kit.state == "NEW"


def test_custom_split_refuses_a_dataset_without_a_module() -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    response = make_client(account).post(CUSTOM_PATH, {"raw_data_id": raw_data.pk})

    assert response.status_code == 400
    assert "specific.py" in response.json()["raw_data_id"][0]


@pytest.mark.parametrize("force", [None, False, "false"])
def test_split_of_a_dataset_with_folds_needs_force(force: Any) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    make_fold(account, raw_data)
    given = {} if force is None else {"force": force}

    response = make_client(account).post(PATH, make_body(raw_data, **given))

    assert response.status_code == 409
    assert response.json()["errors"][0]["code"] == "conflict"
    raw_data.refresh_from_db()
    assert raw_data.state == "READY"


def test_custom_split_of_a_dataset_with_folds_needs_force() -> None:
    account = make_account()
    kit = make_kit(account)
    make_fold(account, kit)
    client = make_client(account)

    refused = client.post(CUSTOM_PATH, {"raw_data_id": kit.pk})
    accepted = client.post(CUSTOM_PATH, {"raw_data_id": kit.pk, "force": True})

    assert refused.status_code == 409
    assert accepted.status_code == 200


def test_split_again_without_folds_needs_no_force() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)

    response = make_client(account).post(PATH, make_body(raw_data, held_out_test=0.5))
    work()

    assert response.status_code == 200
    raw_data.refresh_from_db()
    assert (raw_data.n_train, raw_data.n_test) == (15, 15)


def test_forced_split_leaves_waiting_folds_which_use_it() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = make_fold(account, raw_data)
    client = make_client(account)

    response = client.post(PATH, make_body(raw_data, held_out_test=0.1, force=True))

    assert response.status_code == 200
    waiting = client.get("/runapp/submissionfold/11/").json()
    assert (waiting["state"], waiting["waiting_because"]) == ("TODO", "raw_data_not_split")
    work()
    fold.refresh_from_db()
    raw_data.refresh_from_db()
    assert fold.state == "TESTED"
    assert fold.split_digest == raw_data.split_digest


def test_forced_split_leaves_finished_folds_their_results_and_digest() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = finish_fold(account, raw_data)
    client = make_client(account)
    before = client.get("/runapp/submissionfold/11/").json()
    old_digest = raw_data.split_digest

    client.post(PATH, make_body(raw_data, held_out_test=0.1, force=True))
    work()

    fold.refresh_from_db()
    raw_data.refresh_from_db()
    assert client.get("/runapp/submissionfold/11/").json() == before
    assert fold.split_digest == old_digest != raw_data.split_digest


def test_forced_split_restarts_running_folds() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = make_fold(account, raw_data)
    client = make_client(account)
    digests: list[str] = []

    def split_once(kind: FrameKind) -> None:
        if not digests:
            digests.append(raw_data.split_digest)
            client.post(PATH, make_body(raw_data, held_out_test=0.1, force=True))

    work(at_stage=split_once)

    fold.refresh_from_db()
    raw_data.refresh_from_db()
    assert (fold.state, fold.attempt) == ("TESTED", 2)
    assert fold.split_digest == raw_data.split_digest != digests[0]
    outcomes = FoldAttempt.objects.filter(fold=fold).order_by("number")
    assert [attempt.outcome for attempt in outcomes] == ["restarted", "tested"]


def test_claimed_fold_waits_again_once_a_new_split_is_forced() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = make_fold(account, raw_data)
    claim_fold(worker="worker-1")

    make_client(account).post(PATH, make_body(raw_data, force=True))

    fold.refresh_from_db()
    assert (fold.phase, fold.state, fold.worker) == (Phase.WAITING, "TODO", "")


def test_failed_split_tells_why_and_ends_waiting_folds() -> None:
    account = make_account()
    raw_data = make_raw_data(account, target_column="variety")
    make_fold(account, raw_data)
    client = make_client(account)

    client.post(PATH, make_body(raw_data, force=True))
    work()

    row = client.get(f"/runapp/rawdata/{raw_data.pk}/").json()
    assert (row["state"], row["error_code"]) == ("ERROR", "split_error")
    assert "no target column 'variety'" in row["log_messages"]
    fold = client.get("/runapp/submissionfold/11/").json()
    assert (fold["state"], fold["error_code"]) == ("ERROR", "split_error")
    assert fold["log_messages"]
    assert fold["finished_at"]
    assert fold["waiting_because"] is None


def test_fold_posted_after_its_split_failed_ends_at_once() -> None:
    account = make_account()
    raw_data = make_broken_dataset(account)

    response = post_fold(make_client(account), raw_data)

    assert response.status_code == 201
    assert response.json()["state"] == "ERROR"
    assert response.json()["error_code"] == "split_error"
    assert SubmissionFold.objects.get().phase == Phase.DONE


def test_forced_fold_of_a_failed_split_ends_again() -> None:
    account = make_account()
    raw_data = make_broken_dataset(account)
    client = make_client(account)
    post_fold(client, raw_data)

    response = post_fold(client, raw_data, force="submission_fold")

    assert response.status_code == 201
    assert response.json()["error_code"] == "split_error"


def test_dataset_can_be_split_after_its_split_failed() -> None:
    account = make_account()
    raw_data = make_broken_dataset(account)
    post_fold(make_client(account), raw_data)
    RawData.objects.update(target_column="species")

    response = make_client(account).post(PATH, make_body(raw_data, force=True))
    work()

    assert response.status_code == 200
    row = make_client(account).get(f"/runapp/rawdata/{raw_data.pk}/").json()
    assert (row["state"], row["error_code"], row["log_messages"]) == ("READY", None, "")


def test_second_split_request_replaces_the_first() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)

    client.post(PATH, make_body(raw_data, held_out_test=0.5))
    client.post(PATH, make_body(raw_data, held_out_test=0.2))
    work()

    raw_data.refresh_from_db()
    assert (raw_data.state, raw_data.n_test) == ("READY", 6)


def test_last_attempt_at_a_split_is_not_taken_from_a_worker_that_is_heard_again(
    settings: Any,
) -> None:
    raw_data = make_raw_data(make_account())
    request_split(raw_data=raw_data, held_out_test=0.2, random_state=1, force=False)
    RawData.objects.update(split_failures=settings.MAX_ATTEMPTS - 1)
    seen_silent = claim_split(worker="worker-1")
    assert seen_silent is not None
    renew_split(seen_silent)

    for is_heard in (True, False):
        if not is_heard:
            RawData.objects.update(split_lease_expires_at=Now() - timedelta(seconds=1))
        return_split(
            seen_silent, reason="Lost.", is_failure=True, error_code="worker_lost", is_lost=True
        )
        raw_data.refresh_from_db()
        assert raw_data.state == ("SPLITTING" if is_heard else "ERROR")
