"""Who asks: Basic, tokens, the browser session, and a credential that is remembered."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone

from runapp.http.authentication import RememberedBasicAuthentication
from tests.factories import (
    PASSWORD,
    JSONClient,
    make_account,
    make_basic,
    make_client,
    make_raw_data,
    make_token,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/"
REAL_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]


def get(authorization: str | None) -> Any:
    given = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    return JSONClient().get(PATH, **given)


@pytest.fixture
def count_hashes(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Use the real hash, with fewer rounds, and note each computation."""
    settings.PASSWORD_HASHERS = REAL_HASHERS
    monkeypatch.setattr(hashers.PBKDF2PasswordHasher, "iterations", 1000)
    calls: list[str] = []
    encode = hashers.PBKDF2PasswordHasher.encode

    def count(self: Any, password: str, salt: str, iterations: int | None = None) -> str:
        calls.append(password)
        return encode(self, password, salt, iterations)

    monkeypatch.setattr(hashers.PBKDF2PasswordHasher, "encode", count)
    return calls


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic YWRh",  # no colon
        "Basic a b",
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        make_basic("ada", "wrong"),
        make_basic("ada", ""),
        make_basic("ada", PASSWORD + "\0"),
        make_basic("", ""),
        make_basic("nobody"),
        make_basic("ad\0a"),
        make_basic("ada\0"),
        make_basic("x" * 10_000),
        "Token",
        "Token nonsense",
        "Token a b",
        "Token \xff\xfe",
        "Token " + "0" * 64,
        "Bearer " + "0" * 64,
        "Digest username=ada",
    ],
    ids=lambda authorization: repr(authorization)[:30],
)
def test_anything_else_than_good_credentials_is_challenged(authorization: str | None) -> None:
    make_account()

    response = get(authorization)

    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Basic")
    assert response["Content-Type"] == "application/json"
    assert response.json()["errors"][0]["code"] in ("not_authenticated", "authentication_failed")


def test_basic_is_accepted() -> None:
    make_account()

    assert get(make_basic("ada")).status_code == 200


@pytest.mark.parametrize("name", ["zoé", "a+b@c", "用户"])
@pytest.mark.parametrize("password", ["pass:word", "naïve 密码", " blank "])
def test_basic_takes_names_and_passwords_of_any_script(name: str, password: str) -> None:
    make_account(name, password=password)

    assert get(make_basic(name, password)).status_code == 200


def test_token_is_accepted_until_it_is_deleted() -> None:
    token, key = make_token(make_account())

    accepted = get(f"Token {key}")
    token.delete()
    refused = get(f"Token {key}")

    assert accepted.status_code == 200
    assert refused.status_code == 401


def test_expired_token_is_refused() -> None:
    token, key = make_token(make_account(), expiry=timezone.now() + timedelta(hours=1))
    accepted = get(f"Token {key}")
    token.expiry = timezone.now() - timedelta(seconds=1)
    token.save()

    assert accepted.status_code == 200
    assert get(f"Token {key}").status_code == 401


def test_token_belongs_to_its_account() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    make_raw_data(ada)
    _, key = make_token(bob)

    assert get(f"Token {key}").json() == []


def test_token_of_a_disabled_account_is_refused() -> None:
    account = make_account()
    _, key = make_token(account)
    User.objects.update(is_active=False)

    assert get(f"Token {key}").status_code == 401


def test_session_reads_without_and_writes_with_a_csrf_token() -> None:
    account = make_account()
    make_raw_data(account)
    client = Client(enforce_csrf_checks=True)
    client.force_login(account)
    body: dict[str, Any] = {"path": "/runapp/testpredictions/new/", "data": {}}

    read = client.get(PATH)
    refused = client.post(**body, content_type="application/json")
    client.get("/admin/login/")  # a page with a form sets the cookie
    secret = client.cookies["csrftoken"].value
    accepted = client.post(**body, content_type="application/json", headers={"X-CSRFToken": secret})

    assert (read.status_code, len(read.json())) == (200, 1)
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["code"] == "permission_denied"
    assert accepted.status_code == 200


