"""SQLite that is full, read-only or locked: 503 for what it cannot store, reads go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from runapp.models import RawData
from runapp.views import base
from tests.factories import PASSWORD, JSONClient, make_account, make_client, make_raw_data_body

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def post_dataset(client: JSONClient, name: str = "iris") -> Any:
    return client.post("/runapp/rawdata/", make_raw_data_body(name=name))


def check_unavailable(response: Any) -> str:
    assert response.status_code == 503, response.content
    assert int(response["Retry-After"]) > 0
    (error,) = response.json()["errors"]
    assert error["code"] == "unavailable"
    return str(error["message"])


@pytest.fixture
def read_only() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only=ON")
        yield
        cursor.execute("PRAGMA query_only=OFF")


@pytest.fixture
def writer() -> Iterator[sqlite3.Connection]:
    """Hold the write lock, which nobody here waits for long."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout=20")
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")
            yield other
        cursor.execute("PRAGMA busy_timeout=10000")


def test_read_only_database_is_read(request: pytest.FixtureRequest) -> None:
    client = make_client(make_account())
    request.getfixturevalue("read_only")

    assert client.get("/runapp/rawdata/").status_code == 200
    assert "is read-only" in check_unavailable(post_dataset(client))


def test_weak_hash_keeps_nobody_out_of_a_read_only_database(
    request: pytest.FixtureRequest, settings: Any
) -> None:
    weak = PBKDF2PasswordHasher()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    account = make_account("weak")
    User.objects.update(password=weak.encode(PASSWORD, "some salt of 22 letters", iterations=10))
    request.getfixturevalue("read_only")

    known = make_client(account).get("/runapp/rawdata/")
    unknown = make_client(account, password="another").get("/runapp/rawdata/")

    assert (known.status_code, unknown.status_code) == (200, 401)


def test_error_outside_the_api_is_told_in_the_same_way(request: pytest.FixtureRequest) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    browser = Client(raise_request_exception=False)
    request.getfixturevalue("read_only")

    response = browser.post("/admin/login/", {"username": "root", "password": PASSWORD})

    assert "is read-only" in check_unavailable(response)


def test_full_database_is_told_and_read() -> None:
    client = make_client(make_account())
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        (used,) = cursor.fetchone()
        cursor.execute(f"PRAGMA max_page_count={used}")
        try:
            answers = [post_dataset(client, f"iris {number}") for number in range(200)]
            listed = client.get("/runapp/rawdata/")
        finally:
            cursor.execute("PRAGMA max_page_count=1073741823")

    assert {answer.status_code for answer in answers} <= {201, 503}
    check_unavailable(answers[-1])
    assert len(listed.json()) == [answer.status_code for answer in answers].count(201)
    assert post_dataset(client).status_code == 201


def test_lock_that_stays_is_told(writer: sqlite3.Connection) -> None:
    writer.execute("ROLLBACK")
    client = make_client(make_account())
    writer.execute("BEGIN IMMEDIATE")

    answer = post_dataset(client)
    listed = client.get("/runapp/rawdata/")

    check_unavailable(answer)
    assert listed.status_code == 200


def test_write_that_found_a_lock_is_tried_once_more(
    writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.execute("ROLLBACK")
    client = make_client(make_account())
    writer.execute("BEGIN IMMEDIATE")
    is_locked = base.is_locked

    def is_locked_until_now(error: BaseException) -> bool:
        writer.execute("ROLLBACK")
        return is_locked(error)

    monkeypatch.setattr(base, "is_locked", is_locked_until_now)

    answer = post_dataset(client)

    assert answer.status_code == 201
    assert RawData.objects.count() == 1
