"""`Prefer: wait=N`: requests that are held until there is something new, and those that are not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections, transaction

from runapp.accounts.tokens import revoke_token
from runapp.changes.feed import publishing, touch
from runapp.datasets.sharing import share_raw_data
from runapp.lists import long_poll
from runapp.models import AccessToken, SubmissionFold
from runapp.scheduling.control import cancel_fold
from runapp.scheduling.disabled_accounts import disable_account
from runapp.submissions.predictions import take_back
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_ready_dataset,
    make_token,
    read_rows,
    work,
)

LIGHT, NEW = "/runapp/submissionfold-light/", "/runapp/testpredictions/new/"
DEADLINE_SECONDS = 20

committed = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("respond-async", None),
        ("wait=10", 10),
        ("Wait = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=7", 7),
        ("wait=7; x=1", 7),
        ("wait=0", 0),
        ("wait=21", 20),
        ("wait=999999999", 20),
        ("wait=9999999999999999999999", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait", None),
        ("await=5", None),
        ("wait=٣", None),
    ],
)
def test_prefer_header_is_read(header: str, seconds: int | None) -> None:
    assert long_poll.parse_prefer(header) == seconds


@contextmanager
def asking(ask: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Ask in a thread of its own, whose connection is closed after it."""

    def ask_and_close() -> Any:
        try:
            return ask()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask_and_close)


@pytest.fixture(autouse=True)
def clock_at_rest() -> Iterator[None]:
    """Let nobody look at the clock any more when the tables are emptied."""
    yield
    wait_until(lambda: not long_poll.WATCH._is_looking)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def wait_until_held(n_held: int = 1) -> None:
    """Wait until so many requests are held."""
    wait_until(lambda: long_poll.WATCH._n_waiting >= n_held and long_poll.WATCH._is_looking)


def read_cursor(account: User) -> str:
    return make_client(account).get(LIGHT).headers["Datarun-Cursor"]


def ask_light(account: User, *, wait: int = 20, **parameters: str) -> Any:
    return make_client(account).get(LIGHT, parameters, HTTP_PREFER=f"wait={wait}")


@committed
def test_light_list_is_held_until_something_changes() -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)

    with asking(lambda: ask_light(account, updated_since=cursor)) as asked:
        wait_until_held()
        assert not asked.done()
        cancel_fold(fold=fold)
        response = asked.result(DEADLINE_SECONDS)

    assert [row["state"] for row in read_rows(response)] == ["ERROR"]
    assert response.headers["Preference-Applied"] == "wait=20"
    assert "Retry-After" not in response.headers


@committed
def test_light_list_is_held_until_its_etag_is_another() -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    client = make_client(account)
    etag = client.get(LIGHT).headers["ETag"]

    def ask() -> Any:
        return make_client(account).get(LIGHT, HTTP_PREFER="wait=20", HTTP_IF_NONE_MATCH=etag)

    with asking(ask) as asked:
        wait_until_held()
        cancel_fold(fold=fold)
        response = asked.result(DEADLINE_SECONDS)

    assert response.status_code == 200
    assert response.headers["ETag"] != etag


@committed
def test_who_comes_to_see_rows_while_he_waits_misses_none() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    make_fold(ada, raw_data)
    etag = make_client(bob).get(LIGHT).headers["ETag"]

    def ask() -> Any:
        return make_client(bob).get(LIGHT, HTTP_PREFER="wait=20", HTTP_IF_NONE_MATCH=etag)

    with asking(ask) as asked:
        wait_until_held()
        share_raw_data(raw_data=raw_data, role="read", account="bob")
        response = asked.result(DEADLINE_SECONDS)

    assert [(row["databoard_sf_id"], row["owner"]) for row in read_rows(response)] == [(11, "ada")]


def _disable(account: User, token: AccessToken) -> None:
    disable_account(account=account)


def _revoke(account: User, token: AccessToken) -> None:
    revoke_token(account=account, public_id=token.public_id)


def _change_password(account: User, token: AccessToken) -> None:
    account.set_password("an0ther-Secret")
    account.save(update_fields=["password"])


@committed
@pytest.mark.parametrize(
    ("by_token", "change"),
    [(True, _disable), (False, _disable), (True, _revoke), (False, _change_password)],
)
@pytest.mark.parametrize("path", [LIGHT, NEW])
def test_who_may_not_ask_any_more_is_refused_though_he_waits(
    path: str, by_token: bool, change: Callable[[User, AccessToken], None]
) -> None:
    account = make_account()
    fold = finish_fold(account, make_ready_dataset(account))
    client = make_client(account)
    assert len(read_rows(client.post(NEW, {}))) == 1
    cursor = read_cursor(account)
    token, key = make_token(account)
    if by_token:
        client.credentials(HTTP_AUTHORIZATION=f"Token {key}")

    def ask() -> Any:
        if path == NEW:
            return client.post(NEW, {}, HTTP_PREFER="wait=20")
        return client.get(LIGHT, {"updated_since": cursor}, HTTP_PREFER="wait=20")

    with asking(ask) as asked:
        wait_until_held()
        with transaction.atomic():
            change(account, token)
            take_back([fold.pk])
        response = asked.result(DEADLINE_SECONDS)

    fold.refresh_from_db()
    assert response.status_code == 401
    assert fold.new


@committed
def test_what_the_filter_leaves_out_wakes_nobody() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    first = make_fold(account, dataset)
    second = make_fold(account, dataset, databoard_sf_id=12, databoard_s_id=2)
    cursor = read_cursor(account)

    def ask() -> Any:
        return ask_light(account, updated_since=cursor, databoard_s="2")

    with asking(ask) as asked:
        wait_until_held()
        cancel_fold(fold=first)
        with pytest.raises(TimeoutError):
            asked.result(4 * long_poll._LOOK_SECONDS)
        cancel_fold(fold=second)
        response = asked.result(DEADLINE_SECONDS)

    assert [row["databoard_sf_id"] for row in read_rows(response)] == [12]


