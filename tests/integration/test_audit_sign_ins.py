"""Sign-ins in the audit: by Basic and by the browser, right and wrong, seldom enough."""

from __future__ import annotations

from typing import Any

import pytest
from cachetools import TTLCache
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from knox.models import get_token_model

from runapp.audit import sign_ins
from runapp.http.authentication import RememberedBasicAuthentication
from runapp.models.audit import AuditEvent
from tests.factories import (
    PASSWORD,
    JSONClient,
    make_account,
    make_client,
    make_raw_data_body,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/"
LOGIN = "/admin/login/"


def list_sign_ins() -> list[tuple[Any, ...]]:
    rows = AuditEvent.objects.filter(action__startswith="sign_in").order_by("pk")
    return list(rows.values_list("action", "actor", "via", "address", "kind", "owner"))


def ask(account: User, *, password: str = PASSWORD, address: str = "192.0.2.1") -> int:
    client = make_client(account, password=password)
    return int(client.get(PATH, REMOTE_ADDR=address).status_code)


class FakeClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Set the time of what is remembered of sign-ins, credentials included."""
    clock = FakeClock()
    for holder, name in (
        (sign_ins, "_lately_in"),
        (sign_ins, "_lately_failed"),
        (RememberedBasicAuthentication, "_verified"),
    ):
        cache = getattr(holder, name)
        monkeypatch.setattr(holder, name, TTLCache(cache.maxsize, cache.ttl, timer=clock))
    return clock


def test_basic_sign_in_is_told_once_an_hour_and_address(clock: FakeClock) -> None:
    ada = make_account()
    told = []

    for seconds, address in ((0, "192.0.2.1"), (61, "192.0.2.1"), (62, "192.0.2.2")):
        clock.seconds = seconds
        RememberedBasicAuthentication._verified.clear()
        assert ask(ada, address=address) == 200
        told.append(len(list_sign_ins()))
    clock.seconds = 3601
    assert ask(ada) == 200
    told.append(len(list_sign_ins()))

    assert told == [1, 1, 2, 3]
    assert list_sign_ins()[0] == ("sign_in", "ada", "basic", "192.0.2.1", "account", "ada")


def test_remembered_password_is_no_sign_in() -> None:
    ada = make_account()
    assert ask(ada) == 200
    sign_ins.forget()

    assert ask(ada) == 200

    assert len(list_sign_ins()) == 1


def test_wrong_password_is_told_once_a_minute_name_and_address(clock: FakeClock) -> None:
    ada, bob = make_account(), make_account("bob")
    bob.is_active = False
    bob.save()
    told = []

    for seconds, account, address in (
        (0, ada, "192.0.2.1"),
        (59, ada, "192.0.2.1"),
        (59, ada, "192.0.2.2"),
        (59, bob, "192.0.2.1"),
        (61, ada, "192.0.2.1"),
    ):
        clock.seconds = seconds
        assert ask(account, password="wrong", address=address) == 401
        told.append(len(list_sign_ins()))

    assert told == [1, 1, 2, 3, 4]
    assert {row[:3] for row in list_sign_ins()} == {("sign_in_failed", "", "basic")}
    assert [row[5] for row in list_sign_ins()] == ["ada", "ada", "bob", "ada"]


def test_name_that_nobody_has_is_not_told() -> None:
    assert ask(User(username="my-Secret-password")) == 401
    assert ask(User(username="another-Secret")) == 401

    assert list_sign_ins() == [("sign_in_failed", "", "basic", "192.0.2.1", "account", "")]
    assert AuditEvent.objects.filter(owner_id=None, target="", facts={}).count() == 1


def test_locked_address_does_not_fill_the_audit(settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 1
    User.objects.create_superuser("root", password=PASSWORD)
    names = ["root", *(f"nobody {number}" for number in range(10))] * 2

    for name in names:
        Client().post(LOGIN, {"username": name, "password": "wrong"}, REMOTE_ADDR="192.0.2.1")

    told = AuditEvent.objects.exclude(action="account_made").values_list("action", "owner")
    assert sorted(told) == [
        ("locked_out", ""),
        ("locked_out", "root"),
        ("sign_in_failed", ""),
        ("sign_in_failed", "root"),
    ]


def test_token_and_session_are_no_sign_in_at_each_request() -> None:
    _, key = get_token_model().objects.create(make_account())
    client = JSONClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")

    assert client.get(PATH).status_code == 200

    assert list_sign_ins() == []


def test_browser_sign_in_is_told_each_time() -> None:
    User.objects.create_superuser("root", password=PASSWORD)

    for password in (PASSWORD, "wrong", PASSWORD):
        Client().post(LOGIN, {"username": "root", "password": password}, REMOTE_ADDR="::1")

    assert list_sign_ins() == [
        ("sign_in", "root", "admin", "::1", "account", "root"),
        ("sign_in_failed", "", "admin", "::1", "account", "root"),
        ("sign_in", "root", "admin", "::1", "account", "root"),
    ]


def test_deeds_by_token_and_by_session_are_told_apart() -> None:
    ada = make_account()
    _, key = get_token_model().objects.create(ada)
    by_token, by_session = JSONClient(), JSONClient()
    by_token.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    by_session.force_login(ada)

    for number, client in enumerate((by_token, by_session)):
        response = client.post("/runapp/rawdata/", make_raw_data_body(name=f"iris {number}"))
        assert response.status_code == 201

    posted = AuditEvent.objects.filter(action="raw_data_posted").order_by("pk")
    assert list(posted.values_list("actor", "via")) == [("ada", "token"), ("ada", "session")]


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_database_that_takes_no_events_keeps_nobody_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ada = make_account()
    statuses = []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only=ON")
        try:
            statuses += [ask(ada), ask(ada, password="wrong")]
        finally:
            cursor.execute("PRAGMA query_only=OFF")
    RememberedBasicAuthentication._verified.clear()

    statuses += [ask(ada), ask(ada, password="wrong")]

    assert statuses == [200, 401, 200, 401]
    # The count of failures is asked first, and refuses just so.
    assert caplog.text.count("a sign-in is not in the audit") == 1
    assert caplog.text.count("a sign-in was not noted") == 1
    assert [row[0] for row in list_sign_ins()] == ["sign_in", "sign_in_failed"]


@pytest.mark.postgresql
def test_postgresql_that_takes_no_events_keeps_nobody_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ada = make_account()
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")

    statuses = [ask(ada), ask(ada, password="wrong")]

    assert statuses == [200, 401]
    assert caplog.text.count("a sign-in is not in the audit") == 1
    assert caplog.text.count("a sign-in was not noted") == 1
