"""An account's own tokens: several, named, shown once, with an end and a last use."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runapp.models import AccessToken
from runapp.services import tokens as services
from tests.factories import PASSWORD, JSONClient, make_account, make_client, make_token

pytestmark = pytest.mark.django_db

PATH = "/runapp/tokens/"
OTHER = "/runapp/rawdata/"


def make_bearer(key: str) -> JSONClient:
    client = JSONClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    return client


def test_token_is_made_with_a_key_that_works_and_is_kept_nowhere() -> None:
    client = make_client(make_account())

    response = client.post(PATH, {"name": "nightly", "expires_in_days": 30})

    made = response.json()
    key = made.pop("key")
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    assert set(made) == {"id", "name", "created_at", "expires_at", "last_used_at"}
    assert re.fullmatch("[0-9a-f]{16}", made["id"])
    assert (made["name"], made["last_used_at"]) == ("nightly", None)
    assert made["expires_at"].endswith("Z")
    assert make_bearer(key).get(OTHER).status_code == 200
    assert key not in json.dumps(list(AccessToken.objects.values()), default=str)


def test_token_without_a_number_of_days_never_expires() -> None:
    made = make_client(make_account()).post(PATH, {"name": "for ever"}).json()

    assert made["expires_at"] is None


def test_own_tokens_are_listed_without_keys() -> None:
    ada = make_account("ada")
    first, second = (make_token(ada, name=name) for name in ("one", "two"))
    make_token(ada, name="gone", expiry=timezone.now())
    make_token(make_account("bob"))

    response = make_client(ada).get(PATH)

    assert [row["id"] for row in response.json()] == [first[0].public_id, second[0].public_id]
    for token, key in (first, second):
        assert key[:15] not in response.content.decode()
        assert token.digest not in response.content.decode()


def test_revoked_token_is_refused_at_once_and_others_go_on() -> None:
    account = make_account()
    (token, key), (_, other) = make_token(account), make_token(account)

    response = make_client(account).delete(f"{PATH}{token.public_id}/")

    assert response.status_code == 204
    assert make_bearer(key).get(OTHER).status_code == 401
    assert make_bearer(other).get(OTHER).status_code == 200
    assert make_client(account).delete(f"{PATH}{token.public_id}/").status_code == 404


def test_token_cannot_make_tokens() -> None:
    account = make_account()
    bearer = make_bearer(make_token(account)[1])

    response = bearer.post(PATH, {"name": "another"})

    assert response.status_code == 403
    assert response.json()["errors"][0]["code"] == "permission_denied"
    assert AccessToken.objects.count() == 1


def test_token_can_list_and_revoke_itself() -> None:
    token, key = make_token(make_account())
    bearer = make_bearer(key)

    statuses = (
        bearer.get(PATH).status_code,
        bearer.delete(f"{PATH}{token.public_id}/").status_code,
    )

    assert statuses == (200, 204)


def test_tokens_of_others_do_not_exist() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    token, _ = make_token(ada)
    client = make_client(bob)

    assert client.delete(f"{PATH}{token.public_id}/").status_code == 404
    assert client.get(f"{PATH}?owner=ada").status_code == 404
    assert client.delete(f"{PATH}{token.public_id}/?owner=ada").status_code == 404
    assert AccessToken.objects.filter(pk=token.pk).exists()


def test_superuser_sees_and_revokes_those_of_an_account_that_is_named() -> None:
    token, _ = make_token(make_account("ada"))
    client = make_client(make_account("root", is_superuser=True))

    unnamed = client.get(PATH).json()
    named = client.get(f"{PATH}?owner=ada").json()
    not_own = client.delete(f"{PATH}{token.public_id}/").status_code
    revoked = client.delete(f"{PATH}{token.public_id}/?owner=ada").status_code

    assert unnamed == []
    assert [row["id"] for row in named] == [token.public_id]
    assert (not_own, revoked) == (404, 204)


def test_superuser_makes_no_tokens_for_others() -> None:
    make_account("ada")
    client = make_client(make_account("root", is_superuser=True))

    assert client.post(f"{PATH}?owner=ada", {"name": "hers"}).status_code == 403
    assert not AccessToken.objects.exists()


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "name", "required"),
        ({"name": ""}, "name", "blank"),
        ({"name": "x" * 101}, "name", "max_length"),
        ({"name": "a\nb"}, "name", "control_character"),
        ({"name": "taken"}, "name", "unique"),
        ({"name": "a", "expires_in_days": 0}, "expires_in_days", "min_value"),
        ({"name": "a", "expires_in_days": 3651}, "expires_in_days", "max_value"),
        ({"name": "a", "expires_in_days": "soon"}, "expires_in_days", "invalid"),
        ({"name": "a", "expires": 30}, "expires", "unknown"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_token_is_refused(body: dict[str, Any], field: str, code: str) -> None:
    account = make_account()
    make_token(account, name="taken")

    response = make_client(account).post(PATH, body)

    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == (field, code)


def test_name_is_free_for_others_and_once_its_token_has_expired() -> None:
    ada = make_account("ada")
    make_token(make_account("bob"), name="nightly")
    make_token(ada, name="nightly", expiry=timezone.now() - timedelta(seconds=1))

    response = make_client(ada).post(PATH, {"name": "nightly"})

    assert response.status_code == 201
    assert AccessToken.objects.filter(user=ada).count() == 1


def test_too_many_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_TOKENS", 2)
    account = make_account()
    client = make_client(account)
    make_token(account)
    make_token(account, expiry=timezone.now())  # does not count

    statuses = [client.post(PATH, {"name": name}).status_code for name in ("a", "b")]

    assert statuses == [201, 409]


def test_unnamed_tokens_get_numbers_that_are_free() -> None:
    account = make_account()
    make_token(account, name="token 1")

    names = [make_token(account)[0].name for _ in range(2)]

    assert names == ["token 2", "token 3"]


def test_two_tokens_of_one_name_at_once_are_one(transactional_db: None) -> None:
    account = make_account()
    together = threading.Barrier(2)

    def post(_: int) -> int:
        client = JSONClient()
        client.force_authenticate(account)
        together.wait(20)
        try:
            return int(client.post(PATH, {"name": "one"}).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(post, range(2)))

    assert statuses == [201, 400]


def test_use_is_noted_at_most_once_a_minute() -> None:
    token, key = make_token(make_account())
    bearer = make_bearer(key)

    bearer.get(OTHER)
    token.refresh_from_db()
    first = token.last_used_at
    with CaptureQueriesContext(
        connection,
    ) as queries:
        bearer.get(OTHER)
    token.refresh_from_db()

    assert first is not None
    assert abs(timezone.now() - first) < timedelta(seconds=30)
    assert token.last_used_at == first
    assert not [query for query in queries if query["sql"].startswith("UPDATE")]


def test_use_is_noted_again_after_a_minute() -> None:
    old = timezone.now() - timedelta(seconds=61)
    token, key = make_token(make_account(), last_used_at=old)

    make_bearer(key).get(OTHER)

    token.refresh_from_db()
    assert token.last_used_at is not None
    assert token.last_used_at > old


def test_refused_key_is_no_use() -> None:
    token, key = make_token(make_account(is_active=False))

    make_bearer(key).get(OTHER)

    token.refresh_from_db()
    assert token.last_used_at is None


def test_light_list_by_a_token_costs_as_many_queries_as_by_a_password() -> None:
    account = make_account()
    client, bearer = make_client(account), make_bearer(make_token(account)[1])
    client.get(OTHER), bearer.get(OTHER)

    with CaptureQueriesContext(connection) as by_password:
        client.get(OTHER)
    with CaptureQueriesContext(connection) as by_token:
        bearer.get(OTHER)

    assert len(by_token) == len(by_password)


@pytest.fixture
def read_only(transactional_db: None) -> Iterator[Any]:
    access = "SET SESSION CHARACTERISTICS AS TRANSACTION READ"
    begin, end = (
        (f"{access} ONLY", f"{access} WRITE")
        if connection.vendor == "postgresql"
        else ("PRAGMA query_only=ON", "PRAGMA query_only=OFF")
    )
    with connection.cursor() as cursor:
        yield lambda: cursor.execute(begin)
        cursor.execute(end)


def test_token_reads_a_database_that_can_only_be_read(read_only: Any) -> None:
    _, key = make_token(make_account())
    read_only()

    assert make_bearer(key).get(OTHER).status_code == 200
    assert make_bearer(key[::-1]).get(OTHER).status_code == 401


def sign_in_to_admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    return client


def test_admin_makes_a_token_and_shows_its_key_once() -> None:
    account, client = make_account(), sign_in_to_admin()
    form = {"user": account.pk, "name": "<b>nightly", "expiry_0": "", "expiry_1": ""}

    page = client.post("/admin/runapp/accesstoken/add/", form, follow=True).content.decode()
    again = client.get("/admin/runapp/accesstoken/").content.decode()

    (key,) = re.findall(r"will not be shown again: ([0-9a-f]{64})", page)
    assert make_bearer(key).get(OTHER).status_code == 200
    assert "&lt;b&gt;nightly" in again
    assert "<b>nightly" not in again
    assert key[:15] not in again


@pytest.mark.parametrize("name", ["taken", "a\u202eb"])
def test_admin_refuses_a_bad_name(name: str) -> None:
    account, client = make_account(), sign_in_to_admin()
    make_token(account, name="taken")
    form = {"user": account.pk, "name": name, "expiry_0": "", "expiry_1": ""}

    response = client.post("/admin/runapp/accesstoken/add/", form)

    assert response.status_code == 200
    assert AccessToken.objects.count() == 1


def test_admin_shows_and_revokes_without_a_key() -> None:
    client = sign_in_to_admin()
    token, key = make_token(make_account(), name="nightly")
    page = f"/admin/runapp/accesstoken/{token.digest}"

    found = client.get("/admin/runapp/accesstoken/?q=nightly").content.decode()
    shown = client.get(f"{page}/change/").content.decode()
    deleted = client.post(f"{page}/delete/", {"post": "yes"})

    assert token.public_id in found
    assert "nightly" in shown
    assert key[:15] not in found + shown
    assert deleted.status_code == 302
    assert make_bearer(key).get(OTHER).status_code == 401


def test_staff_makes_no_token_of_a_superuser() -> None:
    root, ada = User.objects.create_superuser("root"), make_account()
    helper = make_account("helper", is_staff=True)
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=["add_accesstoken", "view_user"])
    )
    client = Client()
    client.force_login(helper)

    for account in (root, ada):
        form = {"user": account.pk, "name": "mine", "expiry_0": "", "expiry_1": ""}
        client.post("/admin/runapp/accesstoken/add/", form)

    # It would do all that he may not.
    assert [token.user for token in AccessToken.objects.all()] == [ada]
