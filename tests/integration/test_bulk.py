"""Many folds in one request: each taken or refused by itself, in order, with one burst of hints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from runapp.models import FoldAttempt, RawData, Submission, SubmissionFold
from runapp.scheduling import dispatch
from runapp.submissions import bulk
from runapp.submissions.folds import post_fold as post_one
from tests.factories import (
    CLASSIFIER,
    finish_fold,
    make_account,
    make_broken_dataset,
    make_client,
    make_fold,
    make_fold_body,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    pack,
    pack_indices,
    read_rows,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold/bulk/"
OTHER = {"classifier.py": pack(CLASSIFIER + b"# other\n")}


def make_bodies(
    dataset: RawData, *, n_submissions: int = 3, n_folds: int = 4
) -> list[dict[str, Any]]:
    """Return bodies of whole submissions, the files with the first fold of each."""
    return [
        make_fold_body(
            dataset if number == 0 else None,
            databoard_s_id=submission,
            databoard_sf_id=submission * 100 + number,
        )
        for submission in range(n_submissions)
        for number in range(n_folds)
    ]


def send(client: Any, bodies: Any, **parameters: str) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return read_rows(client.post(f"{PATH}?{query}", bodies))


def list_statuses(answers: list[dict[str, Any]]) -> list[int]:
    return [answer["status"] for answer in answers]


def test_folds_are_posted_in_order_and_answered_whole() -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account))
    client = make_client(account)

    answers = send(client, bodies)

    assert list_statuses(answers) == [201] * 12
    ids = [answer["body"]["databoard_sf_id"] for answer in answers]
    assert ids == [body["databoard_sf_id"] for body in bodies]
    stored = SubmissionFold.objects.order_by("pk").values_list("databoard_sf_id", "rank")
    assert list(stored) == [(number, number % 100) for number in ids]
    (task_id,) = {answer["body"].pop("task_id") for answer in answers}
    assert task_id
    assert [answer["body"] for answer in answers] == read_rows(
        client.get("/runapp/submissionfold/")
    )


def test_folds_that_were_posted_at_once_are_run() -> None:
    account = make_account()
    send(make_client(account), make_bodies(make_ready_dataset(account)))

    work()

    assert set(SubmissionFold.objects.values_list("state", flat=True)) == {"TESTED"}
    assert FoldAttempt.objects.count() == 12


def test_batches_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_FOLDS", 5)
    account = make_account()

    answers = send(make_client(account), make_bodies(make_ready_dataset(account)))

    assert list_statuses(answers) == [201] * 12
    assert list(SubmissionFold.objects.order_by("pk").values_list("rank", flat=True)) == [
        0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
    ]  # fmt: skip


def test_answer_of_a_fold_is_that_of_a_single_post() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    client = make_client(account)
    body = make_fold_body(dataset, databoard_sf_id=12, databoard_s_id=2)

    (answer,) = send(client, [make_fold_body(dataset)])
    single = client.post("/runapp/submissionfold/", body).json()

    assert answer["body"].keys() == single.keys()
    differing = {name for name in single if single[name] != answer["body"][name]}
    assert differing == {"databoard_sf_id", "databoard_s", "queued_at", "task_id"}


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"train_is": "?"}, 400, "train_is"),
        ({"train_is": pack_indices([1, 1])}, 400, "train_is"),
        ({"test_is": pack_indices([24])}, 400, "test_is"),
        ({"databoard_sf_id": 0}, 400, "databoard_sf_id"),
        ({"databoard_sf_id": -1}, 400, "databoard_sf_id"),
        ({"databoard_sf_id": None}, 400, "databoard_sf_id"),
        ({"databoard_s_id": 77}, 400, "raw_data"),
        ({"raw_data": 10**9}, 400, "raw_data"),
        ({"priority": "X"}, 400, "priority"),
        ({"force": "everything"}, 400, "force"),
        ({"files": {}}, 400, "files"),
        ({"files": {"readme.txt": pack(b"")}}, 400, "files"),
        ({"files": {"../classifier.py": pack(b"")}}, 400, "files"),
        ({"files": OTHER}, 409, None),
    ],
)
def test_bad_item_alone_is_refused(changes: dict[str, Any], status: int, field: str | None) -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account), n_submissions=2)
    bodies[2] |= changes

    answers = send(make_client(account), bodies)

    assert list_statuses(answers) == [201, 201, status, 201, 201, 201, 201, 201]
    (error,) = answers[2]["body"]["errors"]
    assert error["field"] == field
    assert SubmissionFold.objects.count() == 7


@pytest.mark.parametrize("body", [None, 7, "text", [], {}])
def test_item_that_is_no_fold_is_refused(body: Any) -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account), n_submissions=1)

    answers = send(make_client(account), [bodies[0], body, *bodies[1:]])

    assert list_statuses(answers) == [201, 400, 201, 201, 201]
    assert answers[1]["body"]["errors"]


def test_refusal_reads_like_that_of_a_single_post() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    client = make_client(account)
    make_fold(account, dataset)

    (answer,) = send(client, [make_fold_body(dataset)])
    single = client.post("/runapp/submissionfold/", make_fold_body(dataset))

    assert answer == {"status": single.status_code, "body": single.json()}


def test_first_fold_that_is_refused_takes_its_submission_along() -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account), n_submissions=2, n_folds=2)
    bodies[0]["train_is"] = "?"

    answers = send(make_client(account), bodies)

    # Its files never came.
    assert list_statuses(answers) == [400, 400, 201, 201]
    assert list(Submission.objects.values_list("databoard_s_id", flat=True)) == [1]


def test_files_may_come_again_if_they_are_the_same() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    bodies = [make_fold_body(dataset, databoard_sf_id=number) for number in range(3)]
    client = make_client(account)

    answers = [*send(client, bodies[:2]), *send(client, bodies[2:])]

    assert list_statuses(answers) == [201] * 3
    assert Submission.objects.get().n_posted == 3


def test_force_within_many_acts_in_order() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    finish_fold(account, dataset)
    both = "submission, submission_fold"
    bodies = [
        make_fold_body(databoard_sf_id=12),
        make_fold_body(dataset, databoard_sf_id=11, files=OTHER, force=both),
        make_fold_body(dataset, databoard_sf_id=13, files=OTHER),
        make_fold_body(databoard_sf_id=12, force="submission_fold", priority="H"),
        make_fold_body(dataset, databoard_sf_id=14),
    ]

    answers = send(make_client(account), bodies)

    # The last one brings the files of before.
    assert list_statuses(answers) == [201, 201, 201, 201, 409]
    rows = SubmissionFold.objects.order_by("databoard_sf_id")
    assert list(rows.values_list("databoard_sf_id", "state", "priority")) == [
        (11, "TODO", "L"),
        (12, "TODO", "H"),
        (13, "TODO", "L"),
    ]


def test_id_twice_in_one_request_is_taken_once() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)

    answers = send(make_client(account), [make_fold_body(dataset), make_fold_body(dataset)])

    assert list_statuses(answers) == [201, 400]


def test_folds_of_others_are_no_hindrance() -> None:
    account, other = make_account(), make_account("bob")
    dataset, theirs = make_ready_dataset(account), make_ready_dataset(other)
    make_fold(other, theirs)
    bodies = [
        make_fold_body(dataset),
        make_fold_body(theirs, databoard_sf_id=12, databoard_s_id=2),
    ]

    answers = send(make_client(account), bodies)

    assert list_statuses(answers) == [201, 400]
    assert answers[1]["body"]["errors"][0]["code"] == "does_not_exist"


def test_folds_wait_for_the_split_or_end_with_it() -> None:
    account = make_account()
    new, broken = make_raw_data(account), make_broken_dataset(account, name="broken")
    bodies = [
        make_fold_body(new),
        make_fold_body(broken, databoard_sf_id=12, databoard_s_id=2),
    ]

    answers = send(make_client(account), bodies)

    assert [answer["body"]["waiting_because"] for answer in answers] == ["raw_data_not_split", None]
    assert [answer["body"]["error_code"] for answer in answers] == [None, "split_error"]


def test_answers_are_as_short_as_asked_for() -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account), n_submissions=1, n_folds=2)

    answers = send(make_client(account), bodies, fields="databoard_sf_id,state")

    assert [sorted(answer["body"]) for answer in answers] == [
        ["databoard_sf_id", "state", "task_id"]
    ] * 2


def test_unknown_field_is_refused_before_anything_is_written() -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account))

    response = make_client(account).post(f"{PATH}?fields=secret", bodies)

    assert response.status_code == 400
    assert not SubmissionFold.objects.exists()


@pytest.mark.parametrize(
    ("bodies", "code"),
    [({}, "not_a_list"), ("text", "not_a_list"), (None, "not_a_list"), ([{}] * 10_001, "too_many")],
)
def test_what_are_no_folds_is_refused_as_a_whole(bodies: Any, code: str) -> None:
    response = make_client(make_account()).post(PATH, bodies)

    assert response.status_code == 400
    assert [error["code"] for error in response.json()["errors"]] == [code]


def test_no_folds_are_no_answers() -> None:
    assert send(make_client(make_account()), []) == []


def test_nobody_posts_without_an_account() -> None:
    assert make_client().post(PATH, []).status_code == 401


@pytest.mark.parametrize(("n_slots", "n_hints"), [(0, 1), (1, 1), (5, 5), (50, 12)])
def test_hints_match_the_slots(
    n_slots: int,
    n_hints: int,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    for number in range(n_slots):
        make_live_worker(f"worker-{number}")
    published: list[str | None] = []
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account))
    monkeypatch.setattr(
        dispatch, "publish", lambda *, task_id=None: published.append(task_id) or True
    )

    with django_capture_on_commit_callbacks(execute=True):
        answers = send(make_client(account), bodies)

    assert len(published) == n_hints
    assert published[0] == answers[0]["body"]["task_id"]


def test_somebody_who_posts_the_same_meanwhile_spoils_one_fold_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    bodies = make_bodies(dataset, n_submissions=1)
    look = bulk._Books

    def look_and_be_overtaken(owner: Any, items: Any, *rest: Any) -> Any:
        books = look(owner, items, *rest)
        post_one(
            owner=account,
            posted=items[1].posted,
            submission=items[0].submission,
            force=items[0].force,
        )
        return books

    monkeypatch.setattr(bulk, "_Books", look_and_be_overtaken)

    answers = send(make_client(account), bodies)

    assert list_statuses(answers) == [201, 400, 201, 201]
    assert SubmissionFold.objects.count() == 4


@contextmanager
def database_going_away(monkeypatch: pytest.MonkeyPatch, *, after: int) -> Iterator[None]:
    """Let all queries fail, once so many batches have been written."""
    written: list[int] = []
    write = bulk._write

    def write_and_count(*names: Any) -> list[int]:
        keys = write(*names)
        written.append(len(keys))
        return keys

    def fail_at_last(execute: Any, *names: Any) -> Any:
        if len(written) >= after:
            raise OperationalError("the server closed the connection")
        return execute(*names)

    monkeypatch.setattr(bulk, "_write", write_and_count)
    with connection.execute_wrapper(fail_at_last):
        yield


@pytest.mark.parametrize("is_mixed", [False, True], ids=["between batches", "within a batch"])
def test_outage_in_the_middle_is_told_of_each_that_was_not_taken(
    is_mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_FOLDS", 12 if is_mixed else 4)
    account = make_account()
    dataset = make_ready_dataset(account)
    make_live_worker()
    bodies = make_bodies(dataset)
    bodies[5] = {}
    if is_mixed:  # one that is not plain parts the batch
        bodies[4] |= {"force": "submission_fold"}
    client = make_client(account)
    client.get("/runapp/rawdata/")

    with database_going_away(monkeypatch, after=1):
        answers = send(client, bodies)

    assert list_statuses(answers) == [201] * 4 + [503, 400, 503, 503] + [503] * 4
    assert all(answer["body"]["task_id"] for answer in answers[:4])
    assert answers[-1]["body"]["errors"][0]["code"] == "unavailable"
    assert SubmissionFold.objects.count() == 4


def test_outage_from_the_start_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account))

    def fail(*names: Any) -> list[int]:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(bulk, "_write", fail)

    response = make_client(account).post(PATH, bodies)

    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_many_folds_need_few_queries(django_assert_max_num_queries: Any) -> None:
    account = make_account()
    bodies = make_bodies(make_ready_dataset(account), n_submissions=20, n_folds=5)
    client = make_client(account)
    client.get("/runapp/rawdata/")

    with django_assert_max_num_queries(40):
        answers = send(client, bodies)

    assert list_statuses(answers) == [201] * 100
