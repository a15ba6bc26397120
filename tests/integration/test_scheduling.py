"""Which fold is next: priority, fair share, rank, pause, cap, and what the waiting are told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from runapp.models import FairShare, SubmissionFold, Worker
from runapp.runner.contract import Outcome
from runapp.scheduling.claims import claim_fold
from runapp.scheduling.fair_share import HALF_LIFE_SECONDS, decay_shares
from runapp.scheduling.outcomes import return_fold
from runapp.scheduling.position import Line, count_ahead
from runapp.scheduling.queue import count_claimable, explain_head
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    post_fold,
    work,
)

pytestmark = pytest.mark.django_db


def post_many(account: Any, raw_data: Any, *, submissions: Iterable[int], **changes: Any) -> None:
    """Post a fold for each submission named, with ids that count on."""
    for submission in submissions:
        number = SubmissionFold.objects.filter(owner=account).count()
        make_fold(account, raw_data, databoard_sf_id=number, databoard_s_id=submission, **changes)


def claim_all(*, most: int = 100) -> list[tuple[str, int]]:
    """Claim what waits; return owners and submissions in the order of the claims."""
    claimed = []
    for _ in range(most):
        fold = claim_fold(worker="worker-1")
        if fold is None:
            break
        claimed.append((fold.owner.username, fold.submission.databoard_s_id or 0))
    return claimed


def show(account: Any, number: int) -> dict[str, Any]:
    return make_client(account).get(f"/runapp/submissionfold/{number}/").json()


def test_high_goes_before_low_whoever_posted_it() -> None:
    ada, eve = make_account("ada"), make_account("eve")
    post_many(ada, make_ready_dataset(ada), submissions=[1])
    FairShare.objects.create(owner=eve, seconds=1e6, expected_seconds=1, counted_at=Now())
    post_many(eve, make_ready_dataset(eve), submissions=[2, 2], priority="H")

    assert claim_all() == [("eve", 2), ("eve", 2), ("ada", 1)]


def test_first_fold_of_each_submission_goes_before_the_second_of_any() -> None:
    ada = make_account("ada")
    iris, digits = make_ready_dataset(ada), make_ready_dataset(ada, name="again")
    post_many(ada, iris, submissions=[1, 1, 1])
    post_many(ada, digits, submissions=[2, 2])
    post_many(ada, iris, submissions=[3])

    assert [submission for _, submission in claim_all()] == [1, 2, 3, 1, 2, 1]


@pytest.mark.sqlite
def test_next_fold_is_found_by_probes_alone_when_the_tables_are_analysed() -> None:
    ada = make_account("ada")
    fold = make_fold(ada, make_ready_dataset(ada))
    columns = {field.attname: getattr(fold, field.attname) for field in fold._meta.fields}
    del columns["id"], columns["databoard_sf_id"]
    SubmissionFold.objects.bulk_create(SubmissionFold(**columns) for _ in range(2000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")

    plan = explain_head()

    assert "USING INDEX fold_queue" in plan
    assert "BLOOM FILTER ON fold " not in plan
    assert "SCAN fold" not in plan


def test_account_with_the_least_recent_time_goes_first() -> None:
    ada, eve = make_account("ada"), make_account("eve")
    iris = make_ready_dataset(ada)
    finish_fold(ada, iris, databoard_s_id=9)
    post_many(ada, iris, submissions=[1, 1])
    post_many(eve, make_ready_dataset(eve), submissions=[2])

    assert claim_all(most=1) == [("eve", 2)]


def test_few_folds_are_done_before_many_of_another_have_gone_far() -> None:
    ada, eve = make_account("ada"), make_account("eve")
    post_many(ada, make_ready_dataset(ada), submissions=range(60))
    post_many(eve, make_ready_dataset(eve), submissions=[100] * 5)
    done = []

    while {"eve"} & set(
        SubmissionFold.objects.filter(phase="waiting").values_list("owner__username", flat=True)
    ):
        fold = claim_fold(worker="worker-1")
        assert fold is not None
        done.append(fold.owner.username)
        work_off(fold, seconds=2)

    assert done.count("eve") == 5
    assert done.count("ada") < 10


def work_off(fold: SubmissionFold, *, seconds: float) -> None:
    """End a claimed fold as if it had run for so long."""
    SubmissionFold.objects.filter(pk=fold.pk).update(phase="done", state="ERROR")
    FairShare.objects.filter(owner=fold.owner).update(
        seconds=F("seconds") + seconds - fold.charged_seconds
    )


def test_claim_charges_what_is_expected_and_the_end_what_was_used() -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada)
    make_fold(ada, raw_data)

    fold = claim_fold(worker="worker-1")

    assert fold is not None
    assert FairShare.objects.get(owner=ada).seconds == fold.charged_seconds == 10.0
    return_fold(fold, reason="", is_spent=False, error_code="worker_lost")
    assert FairShare.objects.get(owner=ada).seconds == pytest.approx(0, abs=0.01)
    work()
    share = FairShare.objects.get(owner=ada)
    assert 0 < share.seconds < 5
    assert 8 < share.expected_seconds < 9.5


def test_cancelled_running_fold_is_charged_the_time_that_it_took() -> None:
    ada = make_account("ada")
    make_fold(ada, make_ready_dataset(ada))
    fold = claim_fold(worker="worker-1")
    assert fold is not None
    SubmissionFold.objects.update(started_at=Now() - timedelta(seconds=100))

    make_client(ada).delete("/runapp/submissionfold/11/")

    assert FairShare.objects.get(owner=ada).seconds == pytest.approx(100, abs=5)


def test_recent_time_counts_half_after_an_hour() -> None:
    ada = make_account("ada")
    hour = timedelta(seconds=HALF_LIFE_SECONDS)
    FairShare.objects.create(owner=ada, seconds=80, expected_seconds=1, counted_at=Now() - 2 * hour)

    decay_shares()
    decay_shares()

    share = FairShare.objects.get(owner=ada)
    assert share.seconds == pytest.approx(20, rel=0.01)


def test_charge_that_has_decayed_is_taken_back_as_what_is_left_of_it() -> None:
    ada = make_account("ada")
    make_fold(ada, make_ready_dataset(ada))
    fold = claim_fold(worker="worker-1")
    assert fold is not None
    hour = timedelta(seconds=HALF_LIFE_SECONDS)
    SubmissionFold.objects.update(started_at=Now() - hour, charged_seconds=600)
    FairShare.objects.update(seconds=1600, counted_at=Now() - hour)
    fold.refresh_from_db()

    decay_shares()
    return_fold(fold, reason="", is_spent=False, error_code="worker_lost")

    assert FairShare.objects.get(owner=ada).seconds == pytest.approx(500, rel=0.01)


def test_first_charge_after_a_night_is_not_decayed_by_the_night() -> None:
    ada = make_account("ada")
    night = timedelta(hours=8)
    FairShare.objects.create(
        owner=ada, seconds=0.0005, expected_seconds=60, counted_at=Now() - night
    )
    make_fold(ada, make_ready_dataset(ada))

    claim_fold(worker="worker-1")
    decay_shares()

    assert FairShare.objects.get(owner=ada).seconds == pytest.approx(60, rel=0.01)


def test_charge_is_decayed_with_what_was_used_before() -> None:
    ada = make_account("ada")
    hour = timedelta(seconds=HALF_LIFE_SECONDS)
    FairShare.objects.create(owner=ada, seconds=40, expected_seconds=60, counted_at=Now() - hour)
    make_fold(ada, make_ready_dataset(ada))

    claim_fold(worker="worker-1")
    decay_shares()

    assert FairShare.objects.get(owner=ada).seconds == pytest.approx(50, rel=0.01)


def test_admin_changes_nothing_of_a_share_but_its_cap(admin_client: Any) -> None:
    ada = make_account("ada")
    share = FairShare.objects.create(owner=ada, seconds=7, expected_seconds=1, counted_at=Now())
    path = f"/admin/runapp/fairshare/{share.pk}/change/"

    response = admin_client.post(path, {"cap": "3", "seconds": "0"})

    assert response.status_code == 302
    share.refresh_from_db()
    assert (share.cap, share.seconds) == (3, 7)


def test_cap_of_all_accounts_lets_the_next_one_by(settings: Any) -> None:
    settings.ACCOUNT_CAP = 2
    ada, eve = make_account("ada"), make_account("eve")
    post_many(ada, make_ready_dataset(ada), submissions=[1, 2, 3], priority="H")
    post_many(eve, make_ready_dataset(eve), submissions=[4])

    assert count_claimable(most=10) == 3
    assert claim_all() == [("ada", 1), ("ada", 2), ("eve", 4)]
    make_live_worker()
    assert show(ada, 2)["waiting_because"] == "account_cap"


def test_cap_of_an_account_counts_more_than_the_setting(settings: Any) -> None:
    settings.ACCOUNT_CAP = 1
    ada = make_account("ada")
    FairShare.objects.create(owner=ada, cap=3, expected_seconds=1, counted_at=Now())
    post_many(ada, make_ready_dataset(ada), submissions=range(5))

    assert len(claim_all()) == 3


def test_account_that_may_run_nothing_is_told_so() -> None:
    ada = make_account("ada")
    FairShare.objects.create(owner=ada, cap=0, expected_seconds=1, counted_at=Now())
    post_many(ada, make_ready_dataset(ada), submissions=[1])
    make_live_worker()

    shown = show(ada, 0)

    assert claim_all() == []
    assert shown["waiting_because"] == "account_cap"
    assert shown["estimated_start"] is None


@pytest.mark.postgresql
def test_count_of_what_may_be_claimed_probes_indexes_as_a_claim_does() -> None:
    with CaptureQueriesContext(connection) as queries:
        count_claimable(most=1)

    words = [query["sql"] for query in queries]
    [probing] = [number for number, text in enumerate(words) if "enable_seqscan = off" in text]
    [asking] = [number for number, text in enumerate(words) if "RECURSIVE" in text]
    assert probing < asking


def test_paused_dataset_keeps_its_folds_until_it_is_resumed() -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada)
    make_fold(ada, raw_data)
    client, path = make_client(ada), f"/runapp/rawdata/{raw_data.pk}/"

    paused = client.patch(path, {"paused": True})

    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    assert count_claimable(most=10) == 0
    assert claim_fold(worker="worker-1") is None
    row = show(ada, 11)
    assert row["waiting_because"] == "paused"
    assert row["queue_position"] is row["estimated_start"] is None
    client.patch(path, {"paused": False})
    assert claim_fold(worker="worker-1") is not None


def test_pause_of_a_dataset_lets_others_and_running_folds_go_on() -> None:
    ada = make_account("ada")
    first, second = make_ready_dataset(ada), make_ready_dataset(ada, name="second")
    post_many(ada, first, submissions=[1, 1])
    post_many(ada, second, submissions=[2])
    running = claim_fold(worker="worker-1")
    assert running is not None

    make_client(ada).patch(f"/runapp/rawdata/{first.pk}/", {"paused": True})

    running.refresh_from_db()
    assert running.phase == "running"
    assert claim_all() == [("ada", 2)]


@pytest.mark.parametrize("body", [{}, {"paused": "perhaps"}, {"fail_fast": None}, {"name": "x"}])
def test_patch_of_a_dataset_refuses_nonsense(body: dict[str, Any]) -> None:
    ada = make_account("ada")
    raw_data = make_raw_data(ada)

    assert make_client(ada).patch(f"/runapp/rawdata/{raw_data.pk}/", body).status_code == 400


def test_every_reason_to_wait_is_told_in_its_order(settings: Any) -> None:
    settings.ACCOUNT_CAP = 1
    ada = make_account("ada")
    raw_data = make_raw_data(ada)
    post_many(ada, raw_data, submissions=[1, 2])
    path, client = f"/runapp/rawdata/{raw_data.pk}/", make_client(ada)
    reasons = []

    reasons.append(show(ada, 1)["waiting_because"])
    client.post(
        "/runapp/rawdata/split/", {"raw_data_id": raw_data.pk, "held_out_test": 0.2, "force": True}
    )
    work(most=1)
    client.patch(path, {"paused": True})
    reasons.append(show(ada, 1)["waiting_because"])
    client.patch(path, {"paused": False})
    reasons.append(show(ada, 1)["waiting_because"])
    make_live_worker(broken=["network"])
    reasons.append(show(ada, 1)["waiting_because"])
    make_live_worker(broken=[])
    reasons.append(show(ada, 1)["waiting_because"])
    claim_fold(worker="worker-1")
    reasons.append(show(ada, 1)["waiting_because"])

    assert reasons == [
        "raw_data_not_split",
        "paused",
        "no_live_worker",
        "no_fit_worker",
        "behind_others",
        "account_cap",
    ]


@pytest.mark.parametrize("fail_fast", [False, True])
def test_failure_before_fit_ends_the_waiting_folds_of_the_code(fail_fast: bool) -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada, fail_fast=fail_fast)
    post_many(ada, raw_data, submissions=[1, 1, 1, 2])

    ran = work(outcome=Outcome.SUBMISSION_ERROR, is_before_fit=True, most=1)

    assert len(ran.jobs) == 1
    states = list(SubmissionFold.objects.order_by("pk").values_list("state", flat=True))
    assert states == (["ERROR"] * 3 + ["TODO"] if fail_fast else ["ERROR"] + ["TODO"] * 3)
    if fail_fast:
        row = show(ada, 2)
        assert row["error_code"] == "submission_error"
        assert row["log_messages"] == (
            "Not run: fold 0 of the same code failed before fit was called: it went wrong"
        )
        assert row["started_at"] is None


def test_failure_in_fit_leaves_the_other_folds_alone() -> None:
    ada = make_account("ada")
    post_many(ada, make_ready_dataset(ada, fail_fast=True), submissions=[1, 1])

    work(outcome=Outcome.SUBMISSION_ERROR, most=1)

    assert show(ada, 1)["state"] == "TODO"


def test_failure_of_replaced_code_leaves_folds_of_the_new_code_alone() -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada, fail_fast=True)
    post_many(ada, raw_data, submissions=[1, 1])

    def replace(kind: object) -> None:
        from runapp.models import Submission

        Submission.objects.update(hash_files="f" * 64)

    work(outcome=Outcome.SUBMISSION_ERROR, is_before_fit=True, at_stage=replace, most=1)

    assert show(ada, 1)["state"] == "TODO"


def test_positions_are_those_in_which_folds_are_claimed() -> None:
    ada, eve = make_account("ada"), make_account("eve")
    post_many(ada, make_ready_dataset(ada), submissions=[1, 1, 1, 2])
    post_many(eve, make_ready_dataset(eve), submissions=[3, 3])
    post_many(ada, make_ready_dataset(ada, name="more"), submissions=[5], priority="H")
    make_live_worker(broken=[])
    told = {
        fold.pk: show(fold.owner, fold.databoard_sf_id or 0)["queue_position"]
        for fold in SubmissionFold.objects.select_related("owner")
    }

    order = [fold.pk for fold in iter(lambda: claim_fold(worker="worker-1"), None)]

    assert sorted(told.values())[0] == 1
    # Equal shares are a tie, in which both may be told the earlier place.
    assert all(abs(told[pk] - place) <= 1 for place, pk in enumerate(order, start=1))


def test_start_is_estimated_from_slots_and_recent_durations() -> None:
    ada = make_account("ada")
    post_many(ada, make_ready_dataset(ada), submissions=range(5))
    assert show(ada, 4)["estimated_start"] is None
    make_live_worker(broken=[])
    Worker.objects.update(slots=2)

    starts = [datetime.fromisoformat(show(ada, number)["estimated_start"]) for number in range(5)]

    seconds = [(start - starts[0]).total_seconds() for start in starts]
    assert seconds == pytest.approx([0, 0, 10, 15, 20], abs=2)


def test_fold_that_runs_or_has_ended_has_no_position() -> None:
    ada = make_account("ada")
    finish_fold(ada, make_ready_dataset(ada))

    row = show(ada, 11)

    assert row["queue_position"] is row["estimated_start"] is row["waiting_because"] is None


def test_lower_priority_waits_for_all_of_the_higher() -> None:
    own = Line("L", 1, 3, 0.0, 1.0, 9)
    high = Line("H", 2, 7, 1e9, 1.0, 9)

    assert dict(count_ahead(own, n_before=2, lines=[own, high])) == {own: 2, high: 7}
    assert dict(count_ahead(high, n_before=0, lines=[own, high])) == {high: 0}


def test_other_accounts_are_served_until_their_share_is_as_large() -> None:
    own = Line("L", 1, 50, 100.0, 2.0, 9)
    light, heavy = Line("L", 2, 50, 90.0, 4.0, 9), Line("L", 3, 50, 500.0, 1.0, 9)

    ahead = dict(count_ahead(own, n_before=10, lines=[own, light, heavy]))

    # Its turn comes at a share of 120: the light one has been served 8 times by then.
    assert ahead == {own: 10, light: 8, heavy: 0}


def test_forced_fold_keeps_its_rank() -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada)
    post_many(ada, raw_data, submissions=[1, 1, 1])
    work()

    post_fold(make_client(ada), databoard_sf_id=1, force="submission_fold")

    ranks = SubmissionFold.objects.order_by("pk").values_list("rank", flat=True)
    assert list(ranks) == [0, 1, 2]
