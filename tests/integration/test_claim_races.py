"""A claim that meets an uncommitted change, step by step; on PostgreSQL too where the suite is."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from runapp.changes.feed import publishing
from runapp.common.transitions import Phase, State
from runapp.datasets.raw_data import delete_raw_data, request_split
from runapp.datasets.sharing import share_raw_data, withdraw_share
from runapp.models import FairShare, FoldAttempt, RawData, Share, Submission, SubmissionFold
from runapp.scheduling.attempts import begin_attempt, end_attempt, held_fold
from runapp.scheduling.claims import claim_fold, claim_split, renew_fold
from runapp.scheduling.control import cancel_fold, change_priority
from runapp.scheduling.disabled_accounts import disable_account
from runapp.scheduling.state_changes import move
from tests.factories import CLASSIFIER, make_account, make_fold, make_ready_dataset, pack

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0

Answer = TypeVar("Answer")


@pytest.fixture(autouse=True)
def hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep hints from the queue, which no worker reads here."""
    monkeypatch.setattr("runapp.scheduling.dispatch.publish", lambda *, task_id: None)


def claim_during(change: Callable[[], object]) -> SubmissionFold | None:
    """Return what is claimed by one who looks while a change is done but not committed."""
    return do_during(change, lambda: claim_fold(worker="worker-1"))


def do_during(change: Callable[[], object], action: Callable[[], Answer]) -> Answer:
    """Return what comes of an action that begins while a change is done but not committed."""
    with ThreadPoolExecutor(1) as pool:
        with publishing():
            change()
            doing = pool.submit(do_in_thread, action)
            wait_until_held_up(doing)
        return doing.result(DEADLINE_SECONDS)


def force_split(raw_data: RawData) -> None:
    request_split(raw_data=raw_data, held_out_test=0.5, random_state=1, force=True)


def force_new_code(raw_data: RawData) -> None:
    files = {"classifier.py": pack(CLASSIFIER + b"# another\n")}
    force = "submission, submission_fold"
    make_fold(raw_data.owner, raw_data, databoard_sf_id=12, files=files, force=force)


def do_in_thread(action: Callable[[], Answer]) -> Answer:
    try:
        return action()
    finally:
        connection.close()


def wait_until_held_up(doing: Future[Any]) -> None:
    """Wait until it has ended or waits for a lock; SQLite tells nobody of its waiting."""
    if connection.vendor != "postgresql":
        return
    # pg_locks is read anew each time, unlike the statistics within one transaction.
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not doing.done():
        with connection.cursor() as cursor:
            cursor.execute(query)
            if cursor.fetchone()[0]:
                return
        assert time.monotonic() < deadline, "it neither ends nor waits"


def test_cancel_under_way_is_not_undone_by_a_claim() -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))

    claimed = claim_during(lambda: cancel_fold(fold=fold))

    assert claimed is None
    fold.refresh_from_db()
    assert (fold.phase, fold.state, fold.error_code) == ("done", "ERROR", "cancelled")
    assert fold.attempt == 0
    assert not FairShare.objects.filter(seconds__gt=0).exists()


def test_fold_behind_one_that_is_being_cancelled_is_claimed() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    first, second = (make_fold(account, raw_data, databoard_sf_id=n) for n in (1, 2))

    claimed = claim_during(lambda: cancel_fold(fold=first))

    assert claimed is not None
    assert claimed.pk == second.pk
    assert FairShare.objects.get().seconds == claimed.charged_seconds


def test_change_of_priority_under_way_keeps_nobody_from_a_claim() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = make_fold(account, raw_data)

    claimed = claim_during(lambda: change_priority(fold=fold, priority="H"))

    assert claimed is not None
    assert (claimed.pk, claimed.priority, claimed.attempt) == (fold.pk, "H", 1)


def test_forced_split_under_way_leaves_no_claim_on_the_old_split() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = make_fold(account, raw_data)

    claimed = claim_during(lambda: force_split(raw_data))

    assert claimed is None
    fold.refresh_from_db()
    assert (fold.phase, fold.attempt) == ("waiting", 0)


def test_new_code_under_way_leaves_no_claim_on_the_old_code() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = make_fold(account, raw_data)

    claimed = claim_during(lambda: force_new_code(raw_data))

    assert claimed is not None
    assert claimed.pk == fold.pk
    assert claimed.submission.hash_files == Submission.objects.get().hash_files