def test_basic_needs_no_csrf_token() -> None:
    make_account()
    client = JSONClient(enforce_csrf_checks=True)

    response = client.post("/runapp/testpredictions/new/", {}, HTTP_AUTHORIZATION=make_basic("ada"))

    assert response.status_code == 200


def test_strong_hash_is_computed_once_for_many_requests(count_hashes: list[str]) -> None:
    account = make_account()
    count_hashes.clear()

    statuses = {make_client(account).get(PATH).status_code for _ in range(10)}

    assert statuses == {200}
    assert count_hashes == [PASSWORD]


def test_wrong_password_is_not_remembered(count_hashes: list[str]) -> None:
    account = make_account()
    make_client(account).get(PATH)
    count_hashes.clear()

    statuses = {make_client(account, password="wrong").get(PATH).status_code for _ in range(2)}

    assert statuses == {401}
    assert count_hashes == ["wrong", "wrong"]


def test_unknown_account_costs_as_much_as_a_known_one(count_hashes: list[str]) -> None:
    response = get(make_basic("nobody"))

    assert response.status_code == 401
    assert len(count_hashes) == 1


def test_changed_password_counts_at_once() -> None:
    account = make_account()
    client = make_client(account)
    before = client.get(PATH).status_code

    account.set_password("another-Secret-9")
    account.save()

    assert before == 200
    assert client.get(PATH).status_code == 401
    assert get(make_basic("ada", "another-Secret-9")).status_code == 200


def test_disabled_account_is_refused_at_once_and_welcome_again() -> None:
    account = make_account()
    client = make_client(account)
    statuses = [client.get(PATH).status_code]

    for is_active in (False, True):
        User.objects.update(is_active=is_active)
        statuses.append(client.get(PATH).status_code)

    assert statuses == [200, 401, 200]


def test_deleted_account_is_refused_at_once() -> None:
    account = make_account()
    client = make_client(account)
    client.get(PATH)

    account.delete()

    assert client.get(PATH).status_code == 401


def test_new_account_of_an_old_name_does_not_inherit_its_password() -> None:
    account = make_account()
    client = make_client(account)
    client.get(PATH)
    account.delete()

    make_account("ada", password="another-Secret-9")

    assert client.get(PATH).status_code == 401


def test_renamed_account_is_refused_under_the_old_name() -> None:
    account = make_account()
    client = make_client(account)
    client.get(PATH)

    User.objects.update(username="eve")

    assert client.get(PATH).status_code == 401
    assert get(make_basic("eve")).status_code == 200


def test_remembered_credential_does_not_hold_the_password() -> None:
    from runapp.http.authentication import RememberedBasicAuthentication

    make_client(make_account(password="a-very-Secret-1"), password="a-very-Secret-1").get(PATH)

    assert "a-very-Secret-1" not in repr(list(RememberedBasicAuthentication._verified.items()))


def test_credential_of_many_requests_at_once_is_hashed_once(
    transactional_db: None, count_hashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_account()
    count_hashes.clear()
    everybody = threading.Barrier(8)
    look_up = RememberedBasicAuthentication._is_verified

    def look_up_together(self: RememberedBasicAuthentication, key: str) -> bool:
        found = look_up(self, key)
        if not looked.flag:
            looked.flag = True
            everybody.wait(20)
        return found

    class Looked(threading.local):
        flag = False

    looked = Looked()
    monkeypatch.setattr(RememberedBasicAuthentication, "_is_verified", look_up_together)

    def ask(_: int) -> int:
        try:
            return int(get(make_basic(account.username)).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(8)))

    assert statuses == [200] * 8
    assert len(count_hashes) == 1


@pytest.mark.parametrize("name", ["ada", "nobody", "disabled"])
def test_names_are_not_told_apart_by_how_long_many_at_once_take(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_account()
    make_account("disabled", is_active=False)
    n_held: list[int] = []

    def refuse(**how: Any) -> bool:
        locks = RememberedBasicAuthentication._hashing
        n_held.append(sum(lock.locked() for lock in locks))
        return False

    monkeypatch.setattr("runapp.http.authentication.sign_in", refuse)
    response = get(make_basic(name, "wrong"))

    # Those who ask the same wait for each other, whether there is such an account or not.
    assert response.status_code == 401
    assert n_held == [1]
