"""Quotas where several post, cancel and lose at once: nothing is counted or given back twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Sum
from django.db.models.functions import Now

from runapp.accounts.quotas import set_quota
from runapp.common.exceptions import Conflict
from runapp.models import DailyUse, FoldAttempt, Quota, RawData, Submission, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.scheduling.attempts import begin_attempt
from runapp.scheduling.claims import claim_fold, reap_expired
from runapp.scheduling.control import cancel_fold
from tests.effort import FACTOR
from tests.factories import (
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_raw_data_body,
    make_ready_dataset,
    pack,
    post_fold,
    read_rows,
    work,
)
from tests.integration.test_concurrency import run_at_once

pytestmark = pytest.mark.django_db(transaction=True)

N_ACCOUNTS = 10
FOLDS_PER_DAY, WAITING_FOLDS, SUBMISSIONS_PER_DAY = 12, 6, 2


@pytest.fixture(autouse=True)
def hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep hints from the queue, which no worker reads here."""
    monkeypatch.setattr("runapp.scheduling.dispatch.publish", lambda *, task_id=None: True)


def limit(account: User, **changes: int | None) -> None:
    set_quota(account=account, changes=changes)


def count_folds(account: User) -> int:
    return DailyUse.objects.filter(owner=account).aggregate(n=Sum("folds"))["n"] or 0


def count_statuses(responses: Iterable[Any]) -> Counter[int]:
    return Counter(response.status_code for response in responses)


@pytest.mark.parametrize("quota", ["folds_per_day", "waiting_folds"])
def test_posts_at_once_never_go_over_a_quota(quota: str) -> None:
    account = make_account()
    datasets = [make_ready_dataset(account, name=name) for name in ("one", "two")]
    limit(account, **{quota: 3})

    responses = run_at_once(
        lambda number: post_fold(
            make_client(account),
            datasets[number % 2],
            databoard_sf_id=number,
            databoard_s_id=number,
        ),
        threads=8,
    )

    assert count_statuses(responses) == {201: 3, 429: 5}
    assert SubmissionFold.objects.count() == count_folds(account) == 3


def test_submissions_at_once_never_go_over_a_quota() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    limit(account, submissions_per_day=2)

    responses = run_at_once(
        lambda number: post_fold(
            make_client(account), dataset, databoard_sf_id=number, databoard_s_id=number
        ),
        threads=6,
    )

    assert count_statuses(responses) == {201: 2, 429: 4}
    assert Submission.objects.count() == 2


def test_datasets_at_once_never_go_over_a_quota() -> None:
    account = make_account()
    limit(account, stored_mb=1)
    files = {"iris.csv": pack(b"a,species\n" + b"1,x\n" * 100_000)}

    responses = run_at_once(
        lambda number: make_client(account).post(
            "/runapp/rawdata/", make_raw_data_body(name=str(number), files=files)
        ),
        threads=4,
    )

    assert count_statuses(responses) == {201: 2, 429: 2}
    assert sum(RawData.objects.values_list("n_bytes", flat=True)) <= 2**20


def test_counts_are_exact_where_nothing_is_limited_or_locked() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)

    run_at_once(
        lambda number: post_fold(
            make_client(account), dataset, databoard_sf_id=number, databoard_s_id=number % 3
        ),
        threads=9,
    )

    use = DailyUse.objects.get()
    assert (use.folds, use.submissions) == (9, 3)
    assert not Quota.objects.exists()


def test_bulks_at_once_share_what_is_left() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    limit(account, folds_per_day=25)

    def send(number: int) -> Counter[int]:
        bodies = [
            make_fold_body(
                dataset, databoard_sf_id=100 * number + place, databoard_s_id=10 * number
            )
            for place in range(10)
        ]
        response = make_client(account).post("/runapp/submissionfold/bulk/", bodies)
        return Counter(row["status"] for row in read_rows(response))

    counts = sum(run_at_once(send, threads=4), Counter())

    assert counts == {201: 25, 429: 15}
    assert SubmissionFold.objects.count() == count_folds(account) == 25


def test_cancel_against_claim_refunds_only_what_was_not_claimed() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    fold = make_fold(account, dataset)

    was_running, _ = run_at_once(
        lambda number: claim_fold(worker="worker-1") if number else cancel_fold(fold=fold),
        threads=2,
    )

    assert count_folds(account) == int(bool(was_running))


def test_fold_that_is_cancelled_many_times_at_once_is_refunded_once() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    fold = make_fold(account, dataset)
    make_fold(account, databoard_sf_id=2)

    responses = run_at_once(
        lambda number: make_client(account).delete("/runapp/submissionfold/11/"), threads=4
    )

    assert count_statuses(responses) == {200: 1, 409: 3}
    assert count_folds(account) == 1
    fold.refresh_from_db()
    assert fold.counted_on is None


