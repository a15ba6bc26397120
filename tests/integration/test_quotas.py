"""Quotas of an account: what counts, what is refused, what is given back, what answers tell."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F, Sum
from django.db.models.functions import Now

from runapp.models import DailyUse, Quota, RawData, Submission, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.services.attempts import begin_attempt
from runapp.services.claims import (
    MOST_FALSE_STARTS,
    claim_fold,
    claim_split,
    end_split_in_error,
    reap_expired,
    return_fold,
    return_split,
)
from runapp.services.folds import cancel_fold
from runapp.services.quotas import set_quota
from runapp.services.raw_data import request_split
from runapp.services.retention import prune
from tests.factories import (
    CLASSIFIER,
    finish_fold,
    list_stored,
    make_account,
    make_broken_dataset,
    make_client,
    make_csv,
    make_fold,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
    pack,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db

OTHER = {"classifier.py": pack(CLASSIFIER + b"# other\n")}
BOTH = "submission, submission_fold"
UNLIMITED = {
    "stored_mb": None,
    "waiting_folds": None,
    "folds_per_day": None,
    "submissions_per_day": None,
}


@pytest.fixture
def account() -> User:
    return make_account()


@pytest.fixture
def dataset(account: User) -> RawData:
    return make_ready_dataset(account)


def limit(account: User, **changes: int | None) -> None:
    set_quota(account=account, changes=changes)


def count_folds(account: User) -> int:
    """Return the folds of all days that are counted."""
    return DailyUse.objects.filter(owner=account).aggregate(n=Sum("folds"))["n"] or 0


def count_submissions(account: User) -> int:
    return DailyUse.objects.filter(owner=account).aggregate(n=Sum("submissions"))["n"] or 0


def check_refused(response: Any, *, quota: str, retry_after: int | None = None) -> None:
    assert response.status_code == 429, response.content
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == (None, "quota_exceeded")
    assert response.json()["detail"] == error["message"]
    seconds = int(response["Retry-After"])
    assert 1 <= seconds <= 86_400
    assert retry_after in (None, seconds)
    assert response["RateLimit-Policy"].startswith(f'"{quota}";q=')
    assert response["RateLimit"].startswith(f'"{quota}";r=')


def test_without_quotas_nothing_is_told_and_all_is_counted(account: User, dataset: RawData) -> None:
    responses = [post_fold(make_client(account), dataset, databoard_sf_id=n) for n in range(3)]

    assert [response.status_code for response in responses] == [201] * 3
    assert not any("RateLimit" in response.headers for response in responses)
    use = DailyUse.objects.get()
    assert (use.owner, use.raw_data_id, use.folds, use.submissions) == (account, dataset.pk, 3, 1)
    assert not Quota.objects.exists()


def test_folds_of_a_day_are_as_many_as_the_quota(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=2)
    client = make_client(account)

    taken = [post_fold(client, dataset, databoard_sf_id=number) for number in (1, 2)]
    refused = post_fold(client, dataset, databoard_sf_id=3)

    assert [response.status_code for response in taken] == [201, 201]
    assert [response["RateLimit"].partition(";t=")[0] for response in taken] == [
        '"folds-per-day";r=1',
        '"folds-per-day";r=0',
    ]
    check_refused(refused, quota="folds-per-day")
    assert "This would bring today's folds to 3; the quota is 2." in refused.json()["detail"]
    assert SubmissionFold.objects.count() == count_folds(account) == 2


def test_limit_that_is_set_at_noon_knows_of_the_morning(account: User, dataset: RawData) -> None:
    make_fold(account, dataset)
    limit(account, folds_per_day=1)

    check_refused(post_fold(make_client(account), databoard_sf_id=2), quota="folds-per-day")


def test_another_day_begins_anew(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=1, submissions_per_day=1)
    make_fold(account, dataset)
    DailyUse.objects.update(day=F("day") - timedelta(days=1))

    response = post_fold(make_client(account), dataset, databoard_sf_id=2, databoard_s_id=2)

    assert response.status_code == 201
    assert DailyUse.objects.count() == 2


def test_refund_goes_to_the_day_of_the_post(account: User, dataset: RawData) -> None:
    fold = make_fold(account, dataset)
    yesterday = fold.counted_on - timedelta(days=1)
    SubmissionFold.objects.update(counted_on=yesterday)
    DailyUse.objects.update(day=yesterday)
    make_fold(account, databoard_sf_id=2)

    cancel_fold(fold=fold)

    counts = DailyUse.objects.order_by("day").values_list("folds", flat=True)
    assert list(counts) == [0, 1]


def test_waiting_folds_are_as_many_as_the_quota(account: User, dataset: RawData) -> None:
    limit(account, waiting_folds=1)
    client = make_client(account)
    make_fold(account, dataset)

    refused = post_fold(client, databoard_sf_id=2)
    work()
    taken = post_fold(client, databoard_sf_id=2)

    check_refused(refused, quota="waiting-folds", retry_after=60)
    assert taken.status_code == 201
    assert taken["RateLimit-Policy"] == '"waiting-folds";q=1'
    assert taken["RateLimit"] == '"waiting-folds";r=0'


def test_waiting_fold_may_be_posted_again_where_no_more_may_wait(
    account: User, dataset: RawData
) -> None:
    limit(account, waiting_folds=1)
    make_fold(account, dataset)

    response = post_fold(make_client(account), force="submission_fold")

    assert response.status_code == 201


def test_cancelling_makes_room_among_those_that_wait(account: User, dataset: RawData) -> None:
    limit(account, waiting_folds=1)
    cancel_fold(fold=make_fold(account, dataset))

    assert post_fold(make_client(account), databoard_sf_id=2).status_code == 201


def test_submissions_are_counted_for_each_dataset(account: User, dataset: RawData) -> None:
    limit(account, submissions_per_day=1)
    other = make_raw_data(account, name="other")
    client = make_client(account)

    first = post_fold(client, dataset)
    again = post_fold(client, dataset, databoard_sf_id=2)
    refused = post_fold(client, dataset, databoard_sf_id=3, databoard_s_id=2)
    elsewhere = post_fold(client, other, databoard_sf_id=4, databoard_s_id=3)

    assert [first.status_code, again.status_code, elsewhere.status_code] == [201] * 3
    check_refused(refused, quota="submissions-per-day")
    assert not Submission.objects.filter(databoard_s_id=2).exists()
    assert count_submissions(account) == 2


def test_new_code_counts_as_a_submission_and_the_same_code_does_not(
    account: User, dataset: RawData
) -> None:
    limit(account, submissions_per_day=2)
    client = make_client(account)
    make_fold(account, dataset)

    same = post_fold(client, dataset, force=BOTH)
    new = post_fold(client, dataset, force=BOTH, files=OTHER)
    refused = post_fold(client, dataset, force=BOTH)

    assert [same.status_code, new.status_code] == [201, 201]
    check_refused(refused, quota="submissions-per-day")
    assert count_submissions(account) == 2
    assert count_folds(account) == 3
    assert Submission.objects.get().n_bytes == len(CLASSIFIER) + len(b"# other\n")


def test_fold_of_known_code_is_taken_when_no_submission_is_left(
    account: User, dataset: RawData
) -> None:
    make_fold(account, dataset)
    make_fold(account, dataset, databoard_sf_id=2, databoard_s_id=2)
    limit(account, submissions_per_day=1)

    assert post_fold(make_client(account), databoard_sf_id=3).status_code == 201


def test_stored_bytes_are_files_code_and_predictions(account: User, dataset: RawData) -> None:
    finish_fold(account, dataset)

    stored = make_client(account).get("/runapp/account/").json()["quotas"]["stored_bytes"]

    # Of 24 and 6 rows with 3 classes, 8 bytes each.
    assert stored["used"] == len(make_csv()) + len(CLASSIFIER) + 30 * 3 * 8
    assert SubmissionFold.objects.get().predictions_bytes == 30 * 3 * 8


def test_dataset_over_the_quota_is_not_stored(account: User) -> None:
    limit(account, stored_mb=1)
    client = make_client(account)
    big = {"iris.csv": pack(make_csv() + b"," * (700 * 1024))}

    taken = client.post("/runapp/rawdata/", make_raw_data_body(files=big))
    before = list_stored()
    refused = client.post("/runapp/rawdata/", make_raw_data_body(name="two", files=big))

    assert taken.status_code == 201
    assert taken["RateLimit-Policy"] == '"stored-bytes";q=1048576;qu="content-bytes"'
    left = 2**20 - RawData.objects.get().n_bytes
    assert taken["RateLimit"] == f'"stored-bytes";r={left}'
    check_refused(refused, quota="stored-bytes", retry_after=3600)
    assert list_stored() == before


def test_code_over_the_quota_is_refused(account: User, dataset: RawData) -> None:
    limit(account, stored_mb=1)
    files = {"classifier.py": pack(b"#" * 2**20)}

    refused = post_fold(make_client(account), dataset, files=files)

    check_refused(refused, quota="stored-bytes", retry_after=3600)
    assert not SubmissionFold.objects.exists()


def test_new_code_over_the_quota_is_refused_and_the_old_stays(
    account: User, dataset: RawData
) -> None:
    make_fold(account, dataset)
    before = Submission.objects.values().get()
    limit(account, stored_mb=1)
    files = {"classifier.py": pack(b"#" * 2**20)}

    refused = post_fold(make_client(account), dataset, files=files, force=BOTH)

    check_refused(refused, quota="stored-bytes")
    assert Submission.objects.values().get() == before
    assert count_folds(account) == 1


def test_deleting_gives_bytes_and_places_back_but_not_the_days_counts(
    account: User, dataset: RawData
) -> None:
    make_fold(account, dataset)
    client = make_client(account)

    client.delete(f"/runapp/rawdata/{dataset.pk}/")

    quotas = client.get("/runapp/account/").json()["quotas"]
    assert quotas["stored_bytes"]["used"] == quotas["waiting_folds"]["used"] == 0
    assert quotas["folds_per_day"]["used"] == 1


def test_predictions_that_are_gone_do_not_count(account: User, dataset: RawData) -> None:
    finish_fold(account, dataset)
    client = make_client(account)

    post_fold(client, force="submission_fold")

    assert SubmissionFold.objects.get().predictions_bytes == 0


def test_pruned_predictions_do_not_count(account: User, dataset: RawData) -> None:
    finish_fold(account, dataset)
    SubmissionFold.objects.update(finished_at=Now() - timedelta(days=9), new=False)

    list(prune(days=7))

    assert SubmissionFold.objects.get().predictions_bytes == 0


def test_old_counts_are_pruned(account: User, dataset: RawData) -> None:
    make_fold(account, dataset)
    DailyUse.objects.update(day=F("day") - timedelta(days=40))
    make_fold(account, databoard_sf_id=2)

    removed = {removal.what: removal.count for removal in prune()}

    assert removed["daily counts"] == 1
    assert DailyUse.objects.get().folds == 1


def test_forced_post_counts_as_a_fold(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=2)
    finish_fold(account, dataset)
    client = make_client(account)

    taken = post_fold(client, force="submission_fold")
    work()
    refused = post_fold(client, force="submission_fold")

    assert taken.status_code == 201
    check_refused(refused, quota="folds-per-day")
    assert SubmissionFold.objects.get().state == "TESTED"


def test_refused_post_counts_nothing(account: User, dataset: RawData) -> None:
    make_fold(account, dataset)
    client = make_client(account)

    statuses = [
        post_fold(client).status_code,
        post_fold(client, dataset, databoard_sf_id=2, files=OTHER).status_code,
        post_fold(client, databoard_sf_id=3, databoard_s_id=9).status_code,
    ]

    assert statuses == [400, 409, 400]
    assert (count_folds(account), count_submissions(account)) == (1, 1)


@pytest.mark.parametrize("name", ["waiting_folds", "folds_per_day", "submissions_per_day"])
def test_nothing_is_taken_where_the_quota_is_nothing(
    name: str, account: User, dataset: RawData
) -> None:
    limit(account, **{name: 0})

    check_refused(post_fold(make_client(account), dataset), quota=name.replace("_", "-"))


def test_setting_counts_for_all_and_an_own_quota_before_it(
    account: User, dataset: RawData, settings: Any
) -> None:
    settings.QUOTAS = {**UNLIMITED, "folds_per_day": 1}
    bob = make_account("bob")
    theirs = make_ready_dataset(bob)
    limit(bob, folds_per_day=2)

    mine = [post_fold(make_client(account), dataset, databoard_sf_id=n) for n in range(3)]
    his = [post_fold(make_client(bob), theirs, databoard_sf_id=n) for n in range(3)]

    assert [response.status_code for response in mine] == [201, 429, 429]
    assert [response.status_code for response in his] == [201, 201, 429]


def test_quota_goes_back_to_the_setting(account: User, dataset: RawData, settings: Any) -> None:
    settings.QUOTAS = {**UNLIMITED, "folds_per_day": 1}
    limit(account, folds_per_day=0)
    limit(account, folds_per_day=None)

    assert post_fold(make_client(account), dataset).status_code == 201


def test_superuser_has_no_quotas(settings: Any) -> None:
    settings.QUOTAS = dict.fromkeys(UNLIMITED, 0)
    root = make_account("root", is_superuser=True)
    limit(root, folds_per_day=0)
    client = make_client(root)

    dataset = client.post("/runapp/rawdata/", make_raw_data_body())
    fold = post_fold(client, RawData.objects.get())

    assert [dataset.status_code, fold.status_code] == [201, 201]
    assert "RateLimit" not in fold.headers
    assert count_folds(root) == 1


def test_cancelled_waiting_fold_is_refunded_once(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=5)
    make_fold(account, dataset)
    client = make_client(account)

    cancelled = client.delete("/runapp/submissionfold/11/")
    again = client.delete("/runapp/submissionfold/11/")

    assert [cancelled.status_code, again.status_code] == [200, 409]
    assert cancelled["RateLimit"].startswith('"folds-per-day";r=5;t=')
    assert "RateLimit" not in again.headers
    assert (count_folds(account), count_submissions(account)) == (0, 1)
    assert SubmissionFold.objects.get().counted_on is None


def test_cancelled_running_fold_is_not_refunded(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=5)
    make_fold(account, dataset)
    claim_fold(worker="worker-1")

    cancelled = make_client(account).delete("/runapp/submissionfold/11/")

    assert cancelled.status_code == 202
    assert "RateLimit" not in cancelled.headers
    assert count_folds(account) == 1


def test_superuser_who_cancels_gives_back_to_the_owner(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=5)
    make_fold(account, dataset)
    root = make_client(make_account("root", is_superuser=True))

    cancelled = root.delete("/runapp/submissionfold/11/")

    assert cancelled.status_code == 200
    assert "RateLimit" not in cancelled.headers
    assert count_folds(account) == 0


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.SETUP_FAILED])
def test_fold_that_ends_by_our_fault_is_refunded(
    outcome: Outcome, account: User, dataset: RawData
) -> None:
    fold = finish_fold(account, dataset, outcome=outcome)

    assert fold.error_code in ("worker_lost", "internal_error")
    assert (count_folds(account), fold.counted_on) == (0, None)


@pytest.mark.parametrize(
    "outcome", [Outcome.TESTED, Outcome.SUBMISSION_ERROR, Outcome.MEMORY_LIMIT, Outcome.KILLED]
)
def test_fold_that_ends_of_its_own_is_not_refunded(
    outcome: Outcome, account: User, dataset: RawData
) -> None:
    finish_fold(account, dataset, outcome=outcome)

    assert count_folds(account) == 1


def test_fold_that_a_lost_worker_gives_back_is_still_counted(
    account: User, dataset: RawData
) -> None:
    make_fold(account, dataset)
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None
    begin_attempt(fold=claimed)

    return_fold(claimed, reason="", is_spent=True, error_code="worker_lost")

    assert count_folds(account) == 1


def test_fold_whose_workers_are_lost_before_it_begins_is_refunded(
    account: User, dataset: RawData
) -> None:
    fold = make_fold(account, dataset)
    for _ in range(MOST_FALSE_STARTS):
        claim_fold(worker="worker-1")
        SubmissionFold.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
        reap_expired()

    fold.refresh_from_db()
    assert fold.error_code == "worker_lost"
    assert count_folds(account) == 0


def test_refunded_fold_that_is_posted_again_counts_again(account: User, dataset: RawData) -> None:
    finish_fold(account, dataset, outcome=Outcome.LOST)

    post_fold(make_client(account), force="submission_fold")
    work(outcome=Outcome.LOST)

    assert count_folds(account) == 0
    use = DailyUse.objects.get()
    assert (use.folds, use.submissions) == (0, 1)


def test_folds_that_fail_with_their_code_are_not_refunded(account: User, dataset: RawData) -> None:
    make_client(account).patch(f"/runapp/rawdata/{dataset.pk}/", {"fail_fast": True})
    for number in range(3):
        make_fold(account, dataset, databoard_sf_id=number)

    work(outcome=Outcome.SUBMISSION_ERROR, is_before_fit=True)

    assert set(SubmissionFold.objects.values_list("state", flat=True)) == {"ERROR"}
    assert count_folds(account) == 3


def test_folds_on_a_dataset_that_cannot_be_split_are_not_refunded(account: User) -> None:
    dataset = make_raw_data(account)
    make_fold(account, dataset)
    request_split(raw_data=dataset, held_out_test=0.5, random_state=1, force=True)
    split = claim_split(worker="worker-1")
    assert split is not None

    end_split_in_error(split, error_code="split_error", log_messages="No such column.")

    assert SubmissionFold.objects.get().error_code == "split_error"
    assert count_folds(account) == 1


def test_folds_whose_split_is_lost_by_our_fault_are_refunded(account: User, settings: Any) -> None:
    settings.MAX_ATTEMPTS = 1
    dataset = make_broken_dataset(account)
    make_fold(account, dataset)  # ends at once, by the organiser's fault
    request_split(raw_data=dataset, held_out_test=0.5, random_state=1, force=True)
    for number in (2, 3):
        make_fold(account, databoard_sf_id=number)
    split = claim_split(worker="worker-1")
    assert split is not None

    return_split(split, reason="Lost.", is_failure=True, error_code="worker_lost")

    assert set(SubmissionFold.objects.values_list("error_code", flat=True)) == {"split_error"}
    counted = SubmissionFold.objects.exclude(counted_on=None)
    assert counted.get().databoard_sf_id == 11
    assert count_folds(account) == 1


def test_plain_post_needs_two_queries_for_its_counts(
    account: User, dataset: RawData, django_assert_max_num_queries: Any
) -> None:
    client = make_client(account)
    make_fold(account, dataset)

    with django_assert_max_num_queries(30) as queries:
        post_fold(client, databoard_sf_id=2)

    about_quotas = [
        query["sql"]
        for query in queries.captured_queries
        if "runapp_quota" in query["sql"] or "runapp_dailyuse" in query["sql"]
    ]
    assert len(about_quotas) == 2
