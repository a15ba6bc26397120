"""An account changes its own password."""

from __future__ import annotations

from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client

from tests.factories import PASSWORD, JSONClient, make_account, make_client, make_token

pytestmark = pytest.mark.django_db

PATH = "/runapp/account/password/"
OTHER = "/runapp/rawdata/"
NEW = "an0ther-Troubadour"
CHANGE = {"old_password": PASSWORD, "new_password": NEW}


def test_new_password_counts_at_once_and_the_old_one_no_more() -> None:
    account = make_account()
    client = make_client(account)
    client.get(OTHER)  # remembered from now on

    response = client.post(PATH, CHANGE)

    assert (response.status_code, response.content) == (204, b"")
    assert client.get(OTHER).status_code == 401
    assert make_client(account, password=NEW).get(OTHER).status_code == 200


def test_other_sessions_end_and_tokens_go_on() -> None:
    account = make_account()
    own, other = Client(), Client()
    for session in (own, other):
        session.force_login(account)
    bearer = JSONClient(HTTP_AUTHORIZATION=f"Token {make_token(account)[1]}")

    response = own.post(PATH, CHANGE, content_type="application/json")

    assert response.status_code == 204
    statuses = [client.get(OTHER).status_code for client in (own, other, bearer)]
    assert statuses == [200, 401, 200]


def test_session_needs_a_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_account())

    assert client.post(PATH, CHANGE, content_type="application/json").status_code == 403


def test_token_cannot_change_it() -> None:
    bearer = JSONClient(HTTP_AUTHORIZATION=f"Token {make_token(make_account())[1]}")

    response = bearer.post(PATH, CHANGE)

    assert response.status_code == 403
    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"old_password": "wrong"}, "old_password", "wrong_password"),
        ({"old_password": ""}, "old_password", "blank"),
        ({"new_password": "Short-1"}, "new_password", "weak_password"),
        ({"new_password": "47110815194711"}, "new_password", "weak_password"),
        ({"new_password": "password12"}, "new_password", "weak_password"),
        ({"new_password": "ada@example.org"}, "new_password", "weak_password"),
        ({"new_password": NEW + "\0"}, "new_password", "null_characters_not_allowed"),
        ({"new_password": "x" * 4097}, "new_password", "max_length"),
        ({"new_password": None}, "new_password", "null"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_change_is_refused(changes: dict[str, Any], field: str, code: str) -> None:
    client = make_client(make_account())

    response = client.post(PATH, {**CHANGE, **changes})

    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert User.objects.get().check_password(PASSWORD)


def test_wrong_old_passwords_count_until_it_is_locked(settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    client = Client()
    client.force_login(make_account())
    body = {**CHANGE, "old_password": "wrong"}

    statuses = [
        client.post(PATH, change, content_type="application/json").status_code
        for change in (body, body, CHANGE)
    ]

    assert statuses == [400, 400, 429]
    assert AccessAttempt.objects.get().failures_since_start == 2
    assert client.get(OTHER).status_code == 200
