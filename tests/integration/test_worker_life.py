"""What a worker does beside running folds: ring, reap, and leave."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models.functions import Now

from runapp import tasks
from runapp.common.transitions import Phase
from runapp.datasets.raw_data import request_split
from runapp.execution import worker
from runapp.execution.heartbeat import Heartbeat
from runapp.models import FoldAttempt, SubmissionFold, Worker
from runapp.runner.contract import FrameKind
from runapp.scheduling.attempts import begin_attempt
from runapp.scheduling.claims import claim_fold, claim_split, reap_expired
from runapp.scheduling.outcomes import MOST_FALSE_STARTS
from tests.factories import (
    make_account,
    make_client,
    make_fold,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    work,
)

pytestmark = pytest.mark.django_db

# A slot of this process, by a number that lives; and one that no process has.
LIVE_SLOT = f"worker-1/{os.getpid()}/{os.getppid()}"
DEAD_PID = 2**22 + 1


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(worker.dispatch, "publish", lambda: calls.append("rung"))
    return calls


def lose_workers() -> None:
    SubmissionFold.objects.filter(phase=Phase.RUNNING).update(
        lease_expires_at=Now() - timedelta(seconds=1)
    )
    reap_expired()


def post_many(n_folds: int) -> Any:
    account = make_account()
    raw_data = make_ready_dataset(account)
    for number in range(n_folds):
        make_fold(account, raw_data, databoard_sf_id=number)
    return raw_data


@pytest.mark.parametrize(("n_folds", "n_rung"), [(0, 0), (1, 1), (9, 2)])
def test_worker_rings_for_its_idle_slots_and_not_for_all_that_waits(
    n_folds: int, n_rung: int, rung: list[str]
) -> None:
    post_many(n_folds + 1)
    claim_fold(worker=LIVE_SLOT)

    worker._ring(name="worker-1", slots=3)

    assert len(rung) == n_rung


@pytest.mark.parametrize(
    ("holder", "n_rung"),
    [
        (LIVE_SLOT, 2),
        (f"worker-1/{os.getpid()}/{DEAD_PID}", 3),
        (f"worker-1/{os.getppid()}/{os.getpid()}", 3),
    ],
    ids=["slot-at-work", "killed-slot", "worker-before"],
)
def test_what_the_killed_hold_keeps_no_slot_from_being_rung_for(
    holder: str, n_rung: int, rung: list[str]
) -> None:
    post_many(9)
    claim_fold(worker=holder)

    worker._ring(name="worker-1", slots=3)

    assert len(rung) == n_rung


def test_slot_that_splits_is_not_rung_for(rung: list[str]) -> None:
    raw_data = post_many(9)
    unsplit = make_raw_data(raw_data.owner, name="unsplit")
    request_split(raw_data=unsplit, held_out_test=0.5, random_state=1, force=False)
    claim_split(worker=LIVE_SLOT)

    worker._ring(name="worker-1", slots=3)

    assert len(rung) == 2


def test_worker_rings_for_a_split_too(rung: list[str]) -> None:
    raw_data = make_raw_data(make_account())
    request_split(raw_data=raw_data, held_out_test=0.5, random_state=1, force=False)

    worker._ring(name="worker-1", slots=3)

    assert len(rung) == 1


@pytest.mark.parametrize("has_begun", [False, True])
def test_lost_attempt_is_spent_if_the_code_had_begun(has_begun: bool) -> None:
    post_many(1)
    fold = claim_fold(worker="worker-1")
    assert fold is not None
    if has_begun:
        begin_attempt(fold=fold)

    lose_workers()

    fold.refresh_from_db()
    assert (fold.phase, fold.failures, fold.false_starts) == (
        Phase.WAITING,
        int(has_begun),
        int(not has_begun),
    )
    outcomes = FoldAttempt.objects.values_list("outcome", flat=True)
    assert list(outcomes) == (["lost"] if has_begun else [])


def test_fold_that_is_never_begun_comes_to_an_end() -> None:
    post_many(1)

    for _ in range(MOST_FALSE_STARTS):
        assert claim_fold(worker="worker-1") is not None
        lose_workers()

    fold = SubmissionFold.objects.get()
    assert (fold.state, fold.error_code, fold.failures) == ("ERROR", "worker_lost", 0)
    assert fold.log_messages == f"The worker was lost. Tried {MOST_FALSE_STARTS} times."


def test_result_of_an_attempt_that_was_overtaken_is_refused_and_counted() -> None:
    post_many(1)

    def overtake(kind: FrameKind) -> None:
        if kind is FrameKind.TEST_PREDICTIONS:
            lose_workers()
            assert claim_fold(worker="worker-2") is not None

    work(at_stage=overtake, most=1)

    fold = SubmissionFold.objects.get()
    assert (fold.attempt, fold.phase, fold.worker) == (2, Phase.RUNNING, "worker-2")
    assert not fold.predictions.exists()
    attempt = FoldAttempt.objects.get(number=1)
    assert (attempt.outcome, attempt.refused) == ("lost", 1)
    assert attempt.usage["train_seconds"] == 1.5


def test_reaper_of_celery_beat_returns_what_is_lost() -> None:
    post_many(1)
    claim_fold(worker="worker-1")
    SubmissionFold.objects.update(lease_expires_at=Now() - timedelta(seconds=1))

    tasks.reap()

    assert SubmissionFold.objects.get().phase == Phase.WAITING


def test_worker_that_leaves_gives_back_what_its_slots_still_hold() -> None:
    raw_data = post_many(2)
    unsplit = make_raw_data(raw_data.owner, name="unsplit")
    request_split(raw_data=unsplit, held_out_test=0.5, random_state=1, force=False)
    make_live_worker("worker-1")
    pool = f"worker-1/{os.getpid()}"
    mine = claim_fold(worker=f"{pool}/17")
    claim_split(worker=f"{pool}/18")
    # Another's of the same name, which goes on.
    other = claim_fold(worker="worker-1/1/17")
    assert mine is not None
    assert other is not None
    begin_attempt(fold=mine)

    worker.leave(sender=SimpleNamespace(hostname="worker-1"))
    worker._stopping.clear()

    assert not Worker.objects.exists()
    mine.refresh_from_db()
    other.refresh_from_db()
    unsplit.refresh_from_db()
    assert (mine.phase, mine.failures, other.phase) == (Phase.WAITING, 0, Phase.RUNNING)
    assert (unsplit.split_phase, unsplit.split_failures) == ("waiting", 0)
    assert FoldAttempt.objects.get().outcome == "returned"


def test_second_farewell_ends_the_grace_only_if_it_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    farewell = worker.Farewell()

    farewell.announce(grace_seconds=60)
    now += 0.4
    farewell.announce(grace_seconds=60)
    is_due_at_once = farewell.is_due()
    now += 0.2
    farewell.announce(grace_seconds=60)

    assert farewell.is_announced()
    assert (is_due_at_once, farewell.is_due()) == (False, True)


def test_wait_after_the_end_of_a_run_is_not_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    heart = Heartbeat(
        name="fold 1", check=lambda: True, renew=lambda: True, is_leaving=lambda: False
    )

    now += 3
    heart.note_end()
    now += 60

    assert heart.seconds == pytest.approx(3)


def test_detail_of_a_fold_among_many_asks_few_questions(
    django_assert_max_num_queries: Any,
) -> None:
    raw_data = post_many(12)
    make_live_worker(broken=[])
    client = make_client(raw_data.owner)
    client.get("/runapp/submissionfold/3/")

    with django_assert_max_num_queries(15):
        row = client.get("/runapp/submissionfold/11/").json()

    assert row["queue_position"] == 12