def test_code_that_begins_during_a_cancel_opens_no_attempt() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    fold = claim_fold(worker="worker-1")
    assert fold is not None

    do_during(lambda: cancel_fold(fold=fold), lambda: begin_attempt(fold=fold))

    assert not FoldAttempt.objects.exists()


def test_deletion_waits_for_a_worker_that_records() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    make_fold(account, raw_data)
    fold = claim_fold(worker="worker-1")
    assert fold is not None
    begin_attempt(fold=fold)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            # As at the end of a run: the fold first, then what refers to it.
            assert renew_fold(fold)
            deletion = pool.submit(do_in_thread, lambda: delete_raw_data(raw_data=raw_data))
            wait_until_held_up(deletion)
            has_ended = end_attempt(fold=fold, outcome="tested")
        deletion.result(DEADLINE_SECONDS)

    assert has_ended
    assert not RawData.objects.filter(pk=raw_data.pk).exists()


@pytest.mark.parametrize(
    "change",
    [lambda raw_data: delete_raw_data(raw_data=raw_data), force_split, force_new_code],
    ids=["deletion", "split", "code"],
)
def test_worker_that_records_can_commit_while_it_is_waited_for(
    change: Callable[[RawData], object],
) -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    make_fold(account, raw_data)
    fold = claim_fold(worker="worker-1")
    assert fold is not None

    with ThreadPoolExecutor(1) as pool:
        with publishing():
            moved = move(held_fold(fold), phase=Phase.RUNNING, state=State.TRAINED)
            changing = pool.submit(do_in_thread, lambda: change(raw_data))
            wait_until_held_up(changing)
        changing.result(DEADLINE_SECONDS)

    assert moved
    assert not SubmissionFold.objects.filter(phase=Phase.RUNNING).exists()


def test_claim_that_meets_a_disabling_takes_nothing() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    assert claim_during(lambda: disable_account(account=account)) is None


def test_disabling_takes_back_what_is_being_claimed() -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))

    do_during(
        lambda: claim_fold(worker="worker-1"),
        lambda: disable_account(account=User.objects.get()),
    )

    fold.refresh_from_db()
    assert (fold.phase, fold.attempt) == ("waiting", 1)


def test_claim_of_a_split_that_meets_a_disabling_takes_nothing() -> None:
    account = make_account()
    force_split(make_ready_dataset(account))

    claimed = do_during(
        lambda: disable_account(account=account), lambda: claim_split(worker="worker-1")
    )

    assert claimed is None


def test_disabling_takes_back_a_split_that_is_being_claimed() -> None:
    account = make_account()
    force_split(make_ready_dataset(account))
    before = RawData.objects.get().split_attempt

    do_during(
        lambda: claim_split(worker="worker-1"),
        lambda: disable_account(account=User.objects.get()),
    )

    raw_data = RawData.objects.get()
    assert (raw_data.split_phase, raw_data.split_attempt) == ("waiting", before + 1)


@pytest.mark.parametrize("grantee", ["group", "account"])
def test_deletion_waits_for_who_withdraws_a_share(grantee: str) -> None:
    raw_data = make_ready_dataset(make_account())
    bob, group = make_account("bob"), Group.objects.create(name="bob")
    bob.groups.add(group)
    share = share_raw_data(raw_data=raw_data, role="read", **{grantee: "bob"})
    going = {"group": group, "account": bob}[grantee]

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            # As a withdrawal does: first the share, and last of all the clock.
            Share.objects.select_for_update().get(pk=share.pk)
            deletion = pool.submit(do_in_thread, going.delete)
            wait_until_held_up(deletion)
            withdraw_share(share=share)
        deletion.result(DEADLINE_SECONDS)

    assert not Share.objects.exists()


@pytest.mark.parametrize("going", ["group", "account"])
def test_deletion_waits_for_who_leaves_a_group(going: str) -> None:
    bob, group = make_account("bob"), Group.objects.create(name="course")
    bob.groups.add(group)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            User.groups.through.objects.select_for_update().get(user=bob)
            deletion = pool.submit(do_in_thread, {"group": group, "account": bob}[going].delete)
            wait_until_held_up(deletion)
            bob.groups.remove(group)
        deletion.result(DEADLINE_SECONDS)

    assert not User.groups.through.objects.exists()
