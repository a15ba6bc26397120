"""Lists: pages, filters, columns, changes, nothing new; and what none of that may be asked with."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from runapp import rows
from runapp.changes import feed
from runapp.datasets import raw_data
from runapp.execution.registration import leave
from runapp.models import RawData, SubmissionFold
from runapp.scheduling.control import cancel_fold, change_priority
from tests.factories import (
    CLASSIFIER,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    pack,
    read_rows,
    split_now,
    work,
)

pytestmark = pytest.mark.django_db

FULL, LIGHT, RAW, SUBMISSIONS = (
    f"/runapp/{name}/"
    for name in ("submissionfold", "submissionfold-light", "rawdata", "submission")
)
FOLD_LISTS = (FULL, LIGHT)
WITH_CHANGES = (FULL, LIGHT, RAW)


def make_folds(account: User, *, n_folds: int = 7) -> RawData:
    dataset = make_ready_dataset(account)
    for number in range(n_folds):
        make_fold(account, dataset, databoard_sf_id=100 - number, databoard_s_id=number // 3)
    return dataset


def read_ids(response: Any) -> list[int]:
    return [row["databoard_sf_id"] for row in read_rows(response)]


def find_next(response: Any) -> str | None:
    """Return the address that a Link header leads to."""
    link = response.headers.get("Link")
    if link is None:
        return None
    found = re.fullmatch(r'<http://testserver(\S+)>; rel="next"', link)
    assert found, link
    return found[1]


def follow(client: APIClient, address: str | None) -> list[Any]:
    """Return the answers of all pages."""
    responses = []
    while address is not None:
        responses.append(client.get(address))
        address = find_next(responses[-1])
    return responses


def find_fold(databoard_sf_id: int) -> SubmissionFold:
    return SubmissionFold.objects.get(databoard_sf_id=databoard_sf_id)


def refuse(client: APIClient, path: str, **parameters: str) -> dict[str, Any]:
    """Return the one error of a request that is refused."""
    response = client.get(path, parameters)
    assert response.status_code == 400, response
    (error,) = response.json()["errors"]
    assert response.json()[error["field"]] == [error["message"]]
    return error


@pytest.mark.parametrize("path", FOLD_LISTS)
@pytest.mark.parametrize(("limit", "n_pages"), [(1, 7), (3, 3), (7, 1), (10_000, 1)])
def test_pages_make_up_the_list(path: str, limit: int, n_pages: int) -> None:
    account = make_account()
    make_folds(account)

    pages = follow(make_client(account), f"{path}?limit={limit}")

    assert len(pages) == n_pages
    assert [number for page in pages for number in read_ids(page)] == list(range(100, 93, -1))


def test_heavy_page_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS_OF_HEAVY_COLUMNS", 2)
    account = make_account()
    make_folds(account)
    work()

    pages = follow(make_client(account), f"{FULL}?limit=5")

    assert pages[0].streaming
    first, second = map(read_rows, pages)
    assert [row["databoard_sf_id"] for row in first] == [100, 99, 98, 97, 96]
    assert [row["databoard_sf_id"] for row in second] == [95, 94]
    assert all(row["test_predictions"] for row in (*first, *second))


@pytest.mark.parametrize("path", FOLD_LISTS)
def test_list_is_streamed_whole(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", 2)
    monkeypatch.setattr(rows, "PIECE_ROWS_OF_HEAVY_COLUMNS", 2)
    account = make_account()
    make_folds(account)

    response = make_client(account).get(path)

    assert response.streaming
    assert read_ids(response) == list(range(100, 93, -1))


def test_empty_list_is_an_empty_array() -> None:
    client = make_client(make_account())

    assert [client.get(path).json() for path in (*WITH_CHANGES, SUBMISSIONS)] == [[], [], [], []]


def test_stream_that_fails_is_not_closed_like_a_whole_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", 2)
    account = make_account()
    make_folds(account)
    response = make_client(account).get(LIGHT)
    sent = iter(response.streaming_content)
    start = next(sent) + next(sent)

    monkeypatch.setattr(rows.RowReader, "fetch", lambda self, rows: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        b"".join(sent)
    assert start.startswith(b"[")
    assert not start.endswith(b"]")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"state": "TESTED"}, [11, 12]),
        ({"state": "TESTED,ERROR"}, [11, 12, 21]),
        ({"state": "TODO"}, [31]),
        ({"state": "VALIDATED"}, []),
        ({"databoard_s": "1"}, [11, 12]),
        ({"databoard_s": "1", "state": "ERROR"}, []),
        ({"databoard_s": "7"}, []),
        ({"priority": "H"}, [31]),
        ({"priority": "H,L"}, [11, 12, 21, 31]),
        ({"state": "", "databoard_s": ""}, [11, 12, 21, 31]),
    ],
)
def test_filters_narrow_the_list(parameters: dict[str, str], expected: list[int]) -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in (11, 12):
        finish_fold(account, dataset, databoard_sf_id=number, databoard_s_id=1)
    cancel_fold(fold=make_fold(account, dataset, databoard_sf_id=21, databoard_s_id=2))
    make_fold(account, dataset, databoard_sf_id=31, databoard_s_id=3, priority="H")
    client = make_client(account)

    assert [read_ids(client.get(path, parameters)) for path in FOLD_LISTS] == [expected] * 2


def test_filter_by_dataset() -> None:
    account = make_account()
    first, second = make_ready_dataset(account), make_ready_dataset(account, name="second")
    make_fold(account, first)
    make_fold(account, second, databoard_sf_id=12, databoard_s_id=2)
    client = make_client(account)

    assert read_ids(client.get(LIGHT, {"raw_data": str(second.pk)})) == [12]
    assert [
        row["databoard_s_id"] for row in client.get(SUBMISSIONS, {"raw_data": second.pk}).json()
    ] == [2]
    assert [row["id"] for row in client.get(RAW, {"raw_data": second.pk}).json()] == [second.pk]


def test_datasets_by_state() -> None:
    account = make_account()
    make_raw_data(account)
    make_ready_dataset(account, name="second")
    client = make_client(account)

    assert [row["name"] for row in client.get(RAW, {"state": "READY"}).json()] == ["second"]
    assert [row["name"] for row in client.get(RAW, {"state": "NEW,ERROR"}).json()] == ["iris"]


@pytest.mark.parametrize("path", FOLD_LISTS)
def test_fields_are_those_asked_for_in_their_order(path: str) -> None:
    account = make_account()
    make_folds(account, n_folds=1)

    (row,) = read_rows(make_client(account).get(path, {"fields": "state, databoard_sf_id,state"}))

    assert list(row.items()) == [("state", "TODO"), ("databoard_sf_id", 100)]


def test_predictions_are_not_read_unless_asked_for(django_assert_num_queries: Any) -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    client = make_client(account)
    client.get(FULL)
    names = [name for name in read_rows(client.get(FULL))[0] if "predictions" not in name]

    with django_assert_num_queries(3) as queries:
        client.get(FULL, {"fields": ",".join(names), "limit": "10"})

    assert not any("runapp_predictions" in query["sql"] for query in queries.captured_queries)


def test_shape_alone_can_be_asked_for() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    (row,) = read_rows(make_client(account).get(FULL, {"fields": "test_predictions_shape"}))

    assert row == {"test_predictions_shape": [6, 3]}


@pytest.mark.parametrize("kind", ["waiting", "tested", "error"])
def test_list_shows_what_the_detail_does(kind: str) -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    fold = make_fold(account, dataset)
    if kind == "tested":
        work()
    elif kind == "error":
        cancel_fold(fold=fold)
    client = make_client(account)

    detail = client.get(f"{FULL}11/").json()

    del detail["queue_position"], detail["estimated_start"]
    assert read_rows(client.get(FULL)) == [detail]


@pytest.mark.parametrize("limit", ["1", "3", "100"])
def test_pages_bear_the_cursor_of_the_first(limit: str) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    first = client.get(LIGHT, {"limit": limit})
    # Before the later pages are read, a row of the first one changes.
    cancel_fold(fold=find_fold(100))
    pages = [first, *follow(client, find_next(first))]

    changed = client.get(LIGHT, {"updated_since": pages[-1].headers["Datarun-Cursor"]})

    assert len({page.headers["Datarun-Cursor"] for page in pages}) == 1
    assert read_rows(changed) == [
        {"databoard_sf_id": 100, "databoard_s": 0, "state": "ERROR", "new": True}
    ]


@pytest.mark.parametrize("path", FOLD_LISTS)
def test_only_what_has_changed_is_answered(path: str) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    cursor = client.get(path, {"updated_since": "0"}).headers["Datarun-Cursor"]
    cancel_fold(fold=find_fold(96))
    change_priority(fold=find_fold(99), priority="H")

    changed = client.get(path, {"updated_since": cursor})
    nothing = client.get(path, {"updated_since": changed.headers["Datarun-Cursor"]})

    assert read_ids(changed) == [96, 99]
    assert read_rows(nothing) == []
    assert nothing.headers["Datarun-Cursor"]


def test_folds_and_light_folds_share_their_cursors() -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    cursor = client.get(LIGHT).headers["Datarun-Cursor"]
    cancel_fold(fold=find_fold(97))

    assert read_ids(client.get(FULL, {"updated_since": cursor})) == [97]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_changes_of_one_number_are_read_in_pages(limit: int) -> None:
    account = make_account()
    dataset = make_folds(account)
    client = make_client(account)
    cursor = client.get(LIGHT).headers["Datarun-Cursor"]
    SubmissionFold.objects.filter(databoard_sf_id__lt=98).update(new=False)
    with feed.publishing():  # one change of many rows
        feed.touch(SubmissionFold.objects.filter(raw_data=dataset), new=True)

    pages = follow(client, f"{LIGHT}?updated_since={cursor}&limit={limit}")

    assert len({fold.change_seq for fold in SubmissionFold.objects.all()}) == 1
    assert [number for page in pages for number in read_ids(page)] == list(range(100, 93, -1))
    last = pages[-1].headers["Datarun-Cursor"]
    assert read_rows(client.get(LIGHT, {"updated_since": last})) == []


def test_changes_are_streamed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", 2)
    account = make_account()
    make_folds(account)
    client = make_client(account)
    cursor = client.get(LIGHT, {"limit": "1"}).headers["Datarun-Cursor"]
    for number in (95, 100, 97, 98, 99):
        cancel_fold(fold=find_fold(number))

    response = client.get(LIGHT, {"updated_since": cursor})

    assert response.streaming
    assert read_ids(response) == [95, 100, 97, 98, 99]


def test_dataset_is_told_of_when_it_changes() -> None:
    account = make_account()
    dataset = make_raw_data(account)
    make_raw_data(account, name="second")
    client = make_client(account)
    cursor = client.get(RAW).headers["Datarun-Cursor"]
    split_now(dataset)

    (row,) = client.get(RAW, {"updated_since": cursor}).json()

    assert (row["name"], row["state"]) == ("iris", "READY")


@pytest.mark.parametrize("path", WITH_CHANGES)
def test_deletion_makes_cursors_of_before_worthless(path: str) -> None:
    account = make_account()
    dataset = make_folds(account)
    other = make_account("bob")
    make_folds(other)
    clients = [make_client(account), make_client(other)]
    cursors = [client.get(path).headers["Datarun-Cursor"] for client in clients]
    raw_data.delete_raw_data(raw_data=dataset)

    mine, others = (
        client.get(path, {"updated_since": cursor})
        for client, cursor in zip(clients, cursors, strict=True)
    )
    anew = clients[0].get(path, {"updated_since": "0"})

    assert mine.status_code == 410
    assert mine.json()["errors"][0]["code"] == "gone"
    assert others.json() == []
    assert anew.json() == []
    again = clients[0].get(path, {"updated_since": anew.headers["Datarun-Cursor"]})
    assert again.json() == []


@pytest.mark.parametrize("name", ["updated_since", "cursor"])
def test_new_epoch_makes_all_cursors_worthless(name: str) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    page = client.get(LIGHT, {"limit": "2"})
    address = find_next(page)
    if name == "updated_since":
        address = f"{LIGHT}?updated_since={page.headers['Datarun-Cursor']}"
    feed.begin_epoch()

    response = client.get(address)

    assert response.status_code == 410
    assert list(response.json()) == [name, "errors"]


@pytest.mark.parametrize("path", [*WITH_CHANGES, SUBMISSIONS])
def test_nothing_new_is_answered_without_a_row(path: str, django_assert_num_queries: Any) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    etag = client.get(path).headers["ETag"]

    with django_assert_num_queries(2) as queries:  # the account, and how far the changes have come
        response = client.get(path, HTTP_IF_NONE_MATCH=etag)

    assert len(queries.captured_queries) == 2
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["ETag"] == etag
    assert re.fullmatch(r'"[0-9a-f-]+(gzip)?"', etag)
    assert ("Datarun-Cursor" in response.headers) == (path in WITH_CHANGES)


@pytest.mark.parametrize("header", ["W/{}", '"other", {}', "*"])
def test_known_answer_is_recognised(header: str) -> None:
    account = make_account()
    client = make_client(account)
    etag = client.get(LIGHT).headers["ETag"]

    response = client.get(LIGHT, HTTP_IF_NONE_MATCH=header.format(etag))

    assert response.status_code == 304


def post_another(account: User) -> None:
    make_fold(account, databoard_sf_id=1, databoard_s_id=0)


def cancel_one(account: User) -> None:
    cancel_fold(fold=find_fold(100))


def delete_all(account: User) -> None:
    raw_data.delete_raw_data(raw_data=RawData.objects.get())


def replace_code(account: User) -> None:
    make_fold(
        account,
        databoard_sf_id=100,
        databoard_s_id=0,
        files={"classifier.py": pack(CLASSIFIER + b"# other\n")},
        force="submission, submission_fold",
    )


@pytest.mark.parametrize("change", [post_another, cancel_one, delete_all, replace_code])
@pytest.mark.parametrize("path", [FULL, LIGHT, SUBMISSIONS])
def test_etag_changes_with_the_answer(path: str, change: Any) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    before = client.get(path)

    change(account)

    after = client.get(path, HTTP_IF_NONE_MATCH=before.headers["ETag"])
    assert after.status_code == 200
    assert after.headers["ETag"] != before.headers["ETag"]


@pytest.mark.parametrize("change", ["a worker comes", "a worker leaves", "a pause"])
def test_etag_changes_with_the_reason_to_wait(change: str) -> None:
    account = make_account()
    dataset = make_folds(account)
    if change == "a worker leaves":
        make_live_worker()
    client = make_client(account)
    before = client.get(FULL)

    if change == "a worker comes":
        make_live_worker()
    elif change == "a worker leaves":
        leave(name="worker-1")
    else:
        raw_data.change_raw_data(raw_data=dataset, paused=True)

    after = client.get(FULL, HTTP_IF_NONE_MATCH=before.headers["ETag"])
    reasons = {row["waiting_because"] for row in read_rows(after)}
    assert reasons != {row["waiting_because"] for row in read_rows(before)}


def test_etag_changes_with_a_pause_of_another_accounts_dataset() -> None:
    make_live_worker()
    root = make_account("root", is_superuser=True)
    dataset = make_ready_dataset(make_account())
    make_fold(root, dataset)
    client = make_client(root)
    before = client.get(FULL, {"owner": "root"})

    raw_data.change_raw_data(raw_data=dataset, paused=True)

    after = client.get(FULL, {"owner": "root"}, HTTP_IF_NONE_MATCH=before.headers["ETag"])
    assert [row["waiting_because"] for row in read_rows(after)] == ["paused"]


def test_etags_of_different_questions_differ() -> None:
    account, other = make_account(), make_account("bob")
    clients = [make_client(account), make_client(other)]
    questions = [LIGHT, f"{LIGHT}?limit=1", f"{LIGHT}?fields=state", FULL, RAW]

    etags = [client.get(question).headers["ETag"] for client in clients for question in questions]

    assert len(set(etags)) == len(etags)


def test_lists_are_packed_for_those_who_take_it() -> None:
    account = make_account()
    make_folds(account, n_folds=20)
    client = make_client(account)
    plain = client.get(LIGHT)

    packed = client.get(LIGHT, HTTP_ACCEPT_ENCODING="br, gzip")

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert len(packed.getvalue()) < len(plain.getvalue()) / 2
    assert read_rows(packed) == read_rows(plain)
    assert packed.headers["ETag"] != plain.headers["ETag"]
    for response in (packed, plain):
        known = client.get(
            LIGHT,
            HTTP_ACCEPT_ENCODING="gzip",
            HTTP_IF_NONE_MATCH=response.headers["ETag"],
        )
        assert known.status_code == 304
        assert known.headers["ETag"] == response.headers["ETag"]


def test_packed_stream_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", 3)
    account = make_account()
    make_folds(account)

    response = make_client(account).get(LIGHT, HTTP_ACCEPT_ENCODING="gzip")

    assert response.streaming
    assert response.headers["Content-Encoding"] == "gzip"
    assert read_ids(response) == list(range(100, 93, -1))


@pytest.mark.parametrize(
    "accepted", ["", "identity", "gzip;q=0", "gzip; Q=0.0, br", "gzipped", "x-gzip"]
)
def test_lists_are_plain_for_those_who_do_not(accepted: str) -> None:
    account = make_account()
    make_folds(account, n_folds=20)

    response = make_client(account).get(LIGHT, HTTP_ACCEPT_ENCODING=accepted)

    assert "Content-Encoding" not in response.headers


def test_predictions_are_not_packed_twice() -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))

    response = make_client(account).get(FULL, HTTP_ACCEPT_ENCODING="gzip")

    assert len(response.content) > 1024
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "1e3", "ten", "", "1.0", "٣", "9" * 10_000])
@pytest.mark.parametrize("path", [LIGHT, RAW])
def test_limit_out_of_bounds_is_refused(path: str, limit: str) -> None:
    error = refuse(make_client(make_account()), path, limit=limit)

    assert error["field"] == "limit"
    assert "10000" in error["message"]


@pytest.mark.parametrize("name", ["updated_since", "cursor"])
@pytest.mark.parametrize("change", ["cut", "forged", "nonsense", "long", "empty", "nul"])
def test_cursor_that_was_not_given_is_refused(name: str, change: str) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    page = client.get(LIGHT, {"limit": "2"})
    given = page.headers["Datarun-Cursor"]
    if name == "cursor":
        (given,) = parse_qs(urlsplit(find_next(page)).query)["cursor"]
    texts = {
        "cut": given[:-3],
        "forged": ("W" if given[0] != "W" else "X") + given[1:],
        "nonsense": "../../etc/passwd",
        "long": given + "A" * 100_000,
        "empty": "",
        "nul": "\0",
    }

    error = refuse(client, LIGHT, **{name: texts[change]})

    assert (error["field"], error["code"]) == (name, "bad_cursor")


@pytest.mark.parametrize("name", ["updated_since", "cursor"])
def test_cursor_of_another_account_is_refused(name: str) -> None:
    account, other = make_account(), make_account("bob")
    make_folds(account)
    page = make_client(account).get(LIGHT, {"limit": "2"})
    given = page.headers["Datarun-Cursor"]
    if name == "cursor":
        (given,) = parse_qs(urlsplit(find_next(page)).query)["cursor"]

    assert refuse(make_client(other), LIGHT, **{name: given})["code"] == "bad_cursor"


def test_cursor_of_another_list_is_refused() -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    given = client.get(RAW).headers["Datarun-Cursor"]

    assert refuse(client, LIGHT, updated_since=given)["code"] == "bad_cursor"


def test_cursor_in_the_other_ones_place_is_refused() -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    page = client.get(LIGHT, {"limit": "2"})
    (given,) = parse_qs(urlsplit(find_next(page)).query)["cursor"]

    assert "cursor" in refuse(client, LIGHT, updated_since=given)["message"]
    changes = refuse(client, LIGHT, cursor=page.headers["Datarun-Cursor"])
    assert "updated_since" in changes["message"]
    both = refuse(client, LIGHT, cursor=given, updated_since=page.headers["Datarun-Cursor"])
    assert both["field"] == "cursor"


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        (LIGHT, {"sort": "state"}),
        (LIGHT, {"": "1"}),
        (RAW, {"priority": "H"}),
        (SUBMISSIONS, {"updated_since": "0"}),
        (LIGHT, {"fields": "state,password"}),
        (LIGHT, {"fields": "test_predictions"}),
        (LIGHT, {"fields": ""}),
        (FULL, {"fields": "owner"}),
        (LIGHT, {"state": "DONE"}),
        (LIGHT, {"state": "TESTED,DONE"}),
        (RAW, {"state": "TESTED"}),
        (LIGHT, {"priority": "h"}),
        (LIGHT, {"raw_data": "iris"}),
        (LIGHT, {"raw_data": "-1"}),
        (LIGHT, {"raw_data": str(2**63)}),
        (LIGHT, {"databoard_s": "1.5"}),
        (LIGHT, {"databoard_s": "9" * 5000}),
        (LIGHT, {"state": "\0"}),
    ],
)
def test_what_there_is_not_is_refused(path: str, parameters: dict[str, str]) -> None:
    error = refuse(make_client(make_account()), path, **parameters)

    (name,) = parameters
    assert error["field"] == name
    assert len(error["message"]) < 600


def test_superuser_reads_the_changes_of_all_or_of_one() -> None:
    account, other = make_account(), make_account("bob")
    make_folds(account, n_folds=2)
    make_folds(other, n_folds=2)
    client = make_client(make_account("root", is_superuser=True))
    of_all = client.get(LIGHT).headers["Datarun-Cursor"]
    of_one = client.get(LIGHT, {"owner": "bob"}).headers["Datarun-Cursor"]
    for fold in SubmissionFold.objects.filter(databoard_sf_id=100).order_by("-owner__username"):
        cancel_fold(fold=fold)

    changed = read_rows(client.get(LIGHT, {"updated_since": of_all}))
    of_bob = read_rows(client.get(LIGHT, {"updated_since": of_one, "owner": "bob"}))

    assert [row["owner"] for row in changed] == ["bob", "ada"]
    assert of_bob == changed[:1]
    assert refuse(client, LIGHT, updated_since=of_one)["code"] == "bad_cursor"


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        *((path, {}) for path in (LIGHT, SUBMISSIONS)),
        *((path, {"limit": "3"}) for path in (FULL, LIGHT, RAW, SUBMISSIONS)),
        (LIGHT, {"updated_since": "0"}),
    ],
)
def test_list_asks_three_queries(
    path: str, parameters: dict[str, str], django_assert_num_queries: Any
) -> None:
    account = make_account()
    make_folds(account)
    client = make_client(account)
    client.get(path)
    names = {} if path != FULL else {"fields": "databoard_sf_id,state,train_is,waiting_because"}

    # The account, how far the changes have come, and the rows.
    with django_assert_num_queries(3):
        client.get(path, {**parameters, **names})
