"""submissionfold/: posting again by force, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from runapp.common.transitions import Phase
from runapp.models import FoldAttempt, Predictions, Submission, SubmissionFold
from runapp.runner.contract import FrameKind
from runapp.scheduling.claims import claim_fold
from runapp.scheduling.control import cancel_fold
from tests.factories import (
    Outcome,
    finish_fold,
    list_stored,
    make_account,
    make_client,
    make_fold,
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


@pytest.mark.parametrize(
    "force",
    ["submission_fold", "submission, submission_fold", "submission,submission_fold", None],
)
def test_force_on_a_new_fold_changes_nothing(force: Any) -> None:
    account = make_account()

    response = post_fold(make_client(account), make_raw_data(account), force=force)

    assert response.status_code == 201


def test_odd_force_is_refused() -> None:
    account = make_account()
    client = make_client(account)
    raw_data = make_raw_data(account)
    odd = ["", " ", "submission", "submission_fold, submission", "yes", ",", "x" * 9999, True, []]

    for force in odd:
        response = post_fold(client, raw_data, force=force)

        assert response.status_code == 400, force
        assert {error["field"] for error in response.json()["errors"]} == {"force"}
    assert not SubmissionFold.objects.exists()


@pytest.mark.parametrize("outcome", [Outcome.TESTED, Outcome.KILLED])
def test_forced_fold_starts_anew_and_keeps_its_history(outcome: Outcome) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    fold = finish_fold(account, raw_data, outcome=outcome)
    client.post("/runapp/testpredictions/list/", {"list_submission_fold": [11]})
    assert look(client)["new"] is False

    response = post_fold(
        client,
        force="submission_fold",
        train_is=pack_indices([1, 2]),
        test_is=pack_indices([3]),
        priority="H",
    )

    assert response.status_code == 201
    row = response.json()
    assert (row["state"], row["new"], row["error_code"]) == ("TODO", True, None)
    assert unpack_indices(row["train_is"]) == [1, 2]
    assert unpack_indices(row["test_is"]) == [3]
    assert row["priority"] == "H"
    empty = ("train_time", "test_memory", "test_predictions", "measured_by", "finished_at")
    assert [row[name] for name in empty] == [None] * len(empty)
    assert row["log_messages"] == ""
    assert not Predictions.objects.exists()
    history = FoldAttempt.objects.get(fold=fold)
    assert (history.number, history.outcome) == (1, outcome.value)
    assert history.usage["train_seconds"] == 1.5

    work()

    assert (look(client)["state"], look(client)["attempt"]) == ("TESTED", 2)
    assert [a.number for a in FoldAttempt.objects.order_by("number")] == [1, 2]


def test_forced_fold_that_waits_takes_the_new_values() -> None:
    account = make_account()
    client = make_client(account)
    post_fold(client, make_raw_data(account))

    response = post_fold(client, force="submission_fold", priority="H")

    assert response.status_code == 201
    assert (response.json()["priority"], response.json()["state"]) == ("H", "TODO")
    assert SubmissionFold.objects.count() == 1


def test_forced_fold_that_runs_is_restarted() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    fold = make_fold(account, raw_data)
    posted: list[int] = []

    def force_once(kind: FrameKind) -> None:
        if not posted:
            posted.append(post_fold(client, force="submission_fold").status_code)

    supervisor = work(at_stage=force_once)

    fold.refresh_from_db()
    assert posted == [201]
    assert len(supervisor.jobs) == 2
    assert (fold.state, fold.attempt) == ("TESTED", 2)
    outcomes = FoldAttempt.objects.order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == ["restarted", "tested"]


def test_late_report_of_a_restarted_run_tells_nothing_of_a_fold_cancelled_since() -> None:
    account = make_account()
    client = make_client(account)
    fold = make_fold(account, make_ready_dataset(account))

    def force_and_cancel(kind: FrameKind) -> None:
        post_fold(client, force="submission_fold")
        cancel_fold(fold=fold)

    work(at_stage=force_and_cancel)

    fold.refresh_from_db()
    assert (fold.phase, fold.error_code) == ("done", "cancelled")
    assert (fold.log_messages, fold.train_time) == ("Cancelled on request.", None)


def test_force_cannot_move_a_fold_to_another_submission() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    post_fold(client, raw_data, databoard_s_id=1)
    stored = list_stored()

    response = post_fold(
        client,
        raw_data,
        databoard_s_id=2,
        files={"classifier.py": OTHER_CODE},
        force="submission, submission_fold",
    )

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "databoard_s_id"
    assert Submission.objects.count() == 1
    assert list_stored() == stored


def test_forced_submission_trains_the_new_code() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    post_fold(client, raw_data, databoard_sf_id=1)
    work()
    post_fold(client, databoard_sf_id=2)
    finished = look(client, 1)
    old_hash = Submission.objects.get().hash_files

    response = post_fold(
        client,
        raw_data,
        databoard_sf_id=3,
        files={"classifier.py": OTHER_CODE},
        force="submission, submission_fold",
    )
    supervisor = work()

    assert response.status_code == 201
    assert look(client, 1) == finished
    codes = [job.files["classifier.py"] for job in supervisor.jobs]
    assert codes == [b"class Classifier:\n    other = True\n"] * 2
    digests = SubmissionFold.objects.order_by("databoard_sf_id").values_list("code_digest", flat=1)
    new_hash = Submission.objects.get().hash_files
    assert list(digests) == [old_hash, new_hash, new_hash]


def test_forced_submission_restarts_running_siblings() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    sibling = make_fold(account, raw_data, databoard_sf_id=1)
    claim_fold(worker="worker-1")

    post_fold(
        client,
        raw_data,
        databoard_sf_id=2,
        files={"classifier.py": OTHER_CODE},
        force="submission, submission_fold",
    )

    sibling.refresh_from_db()
    assert (sibling.phase, sibling.state) == (Phase.WAITING, "TODO")


def test_forced_submission_with_the_same_files_restarts_nobody() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    sibling = make_fold(account, raw_data, databoard_sf_id=1)
    claim_fold(worker="worker-1")

    post_fold(
        make_client(account), raw_data, databoard_sf_id=2, force="submission, submission_fold"
    )

    sibling.refresh_from_db()
    assert sibling.phase == Phase.RUNNING
