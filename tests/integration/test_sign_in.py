"""Wrong passwords: counted by name and address, refused unseen after too many of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth import hashers
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from runapp.accounts.passwords import LOCKED
from tests.factories import PASSWORD, JSONClient, make_account, make_basic

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/"
HERE, ELSEWHERE = "192.0.2.1", "2001:db8::"
LIMIT = 3


@pytest.fixture(autouse=True)
def few_failures(settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = LIMIT


def ask(name: str = "ada", password: str = "wrong", *, address: str = HERE, **more: Any) -> Any:
    client = JSONClient(REMOTE_ADDR=address)
    return client.get(PATH, HTTP_AUTHORIZATION=make_basic(name, password), **more)


def fail(times: int = LIMIT, **how: Any) -> list[int]:
    return [ask(**how).status_code for _ in range(times)]


def sign_in_by_form(password: str, *, address: str = HERE) -> Any:
    return Client(REMOTE_ADDR=address).post(
        "/admin/login/?next=/admin/", {"username": "root", "password": password}
    )


def make_old(**filters: Any) -> None:
    """Let failures lie as far back as the lock lasts."""
    AccessAttempt.objects.filter(**filters).update(
        attempt_time=timezone.now() - timedelta(seconds=901)
    )


def test_basic_is_locked_after_too_many_failures() -> None:
    make_account()

    statuses = fail()
    response = ask(password=PASSWORD)

    assert statuses == [401] * LIMIT
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 900
    assert response.json() == {
        "detail": LOCKED,
        "errors": [{"field": None, "code": "locked", "message": LOCKED}],
    }


def test_locked_sign_in_costs_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    make_account()
    fail()
    hashed: list[str] = []
    monkeypatch.setattr(
        hashers.MD5PasswordHasher, "encode", lambda self, password, salt: hashed.append(password)
    )

    statuses = {ask(password=password).status_code for password in ("wrong", PASSWORD)}

    assert statuses == {429}
    assert hashed == []


def test_lock_is_over_in_time() -> None:
    make_account()
    fail()

    make_old()

    assert ask(password=PASSWORD).status_code == 200


def test_refused_tries_do_not_make_the_lock_longer() -> None:
    make_account()
    fail()
    before = AccessAttempt.objects.get().attempt_time

    fail()

    assert AccessAttempt.objects.get().attempt_time == before


def test_nobody_is_locked_out_from_elsewhere() -> None:
    make_account("ada")
    make_account("bob")

    fail()

    assert ask(password=PASSWORD, address=ELSEWHERE).status_code == 200
    assert ask("bob", PASSWORD).status_code == 200


def test_address_is_that_of_the_client_behind_a_proxy(settings: Any) -> None:
    settings.PROXIES = 1
    make_account()

    fail(HTTP_X_FORWARDED_FOR=f"{ELSEWHERE}, 192.0.2.7")

    assert ask(password=PASSWORD, HTTP_X_FORWARDED_FOR="192.0.2.7").status_code == 429
    assert ask(password=PASSWORD, HTTP_X_FORWARDED_FOR="192.0.2.8").status_code == 200


@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", 429),
        ("2001:db8::1", "2001:db8:0:1::1", 200),
        ("::ffff:192.0.2.1", "192.0.2.1", 429),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", 200),
    ],
)
def test_addresses_of_one_network_of_ipv6_count_as_one(one: str, other: str, status: int) -> None:
    make_account()

    fail(address=one)

    assert ask(password=PASSWORD, address=other).status_code == status


def test_unknown_address_counts_as_one() -> None:
    make_account()

    statuses = fail(LIMIT + 1, address="")

    assert statuses == [401] * LIMIT + [429]


def test_another_browser_does_not_begin_anew() -> None:
    make_account()

    statuses = [ask(HTTP_USER_AGENT=f"agent {number}").status_code for number in range(LIMIT + 1)]

    assert statuses == [401] * LIMIT + [429]


def test_address_is_locked_whatever_the_names() -> None:
    make_account()

    statuses = [ask(f"nobody-{number}").status_code for number in range(10 * LIMIT)]

    assert set(statuses) == {401}
    assert ask(password=PASSWORD).status_code == 429
    assert ask(password=PASSWORD, address=ELSEWHERE).status_code == 200


def test_success_clears_the_failures_of_that_name_and_address() -> None:
    make_account("ada")
    fail(LIMIT - 1)
    fail(1, name="bob")
    fail(1, address=ELSEWHERE)

    assert ask(password=PASSWORD).status_code == 200
    left = set(AccessAttempt.objects.values_list("username", "ip_address"))

    assert left == {("bob", HERE), ("ada", ELSEWHERE)}


def test_remembered_credential_goes_on() -> None:
    make_account()
    ask(password=PASSWORD)

    fail()

    assert ask(password=PASSWORD).status_code == 200


@pytest.mark.parametrize("name", ["x" * 10_000, "ä" * 300, "a'; DROP TABLE axes_accessattempt; --"])
def test_any_name_can_fail(name: str) -> None:
    assert fail(LIMIT + 1, name=name) == [401] * LIMIT + [429]


def test_disabled_account_is_counted_too() -> None:
    make_account(is_active=False)

    assert fail(LIMIT + 1, password=PASSWORD) == [401] * LIMIT + [429]


def test_session_goes_on_while_sign_in_is_locked() -> None:
    client = Client(REMOTE_ADDR=HERE)
    client.force_login(make_account())

    fail()

    assert client.get(PATH).status_code == 200


def test_form_is_locked_and_answers_as_the_api() -> None:
    User.objects.create_superuser("root", password=PASSWORD)

    statuses = [sign_in_by_form("wrong").status_code for _ in range(LIMIT - 1)]
    last = sign_in_by_form("wrong")
    locked = sign_in_by_form(PASSWORD)
    elsewhere = sign_in_by_form(PASSWORD, address=ELSEWHERE)

    assert statuses == [200] * (LIMIT - 1)  # the form again, with its error
    assert last.status_code == 429
    assert locked.status_code == 429
    assert 0 < int(locked["Retry-After"]) <= 900
    assert locked.json()["errors"][0]["code"] == "locked"
    assert elsewhere.status_code == 302


def test_form_and_basic_count_together() -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    for _ in range(LIMIT):
        sign_in_by_form("wrong")

    assert ask("root", PASSWORD).status_code == 429


def test_sign_in_by_a_form_clears_failures_and_leaves_no_log() -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    sign_in_by_form("wrong")

    assert sign_in_by_form(PASSWORD).status_code == 302

    assert not AccessAttempt.objects.exists()
    assert not AccessLog.objects.exists()


def test_passwords_and_names_stay_out_of_rows_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    secret = "mistyped-Secret-1"
    caplog.set_level(logging.DEBUG)
    make_account()
    fail(LIMIT + 1, password=secret)
    for _ in range(LIMIT + 1):
        sign_in_by_form(secret)

    rows = repr(list(AccessAttempt.objects.values()))

    assert rows.count("ip_address") == 2
    assert secret not in rows
    assert secret not in caplog.text
    assert f"Locking out {HERE}" in caplog.text


def test_failure_reads_no_body() -> None:
    # More than Django takes of a form: to read it would be an error.
    response = JSONClient(REMOTE_ADDR=HERE).post(
        PATH,
        data=b"files=" + b"x" * 3_000_000,
        content_type="application/x-www-form-urlencoded",
        HTTP_AUTHORIZATION=make_basic("ada", "wrong"),
    )

    assert response.status_code == 401
    assert AccessAttempt.objects.get().post_data == ""


@pytest.fixture
def read_only(transactional_db: None) -> Iterator[Any]:
    """Return what makes the database one that can only be read, for the rest of the test."""
    access = "SET SESSION CHARACTERISTICS AS TRANSACTION READ"
    begin, end = (
        (f"{access} ONLY", f"{access} WRITE")
        if connection.vendor == "postgresql"
        else ("PRAGMA query_only=ON", "PRAGMA query_only=OFF")
    )
    with connection.cursor() as cursor:
        yield lambda: cursor.execute(begin)
        cursor.execute(end)


@pytest.mark.parametrize("is_weak", [False, True], ids=["strong", "weak"])
@pytest.mark.parametrize("n_failures", [0, 1])
def test_wrong_password_never_passes_a_read_only_database(
    read_only: Any, settings: Any, is_weak: bool, n_failures: int
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    account = make_account()
    rounds = 10 if is_weak else PBKDF2PasswordHasher.iterations
    account.password = PBKDF2PasswordHasher().encode(PASSWORD, "salt" * 6, iterations=rounds)
    account.save()
    fail(n_failures)
    read_only()

    wrong = fail(LIMIT + 1)
    nobody = ask("nobody").status_code
    empty = ask(password="").status_code
    right = ask(password=PASSWORD).status_code

    assert (set(wrong), nobody, empty, right) == ({401}, 401, 401, 200)


def test_lock_holds_in_a_read_only_database(read_only: Any) -> None:
    make_account()
    fail()
    read_only()

    assert ask(password=PASSWORD).status_code == 429


def test_wrong_password_is_refused_while_nothing_can_be_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_account()

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(AccessAttempt.objects, "select_for_update", refuse)

    assert ask().status_code == 503
    assert ask().status_code == 503
    assert ask(password=PASSWORD).status_code == 200


def test_password_that_is_changed_meanwhile_is_not_undone_by_a_stronger_hash(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_account()
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    verify = hashers.verify_password

    def change_and_verify(*words: Any) -> Any:
        User.objects.update(password=hashers.make_password("an0ther-Secret"))
        return verify(*words)

    monkeypatch.setattr("runapp.accounts.passwords.verify_password", change_and_verify)
    ask(password=PASSWORD)

    account.refresh_from_db()
    assert account.check_password("an0ther-Secret")
