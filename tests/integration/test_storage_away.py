"""A storage that is away costs no attempt and no other request; a bad blob is a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runapp.common import retry
from runapp.common.transitions import Phase
from runapp.datasets.raw_data import request_split
from runapp.execution import heartbeat, training
from runapp.execution.step import Step, run_next
from runapp.models import FoldAttempt, RawData, SubmissionFold
from runapp.runner.contract import FrameKind
from runapp.storage import Kind
from tests.doubles import InstantSupervisor
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def unmount(settings: Any, tmp_path: Path) -> Any:
    """Return a function that takes the storage away, and one that brings it back."""
    there = settings.STORAGE_ROOT

    def switch(is_there: bool) -> None:
        settings.STORAGE_ROOT = there if is_there else tmp_path / "unmounted"

    return switch


def damage(raw_data: RawData, part: str) -> None:
    digest = (raw_data.parts or {})[part]
    kind = Kind.FEATURES if part.startswith("X") else Kind.LABELS
    path = raw_data.bin.locate(kind=kind, digest=digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_fold_waits_unspent_until_the_storage_is_back(unmount: Any) -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    unmount(False)

    steps = [
        run_next(worker="w", supervisor=InstantSupervisor(), is_leaving=lambda: False)
        for _ in range(5)
    ]

    fold.refresh_from_db()
    assert steps == [Step.HINDERED] * 5  # the slot pauses each time
    assert (fold.phase, fold.failures) == (Phase.WAITING, 0)
    unmount(True)
    work()
    fold.refresh_from_db()
    assert fold.state == "TESTED"


def test_split_waits_unspent_until_the_storage_is_back(unmount: Any) -> None:
    raw_data = make_raw_data(make_account())
    request_split(raw_data=raw_data, held_out_test=0.2, random_state=42, force=False)
    unmount(False)

    steps = [
        run_next(worker="w", supervisor=InstantSupervisor(), is_leaving=lambda: False)
        for _ in range(5)
    ]

    raw_data.refresh_from_db()
    assert steps == [Step.HINDERED] * 5
    assert (raw_data.split_phase, raw_data.split_failures) == ("waiting", 0)
    unmount(True)
    work()
    raw_data.refresh_from_db()
    assert raw_data.state == "READY"


@pytest.mark.parametrize(
    ("comes_back", "state"),
    [
        pytest.param(True, "TESTED", id="comes-back"),
        pytest.param(False, "TODO", id="worker-leaves"),
    ],
)
def test_predictions_wait_for_a_storage_that_refuses_them(
    comes_back: bool, state: str, settings: Any, unmount: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.0)
    # The test's own connection is in a transaction, which looks like one that has failed.
    monkeypatch.setattr(retry, "forget_broken_connections", lambda: None)
    settings.INLINE_PREDICTIONS_BYTES = 0
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    asked_after_refusal: list[None] = []

    def refuse(kind: FrameKind) -> None:
        if kind is FrameKind.TEST_PREDICTIONS:
            # Not even root makes folders there.
            settings.STORAGE_ROOT = Path("/sys/kernel")

    def is_leaving() -> bool:
        if Path("/sys/kernel") == settings.STORAGE_ROOT:
            asked_after_refusal.append(None)
        if len(asked_after_refusal) < 3:  # once by the run, then by whoever stores
            return False
        unmount(comes_back)
        return not comes_back

    supervisor = InstantSupervisor(at_stage=refuse)
    step = run_next(worker="w", supervisor=supervisor, is_leaving=is_leaving)

    fold.refresh_from_db()
    assert (step is Step.WORKED) is comes_back
    assert (fold.state, fold.failures, len(supervisor.jobs)) == (state, 0, 1)


@pytest.mark.parametrize("part", ["X_train", "X_test", "y_train"])
def test_damaged_part_never_trains_a_fold(part: str) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    damage(raw_data, part)
    fold = make_fold(account, raw_data)

    supervisor = work()

    fold.refresh_from_db()
    assert supervisor.jobs == []
    assert (fold.state, fold.error_code) == ("ERROR", "internal_error")
    assert fold.log_messages.endswith("Tried 3 times.")


def test_worker_that_leaves_gives_back_a_fold_whose_files_are_on_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN", 0)
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    supervisor = InstantSupervisor()
    _forget_verified_files(monkeypatch)

    run_next(worker="w", supervisor=supervisor, is_leaving=lambda: True)

    fold.refresh_from_db()
    assert supervisor.jobs == []
    assert (fold.phase, fold.failures) == (Phase.WAITING, 0)
    assert not FoldAttempt.objects.exists()  # nothing of it has begun


def test_fold_cancelled_while_its_files_are_on_their_way_is_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN", 0)
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    _forget_verified_files(monkeypatch)
    make_job = training._make_job

    def cancel_and_make_job(*named: Any) -> Any:
        assert make_client(account).delete("/runapp/submissionfold/11/").status_code == 202
        return make_job(*named)

    monkeypatch.setattr(training, "_make_job", cancel_and_make_job)
    supervisor = InstantSupervisor()

    run_next(worker="w", supervisor=supervisor, is_leaving=lambda: False)

    fold.refresh_from_db()
    assert supervisor.jobs == []
    assert (fold.state, fold.error_code) == ("ERROR", "cancelled")


def test_requests_that_need_the_storage_are_told_to_come_again(settings: Any, unmount: Any) -> None:
    settings.INLINE_PREDICTIONS_BYTES = 0
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)
    client = make_client(account)
    unmount(False)

    refused = [
        client.get("/runapp/submissionfold/11/"),
        client.post(f"/runapp/rawdata/{raw_data.pk}/folds/", {"n_splits": 2, "random_state": 1}),
        client.post("/runapp/testpredictions/list/", {"list_submission_fold": [11]}),
        client.post("/runapp/testpredictions/new/", {}),
    ]

    for response in refused:
        assert response.status_code == 503, response.content
        assert response.headers["Retry-After"] == "2"
        assert response.json()["errors"][0]["code"] == "unavailable"
        assert "unmounted" not in response.content.decode()
    for path in ("rawdata/", "submissionfold-light/"):
        assert client.get(f"/runapp/{path}").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"), [("new", {}), ("list", {"list_submission_fold": [11, 12]})]
)
def test_predictions_that_could_not_be_handed_out_are_as_new_as_before(
    path: str, body: dict[str, Any], settings: Any, unmount: Any
) -> None:
    settings.INLINE_PREDICTIONS_BYTES = 0
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)
    finish_fold(account, raw_data, databoard_sf_id=12)
    SubmissionFold.objects.filter(databoard_sf_id=12).update(new=False)
    client = make_client(account)
    unmount(False)
    assert client.post(f"/runapp/testpredictions/{path}/", body).status_code == 503
    unmount(True)

    response = client.post("/runapp/testpredictions/new/", {})

    assert [row["databoard_sf_id"] for row in response.json()] == [11]
    assert client.post("/runapp/testpredictions/new/", {}).json() == []


def test_posts_are_refused_and_leave_nothing_while_the_storage_refuses(settings: Any) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    settings.STORAGE_ROOT = Path("/sys/kernel")
    client = make_client(account)

    refused = [
        client.post("/runapp/rawdata/", make_raw_data_body(name="another")),
        post_fold(client, raw_data),
    ]

    assert [response.status_code for response in refused] == [503, 503]
    assert not SubmissionFold.objects.exists()
    assert RawData.objects.count() == 1


def _forget_verified_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every file checked again, which takes long enough for a look at the claim."""
    from runapp.storage import verification

    monkeypatch.setattr(verification, "_verified", {})
