"""Many folds at once against quotas: as many as fit are taken, the others refused cheaply."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from runapp.models import DailyUse, RawData, Submission, SubmissionFold
from runapp.services import bulk
from runapp.services.folds import post_fold as post_one
from runapp.services.quotas import set_quota
from tests.factories import (
    CLASSIFIER,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_raw_data,
    make_ready_dataset,
    pack,
    post_fold,
    read_rows,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold/bulk/"
BOTH = "submission, submission_fold"


@pytest.fixture
def account() -> User:
    return make_account()


@pytest.fixture
def dataset(account: User) -> RawData:
    return make_ready_dataset(account)


def limit(account: User, **changes: int | None) -> None:
    set_quota(account=account, changes=changes)


def make_bodies(
    dataset: RawData, *, n_submissions: int = 3, n_folds: int = 4, **changes: Any
) -> list[dict[str, Any]]:
    """Return bodies of whole submissions, the files with the first fold of each."""
    return [
        make_fold_body(
            dataset if number == 0 else None,
            databoard_s_id=submission,
            databoard_sf_id=submission * 100 + number,
            **changes,
        )
        for submission in range(n_submissions)
        for number in range(n_folds)
    ]


def send(account: User, bodies: Any) -> tuple[list[int], list[dict[str, Any]], Any]:
    """Return statuses, bodies and the response."""
    response = make_client(account).post(PATH, bodies)
    rows = read_rows(response)
    return [row["status"] for row in rows], [row["body"] for row in rows], response


def count_use(account: User) -> tuple[int, int]:
    rows = DailyUse.objects.filter(owner=account).values_list("folds", "submissions")
    return sum(folds for folds, _ in rows), sum(number for _, number in rows)


def test_as_many_as_fit_are_taken_in_order(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=5)

    statuses, bodies, response = send(account, make_bodies(dataset))

    assert statuses == [201] * 5 + [429] * 7
    assert bodies[5]["errors"][0]["code"] == "quota_exceeded"
    assert "This would bring today's folds to 6; the quota is 5." in bodies[5]["detail"]
    assert bodies[-1] == bodies[5]
    assert response["RateLimit"].startswith('"folds-per-day";r=0;t=')
    assert count_use(account) == (5, 2)
    assert SubmissionFold.objects.count() == 5


def test_refusal_reads_like_that_of_a_single_post(account: User, dataset: RawData) -> None:
    limit(account, folds_per_day=0)

    _, bodies, _ = send(account, [make_fold_body(dataset)])
    single = post_fold(make_client(account), dataset)

    assert bodies == [single.json()]


def test_without_quotas_nothing_is_told_and_all_is_counted(account: User, dataset: RawData) -> None:
    statuses, _, response = send(account, make_bodies(dataset))

    assert statuses == [201] * 12
    assert "RateLimit" not in response.headers
    assert count_use(account) == (12, 3)


def test_batches_share_what_is_left(
    account: User, dataset: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_FOLDS", 3)
    limit(account, waiting_folds=7)

    statuses, _, response = send(account, make_bodies(dataset))

    assert statuses == [201] * 7 + [429] * 5
    assert response["RateLimit"] == '"waiting-folds";r=0'


@pytest.mark.parametrize("batch", [2, 500])
def test_folds_of_a_submission_that_is_refused_are_refused_alike(
    batch: int, account: User, dataset: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_FOLDS", batch)
    limit(account, submissions_per_day=1)
    other = make_raw_data(account, name="other")
    bodies = [*make_bodies(dataset), make_fold_body(other, databoard_s_id=9, databoard_sf_id=9)]

    statuses, answers, _ = send(account, bodies)

    assert statuses == [201] * 4 + [429] * 8 + [201]
    assert {answer["errors"][0]["code"] for answer in answers[4:12]} == {"quota_exceeded"}
    assert set(Submission.objects.values_list("databoard_s_id", flat=True)) == {0, 9}


def test_submission_too_large_for_what_is_left_leaves_room_for_a_smaller(
    account: User, dataset: RawData
) -> None:
    limit(account, stored_mb=1)
    large = {"classifier.py": pack(b"#" * 2**20)}
    bodies = [
        make_fold_body(dataset, files=large),
        make_fold_body(databoard_sf_id=12),
        make_fold_body(dataset, databoard_sf_id=13, databoard_s_id=2),
        make_fold_body(dataset, databoard_sf_id=14),  # the first submission, smaller
        make_fold_body(databoard_sf_id=15),
    ]

    statuses, _, _ = send(account, bodies)

    assert statuses == [429, 429, 201, 201, 201]


def test_forced_items_count_and_are_refused_like_others(account: User, dataset: RawData) -> None:
    for number in (1, 2, 3):
        make_fold(account, dataset, databoard_sf_id=number)
    work()
    limit(account, folds_per_day=5)
    bodies = [
        make_fold_body(databoard_sf_id=number, force="submission_fold") for number in (1, 2, 3)
    ]

    statuses, _, _ = send(account, [*bodies, make_fold_body(databoard_sf_id=4)])

    assert statuses == [201, 201, 429, 429]
    assert count_use(account) == (5, 1)
    states = SubmissionFold.objects.order_by("databoard_sf_id").values_list("state", flat=True)
    assert list(states) == ["TODO", "TODO", "TESTED"]


def test_forced_item_that_is_refused_otherwise_takes_nothing(
    account: User, dataset: RawData
) -> None:
    make_fold(account, dataset)
    limit(account, folds_per_day=2)
    bodies = [
        make_fold_body(databoard_s_id=77, force="submission_fold"),  # of another submission
        make_fold_body(databoard_sf_id=12),
    ]

    statuses, _, _ = send(account, bodies)

    assert statuses == [400, 201]


def test_waiting_folds_may_be_forced_where_no_more_may_wait(
    account: User, dataset: RawData
) -> None:
    make_fold(account, dataset)
    limit(account, waiting_folds=1)
    bodies = [make_fold_body(force="submission_fold"), make_fold_body(databoard_sf_id=12)]

    statuses, _, _ = send(account, bodies)

    assert statuses == [201, 429]


def test_new_code_counts_as_a_submission(account: User, dataset: RawData) -> None:
    make_fold(account, dataset)
    limit(account, submissions_per_day=2)
    bodies = [
        make_fold_body(dataset, files={"classifier.py": pack(CLASSIFIER + text)}, force=BOTH)
        for text in (b"", b"# one\n", b"# two\n")
    ]

    statuses, _, _ = send(account, bodies)

    assert statuses == [201, 201, 429]
    assert count_use(account) == (3, 2)


def test_what_others_of_the_account_took_meanwhile_is_not_taken_twice(
    account: User, dataset: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(account, folds_per_day=10)
    look, overtaken = bulk._Books, []

    def look_and_be_overtaken(owner: Any, items: Any, *rest: Any) -> Any:
        books = look(owner, items, *rest)
        if not overtaken:
            overtaken.append(True)
            for number in (901, 902, 903):
                post_one(
                    owner=account,
                    posted=bulk.PostedFold(number, *[items[0].posted.train_is] * 2, "L"),
                    submission=bulk.PostedSubmission(9, dataset, items[0].submission.files),
                    force=bulk.Force.NOTHING,
                )
        return books

    monkeypatch.setattr(bulk, "_Books", look_and_be_overtaken)

    statuses, _, _ = send(account, make_bodies(dataset))

    assert statuses == [201] * 7 + [429] * 5
    assert count_use(account) == (10, 3)
    assert SubmissionFold.objects.count() == 10


def test_somebody_who_posts_the_same_meanwhile_is_counted_once(
    account: User, dataset: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(account, folds_per_day=4)
    look, overtaken = bulk._Books, []

    def look_and_be_overtaken(owner: Any, items: Any, *rest: Any) -> Any:
        books = look(owner, items, *rest)
        if not overtaken:
            overtaken.append(True)
            post_one(
                owner=account,
                posted=items[1].posted,
                submission=items[0].submission,
                force=items[0].force,
            )
        return books

    monkeypatch.setattr(bulk, "_Books", look_and_be_overtaken)

    statuses, _, _ = send(account, make_bodies(dataset, n_submissions=1, n_folds=4))

    assert statuses == [201, 400, 201, 201]
    assert count_use(account) == (4, 1)


def test_second_look_that_is_overtaken_too_leaves_each_to_itself(
    account: User, dataset: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(account, folds_per_day=5)
    look, ids = bulk._Books, iter(range(900, 903))

    def look_and_be_overtaken(owner: Any, items: Any, *rest: Any) -> Any:
        books = look(owner, items, *rest)
        for number in ids:
            post_one(
                owner=account,
                posted=bulk.PostedFold(number, *[items[0].posted.train_is] * 2, "L"),
                submission=bulk.PostedSubmission(9, dataset, items[0].submission.files),
                force=bulk.Force.NOTHING,
            )
            break
        return books

    monkeypatch.setattr(bulk, "_Books", look_and_be_overtaken)

    statuses, _, _ = send(account, make_bodies(dataset, n_submissions=1, n_folds=6))

    # Two looks at the request, each overtaken by a fold.
    assert statuses == [201] * 3 + [429] * 3
    assert count_use(account) == (5, 2)


@pytest.mark.parametrize(
    ("quota", "changes"),
    [
        ({"folds_per_day": 1}, {}),
        ({"waiting_folds": 1}, {"force": "submission_fold"}),
        ({"submissions_per_day": 0}, {}),
        ({"stored_mb": 0}, {"force": BOTH}),
    ],
)
def test_folds_that_are_refused_need_few_queries(
    quota: dict[str, int],
    changes: dict[str, str],
    account: User,
    dataset: RawData,
    django_assert_max_num_queries: Any,
) -> None:
    make_fold(account, dataset, databoard_sf_id=99_999, databoard_s_id=9000)
    limit(account, **quota)
    bodies = make_bodies(dataset, n_submissions=100, n_folds=10, **changes)

    with django_assert_max_num_queries(2 * 9 + 10):  # two batches
        statuses, _, _ = send(account, bodies)

    assert statuses == [429] * 1000