def test_fold_that_several_reapers_find_lost_is_refunded_once(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 1
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in (1, 2):
        make_fold(account, dataset, databoard_sf_id=number)
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None
    begin_attempt(fold=claimed)
    SubmissionFold.objects.filter(pk=claimed.pk).update(
        lease_expires_at=Now() - timedelta(seconds=1)
    )

    run_at_once(lambda number: reap_expired(), threads=4)

    claimed.refresh_from_db()
    assert claimed.error_code == "worker_lost"
    assert count_folds(account) == 1


def test_quota_rows_first_made_at_once_are_one(settings: Any) -> None:
    settings.QUOTAS = {**settings.QUOTAS, "folds_per_day": 2}
    account = make_account()
    dataset = make_ready_dataset(account)

    responses = run_at_once(
        lambda number: post_fold(
            make_client(account), dataset, databoard_sf_id=number, databoard_s_id=number
        ),
        threads=5,
    )

    assert count_statuses(responses) == {201: 2, 429: 3}
    assert Quota.objects.count() == 1


class Participant:
    """Posts, cancels and repeats folds of one account, several of them at once."""

    def __init__(self, account: User, dataset: RawData, *, seed: int) -> None:
        self.account, self.dataset = account, dataset
        self.counts: Counter[str] = Counter()
        self._client = make_client(account)
        self._random = random.Random(seed)
        self._first_id = 1000 * seed

    def act(self) -> None:
        number = self._first_id + self._random.randrange(8)
        action = self._random.choice(
            (self.post, self.post, self.post_many, self.cancel, self.force)
        )
        action(number)

    def post(self, number: int) -> None:
        response = post_fold(
            self._client,
            self.dataset,
            databoard_sf_id=number,
            databoard_s_id=self._random.randrange(3),
        )
        self._note(response.status_code)

    def post_many(self, number: int) -> None:
        bodies = [
            make_fold_body(self.dataset, databoard_sf_id=number + place, databoard_s_id=place % 3)
            for place in range(4)
        ]
        for row in read_rows(self._client.post("/runapp/submissionfold/bulk/", bodies)):
            self._note(row["status"])

    def force(self, number: int) -> None:
        rows = SubmissionFold.objects.filter(owner=self.account, databoard_sf_id=number)
        submission = rows.values_list("submission__databoard_s_id", flat=True).first()
        response = post_fold(
            self._client,
            databoard_sf_id=number,
            databoard_s_id=submission or 0,
            force="submission_fold",
        )
        self._note(response.status_code)

    def cancel(self, number: int) -> None:
        fold = SubmissionFold.objects.filter(owner=self.account, databoard_sf_id=number).first()
        if fold is None:
            return
        try:
            was_running = cancel_fold(fold=fold)
        except Conflict:
            return
        self.counts["refunded"] += not was_running

    def _note(self, status: int) -> None:
        assert status in (201, 400, 409, 429), status
        self.counts["accepted"] += status == 201
        self.counts["refused"] += status == 429


def test_ten_accounts_at_once_keep_their_quotas_and_their_sums(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 1
    # By the settings for half of them, by their own quotas for the others.
    settings.QUOTAS = {
        **settings.QUOTAS,
        "folds_per_day": FOLDS_PER_DAY,
        "waiting_folds": WAITING_FOLDS,
        "submissions_per_day": SUBMISSIONS_PER_DAY,
    }
    accounts = [make_account(f"account-{number}") for number in range(N_ACCOUNTS)]
    datasets = [make_ready_dataset(account) for account in accounts]
    for account in accounts[::2]:
        limit(account, folds_per_day=FOLDS_PER_DAY - 2, waiting_folds=WAITING_FOLDS - 2)
    # Two threads for each account; every sixth beside them works, and loses every other fold.
    everybody = [
        Participant(account, dataset, seed=seed)
        for seed in (1, 2)
        for account, dataset in zip(accounts, datasets, strict=True)
    ]
    outcomes = [Outcome.TESTED, Outcome.LOST, Outcome.SUBMISSION_ERROR]

    def act(number: int) -> None:
        for turn in range(12 * FACTOR):
            if number < len(everybody):
                everybody[number].act()
            else:
                work(outcome=outcomes[turn % 3], most=3)

    run_at_once(act, threads=len(everybody) + 3)

    n_refused = 0
    for place, account in enumerate(accounts):
        own = sum((one.counts for one in everybody if one.account == account), Counter())
        folds = SubmissionFold.objects.filter(owner=account)
        submissions = Submission.objects.filter(owner=account)
        lost = FoldAttempt.objects.filter(fold__owner=account, outcome="lost")
        use = DailyUse.objects.get(owner=account)
        # Each lost attempt has ended its fold, which was refunded then.
        assert use.folds == own["accepted"] - own["refunded"] - lost.count()
        assert use.folds <= FOLDS_PER_DAY - (0 if place % 2 else 2)
        assert use.submissions == submissions.count() <= SUBMISSIONS_PER_DAY
        assert folds.filter(phase="waiting").count() <= WAITING_FOLDS - (0 if place % 2 else 2)
        n_refused += own["refused"]
    assert n_refused > 0
    assert FoldAttempt.objects.filter(outcome="lost").exists()
