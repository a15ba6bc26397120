"""The numbers of changes: none is missed, whoever commits when; removals and epochs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from runapp.accounts.access import Scope
from runapp.changes import feed
from runapp.changes.feed import publishing, touch
from runapp.datasets import raw_data, retention
from runapp.lists.feed import read_feed
from runapp.models import Clock, RawData, SubmissionFold
from runapp.runner.contract import FrameKind
from runapp.scheduling import control
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_raw_data,
    make_ready_dataset,
    split_now,
    work,
)

pytestmark = pytest.mark.django_db

EVERYTHING = Scope(User(username="root", is_superuser=True), clock=0)


def read_clock() -> int:
    return Clock.objects.get().value


def read_seqs() -> dict[int, int]:
    return dict(SubmissionFold.objects.values_list("databoard_sf_id", "change_seq"))


def post_another(account: User, dataset: RawData) -> None:
    make_fold(account, dataset, databoard_sf_id=12)


def force(account: User, dataset: RawData) -> None:
    make_fold(account, databoard_sf_id=11, force="submission_fold")


def cancel(account: User, dataset: RawData) -> None:
    control.cancel_fold(fold=SubmissionFold.objects.get(databoard_sf_id=11))


def prioritise(account: User, dataset: RawData) -> None:
    control.change_priority(fold=SubmissionFold.objects.get(databoard_sf_id=11), priority="H")


def run(account: User, dataset: RawData) -> None:
    work()


CHANGES = (force, cancel, prioritise, run)


@pytest.mark.parametrize("change", CHANGES)
def test_change_gives_the_fold_a_new_number(change: Callable[[User, RawData], None]) -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    make_fold(account, dataset)
    make_fold(account, dataset, databoard_sf_id=5, databoard_s_id=5)
    before = read_seqs()

    change(account, dataset)

    after = read_seqs()
    assert after[11] > before[11]
    assert after[11] <= read_clock()


def test_each_stage_gives_a_new_number() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    seen = [read_seqs()[11]]

    def look(kind: FrameKind) -> None:
        seen.append(read_seqs()[11])

    work(at_stage=look)

    seen.append(read_seqs()[11])
    # The number of the end is given after the last stage is reported.
    assert seen == sorted(seen)
    assert len(set(seen)) == 4


def test_handing_out_gives_a_new_number() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    before = read_seqs()[11]

    make_client(account).post("/runapp/testpredictions/new/", {})

    assert read_seqs()[11] > before


def test_what_others_change_leaves_the_number() -> None:
    account, other = make_account(), make_account("bob")
    make_fold(account, make_ready_dataset(account))
    before = read_seqs()[11]

    make_fold(other, make_ready_dataset(other, name="others"), databoard_sf_id=12)

    assert read_seqs()[11] == before


def test_refused_post_leaves_the_clock() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    before = read_clock()

    response = make_client(account).post("/runapp/submissionfold/", make_fold_body())

    assert response.status_code == 400
    assert read_clock() == before


def test_dataset_gets_a_number_at_each_change() -> None:
    account = make_account()
    dataset = make_raw_data(account)
    seen = [RawData.objects.get().change_seq]

    raw_data.change_raw_data(raw_data=dataset, paused=True)
    seen.append(RawData.objects.get().change_seq)
    split_now(dataset)
    seen.append(RawData.objects.get().change_seq)

    assert seen == sorted(set(seen))


def test_old_results_that_are_pruned_give_a_new_number() -> None:
    account = make_account()
    fold = finish_fold(account, make_ready_dataset(account))
    long_ago = fold.finished_at.replace(year=2001)
    SubmissionFold.objects.update(new=False, finished_at=long_ago)
    before = read_seqs()[11]

    list(retention.prune(days=1))

    assert read_seqs()[11] > before


def test_removal_is_told_to_the_owner_alone() -> None:
    account, other = make_account(), make_account("bob")
    dataset = make_ready_dataset(account)
    make_ready_dataset(other)
    before = read_feed(model=SubmissionFold, scope=Scope(other, clock=0))

    raw_data.delete_raw_data(raw_data=dataset)

    mine = read_feed(model=SubmissionFold, scope=Scope(account, clock=0))
    assert mine.removed == read_clock() == mine.seq
    assert (
        read_feed(model=SubmissionFold, scope=Scope(other, clock=0)).removed == before.removed == 0
    )
    assert read_feed(model=SubmissionFold, scope=EVERYTHING).removed == mine.removed


def test_removal_is_told_to_those_whose_folds_go_along() -> None:
    account, root = make_account(), make_account("root", is_superuser=True)
    dataset = make_ready_dataset(account)
    make_fold(root, dataset)

    raw_data.delete_raw_data(raw_data=dataset)

    assert read_feed(model=SubmissionFold, scope=Scope(root, clock=0)).removed > 0
    assert read_feed(model=RawData, scope=Scope(account, clock=0)).removed > 0


def test_account_without_datasets_is_deleted_with_its_folds() -> None:
    account, root = make_account(), make_account("root", is_superuser=True)
    make_fold(root, make_ready_dataset(account))

    root.delete()

    assert read_feed(model=SubmissionFold, scope=EVERYTHING).removed == read_clock()


def test_account_is_deleted_with_what_it_has() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    account.delete()

    assert read_feed(model=SubmissionFold, scope=EVERYTHING).removed == read_clock()


def test_new_epoch_is_another() -> None:
    before = read_feed(model=RawData, scope=EVERYTHING)

    feed.begin_epoch()

    after = read_feed(model=RawData, scope=EVERYTHING)
    assert after.epoch != before.epoch
    assert after.clock > before.clock


def test_public_change_outside_of_publishing_is_a_mistake() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    with pytest.raises(AssertionError, match="publishing"), transaction.atomic():
        touch(SubmissionFold.objects.all(), new=False)


def test_publishing_within_publishing_numbers_once() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    before = read_clock()

    with publishing():
        touch(SubmissionFold.objects.all(), new=False)
        with publishing():
            touch(SubmissionFold.objects.all(), new=True)

    assert read_clock() == before + 1
    assert read_seqs()[11] == before + 1


@pytest.mark.sqlite  # with a few rows PostgreSQL takes any index; bench/polling has many
@pytest.mark.parametrize("owner", [True, False], ids=["own", "all"])
def test_feed_is_read_by_looks_into_indexes(owner: bool) -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    with CaptureQueriesContext(connection) as queries:
        read_feed(model=SubmissionFold, scope=Scope(account, clock=0) if owner else EVERYTHING)

    (query,) = queries.captured_queries
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        plan = [str(row[-1]) for row in cursor.fetchall()]
    assert any("fold_changes" in line for line in plan) == owner
    assert not any("SCAN U" in line for line in plan)
