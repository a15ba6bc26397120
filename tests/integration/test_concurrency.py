"""Several at once: each thread with a connection of its own, on a database that commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import pytest
from django.db import connection

from runapp.models import RawData, Submission, SubmissionFold
from runapp.scheduling.claims import claim_fold, claim_split
from tests.factories import (
    finish_fold,
    list_stored,
    make_account,
    make_client,
    make_fold,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
    pack,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db(transaction=True)

Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep hints from the queue, which no worker reads here."""
    published: list[str] = []
    monkeypatch.setattr(
        "runapp.scheduling.dispatch.publish", lambda *, task_id: published.append(task_id)
    )
    return published


def run_at_once(call: Callable[[int], Result], *, threads: int) -> list[Result]:
    """Return what `call(0)`, `call(1)`... return, started together."""
    barrier = Barrier(threads)

    def run(number: int) -> Result:
        try:
            barrier.wait(timeout=30)
            return call(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_first_posts_of_one_submission_create_it_once(hints: list[str]) -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    responses = run_at_once(
        lambda number: post_fold(make_client(account), raw_data, databoard_sf_id=number), threads=8
    )

    assert [response.status_code for response in responses] == [201] * 8
    assert Submission.objects.count() == 1
    assert SubmissionFold.objects.count() == 8
    assert sorted(hints) == sorted(response.json()["task_id"] for response in responses)


def test_first_posts_with_different_files_keep_one_of_them() -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    responses = run_at_once(
        lambda number: post_fold(
            make_client(account),
            raw_data,
            databoard_sf_id=number,
            files={"classifier.py": pack(b"%d" % number)},
        ),
        threads=4,
    )

    statuses = [response.status_code for response in responses]
    assert sorted(statuses) == [201, 409, 409, 409]
    assert SubmissionFold.objects.get().databoard_sf_id == statuses.index(201)


def test_one_fold_id_posted_at_once_is_taken_once() -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    responses = run_at_once(lambda number: post_fold(make_client(account), raw_data), threads=4)

    assert sorted(response.status_code for response in responses) == [201, 400, 400, 400]
    refused = [response for response in responses if response.status_code == 400]
    message = "SubmissionFold with this databoard_sf_id already exists."
    assert {response.json()["databoard_sf_id"][0] for response in refused} == {message}
    assert SubmissionFold.objects.count() == 1


def test_one_dataset_name_posted_at_once_is_taken_once() -> None:
    account = make_account()

    responses = run_at_once(
        lambda number: make_client(account).post("/runapp/rawdata/", make_raw_data_body()),
        threads=4,
    )

    assert sorted(response.status_code for response in responses) == [201, 400, 400, 400]
    key = RawData.objects.get().storage_key
    assert {path.parts[1] for path in list_stored()} == {key}


def test_pollers_share_new_predictions_without_overlap() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(20):
        make_fold(account, raw_data, databoard_sf_id=number)
    work()

    responses = run_at_once(
        lambda number: make_client(account).post("/runapp/testpredictions/new/", {}), threads=2
    )

    assert [response.status_code for response in responses] == [200, 200]
    handed_out = [row["databoard_sf_id"] for response in responses for row in response.json()]
    assert sorted(handed_out) == list(range(20))


def test_claimers_get_each_fold_once() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(24):
        make_fold(account, raw_data, databoard_sf_id=number)

    def claim_all(number: int) -> list[int]:
        claimed = iter(lambda: claim_fold(worker=f"worker-{number}"), None)
        return [fold.pk for fold in claimed]

    claims = run_at_once(claim_all, threads=8)

    counts = Counter(pk for some in claims for pk in some)
    assert set(counts.values()) == {1}
    assert len(counts) == 24
    assert set(SubmissionFold.objects.values_list("attempt", "phase")) == {(1, "running")}


def test_claimers_get_each_split_once() -> None:
    account = make_account()
    client = make_client(account)
    for number in range(4):
        raw_data = make_raw_data(account, name=str(number))
        client.post("/runapp/rawdata/split/", {"raw_data_id": raw_data.pk, "held_out_test": 0.5})

    claims = run_at_once(lambda number: claim_split(worker=f"worker-{number}"), threads=8)

    claimed = [raw_data.pk for raw_data in claims if raw_data is not None]
    assert sorted(claimed) == sorted(RawData.objects.values_list("pk", flat=True))


def test_cancelling_and_claiming_at_once_agree() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    def cancel_or_claim(number: int) -> Any:
        if number:
            return claim_fold(worker="worker-1")
        return make_client(account).delete("/runapp/submissionfold/11/").status_code

    status, claimed = run_at_once(cancel_or_claim, threads=2)

    assert status == (200 if claimed is None else 202)
    assert SubmissionFold.objects.get().error_code == "cancelled"


def test_dataset_deleted_while_folds_are_posted_leaves_nothing() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)

    def post_or_delete(number: int) -> int:
        client = make_client(account)
        if number == 0:
            return client.delete(f"/runapp/rawdata/{raw_data.pk}/").status_code
        return post_fold(
            client, raw_data, databoard_sf_id=number, databoard_s_id=number
        ).status_code

    statuses = run_at_once(post_or_delete, threads=4)

    assert statuses[0] == 204
    assert set(statuses[1:]) <= {201, 400, 404}
    assert not SubmissionFold.objects.exists()
    assert not Submission.objects.exists()
    assert list_stored() == []


def test_forced_posts_of_one_fold_at_once_leave_one() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)

    responses = run_at_once(
        lambda number: post_fold(make_client(account), force="submission_fold"), threads=4
    )

    assert [response.status_code for response in responses] == [201] * 4
    assert SubmissionFold.objects.get().state == "TODO"