@committed
def test_wait_ends_empty_when_nothing_happens() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)
    started = time.monotonic()

    with asking(lambda: ask_light(account, wait=1, updated_since=cursor)) as asked:
        response = asked.result(DEADLINE_SECONDS)

    assert read_rows(response) == []
    assert time.monotonic() - started >= 1
    assert response.headers["Datarun-Cursor"]


@committed
def test_new_predictions_are_waited_for() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))

    def ask() -> Any:
        return make_client(account).post(NEW, {}, HTTP_PREFER="wait=20")

    with asking(ask) as asked:
        wait_until_held()
        work()
        response = asked.result(DEADLINE_SECONDS)

    assert [row["databoard_sf_id"] for row in read_rows(response)] == [11]
    assert response.headers["Preference-Applied"] == "wait=20"


@pytest.mark.django_db
def test_what_is_new_already_is_answered_at_once() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)
    work()
    client = make_client(account)
    started = time.monotonic()

    responses = [
        ask_light(account, updated_since=cursor),
        ask_light(account),
        client.post(NEW, {}, HTTP_PREFER="wait=20"),
    ]

    assert [len(read_rows(response)) for response in responses] == [1, 1, 1]
    assert time.monotonic() - started < long_poll.MOST_SECONDS


@pytest.mark.django_db
def test_too_many_are_told_to_come_back(settings: Any) -> None:
    settings.WEB_WAITERS = 0
    account = make_account()
    cursor = read_cursor(account)

    responses = [
        ask_light(account, updated_since=cursor),
        make_client(account).post(NEW, {}, HTTP_PREFER="wait=20"),
    ]

    for response in responses:
        assert read_rows(response) == []
        assert response.headers["Preference-Applied"] == "wait=0"
        assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.django_db
def test_other_lists_do_not_wait() -> None:
    account = make_account()
    client = make_client(account)
    path = "/runapp/rawdata/"
    cursor = client.get(path).headers["Datarun-Cursor"]

    response = client.get(path, {"updated_since": cursor}, HTTP_PREFER="wait=20")

    assert response.json() == []
    assert "Preference-Applied" not in response.headers


@committed
def test_server_that_ends_answers_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    account = make_account()
    cursor = read_cursor(account)

    with asking(lambda: ask_light(account, updated_since=cursor)) as asked:
        wait_until_held()
        monkeypatch.setattr(long_poll, "is_ending", lambda: True)
        response = asked.result(DEADLINE_SECONDS)

    assert read_rows(response) == []


@committed
def test_clock_that_cannot_be_read_lets_them_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)
    read, is_away = long_poll.read_clock, threading.Event()

    def read_clock() -> int:
        if is_away.is_set():
            raise OperationalError("the server closed the connection")
        return read()

    monkeypatch.setattr(long_poll, "read_clock", read_clock)

    with asking(lambda: ask_light(account, updated_since=cursor)) as asked:
        wait_until_held()
        is_away.set()
        cancel_fold(fold=fold)
        with pytest.raises(TimeoutError):
            asked.result(4 * long_poll._LOOK_SECONDS)
        is_away.clear()
        response = asked.result(DEADLINE_SECONDS)

    assert [row["state"] for row in read_rows(response)] == ["ERROR"]


@committed
def test_who_waits_holds_no_connection(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEB_POOL = {"max_size": 1}  # what the web server's settings say where it has a pool
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)
    held: list[Any] = []
    wait = threading.Condition.wait

    def look_and_wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if self is long_poll.WATCH._changed:
            held.append(connection.connection)
        return wait(self, timeout)

    monkeypatch.setattr(threading.Condition, "wait", look_and_wait)

    with asking(lambda: ask_light(account, updated_since=cursor)) as asked:
        wait_until_held()
        cancel_fold(fold=fold)
        asked.result(DEADLINE_SECONDS)

    assert held
    assert set(held) == {None}


@committed
def test_one_look_serves_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    account = make_account()
    fold = make_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)

    with (
        asking(lambda: ask_light(account, updated_since=cursor)) as first,
        asking(lambda: ask_light(account, updated_since=cursor)) as second,
    ):
        wait_until_held(2)
        n_looking = sum(thread.name == "clock" for thread in threading.enumerate())
        cancel_fold(fold=fold)
        responses = [asked.result(DEADLINE_SECONDS) for asked in (first, second)]

    assert n_looking == 1
    assert [len(read_rows(response)) for response in responses] == [1, 1]


@committed
def test_cursor_that_becomes_worthless_ends_the_wait() -> None:
    account = make_account()
    fold = finish_fold(account, make_ready_dataset(account))
    cursor = read_cursor(account)

    with asking(lambda: ask_light(account, updated_since=cursor)) as asked:
        wait_until_held()
        SubmissionFold.objects.get(pk=fold.pk).raw_data.delete()
        response = asked.result(DEADLINE_SECONDS)

    assert response.status_code == 410


@pytest.mark.django_db
def test_rows_that_are_left_of_one_number_are_not_waited_for() -> None:
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in range(4):
        make_fold(account, dataset, databoard_sf_id=number)
    cursor = read_cursor(account)
    with publishing():
        touch(SubmissionFold.objects.all(), new=False)
    first = ask_light(account, updated_since=cursor, limit="2")
    started = time.monotonic()

    second = ask_light(account, updated_since=first.headers["Datarun-Cursor"], limit="2")

    assert len(read_rows(second)) == 2
    assert time.monotonic() - started < long_poll.MOST_SECONDS
