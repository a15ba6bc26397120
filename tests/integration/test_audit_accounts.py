"""Changes of accounts, groups, caps and tokens in the audit, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone
from knox.models import get_token_model

from runapp.models import FairShare
from runapp.models.audit import AuditEvent
from tests.factories import PASSWORD, make_account, make_client

pytestmark = pytest.mark.django_db

ADDRESS = "203.0.113.7"
NEW_PASSWORD = "an0ther-Secret"


@pytest.fixture
def admin() -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    return client


def mark() -> int:
    return AuditEvent.objects.values_list("pk", flat=True).order_by("pk").last() or 0


def list_new(*, after: int) -> list[tuple[str, str, str, dict[str, Any]]]:
    rows = AuditEvent.objects.filter(pk__gt=after).order_by("pk")
    return list(rows.values_list("action", "kind", "owner", "facts"))


def make_form(account: User, **changes: Any) -> dict[str, Any]:
    """Return the admin site's form of an account, as it is but for some changes."""
    form = {
        "username": account.username,
        "email": account.email,
        "is_active": "on",
        "date_joined_0": f"{account.date_joined:%Y-%m-%d}",
        "date_joined_1": f"{account.date_joined:%H:%M:%S}",
        **changes,
    }
    return {name: value for name, value in form.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"email": "a@example.org"}, [("account_changed", {"fields": ["email"]})]),
        (
            {"username": "eve", "first_name": "Eve"},
            [("account_changed", {"fields": ["username", "first_name"], "was": "ada"})],
        ),
        ({"is_active": None}, [("account_disabled", {})]),
        (
            {"is_superuser": "on", "is_staff": "on"},
            [("roles_changed", {"is_staff": True, "is_superuser": True})],
        ),
        ({"groups": "crew"}, [("roles_changed", {"added": ["crew"]})]),
    ],
)
def test_form_of_an_account(
    admin: Client, changes: dict[str, Any], expected: list[tuple[str, dict[str, Any]]]
) -> None:
    ada = make_account()
    if "groups" in changes:
        changes = {"groups": Group.objects.create(name="crew").pk}
    before = mark()

    response = admin.post(f"/admin/auth/user/{ada.pk}/change/", make_form(ada, **changes))

    assert response.status_code == 302
    name = changes.get("username", "ada")
    told = list_new(after=before)
    assert told == [(action, "account", name, facts) for action, facts in expected]
    rows = AuditEvent.objects.filter(pk__gt=before)
    assert set(rows.values_list("actor", "via", "address", "target")) == (
        {("root", "admin", ADDRESS, str(ada.pk))} if expected else set()
    )


def test_account_is_made_given_a_password_enabled_and_deleted(admin: Client) -> None:
    before = mark()
    path = "/admin/auth/user/"
    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    new = {"username": "ada", "usable_password": "true", **passwords}

    statuses = [admin.post(f"{path}add/", new).status_code]
    ada = User.objects.get(username="ada")
    one = f"{path}{ada.pk}/"
    statuses += [
        admin.post(f"{one}password/", {"set-password": "1", **new}).status_code,
        admin.post(
            f"{one}password/", {"unset-password": "1", "usable_password": "false"}
        ).status_code,
        admin.post(f"{one}change/", make_form(ada, is_active=None)).status_code,
        admin.post(f"{one}change/", make_form(ada)).status_code,
        admin.post(f"{one}delete/", {"post": "yes"}).status_code,
    ]

    assert statuses == [302] * 6
    actions = [
        "account_made",
        "password_changed",
        "password_changed",
        "account_disabled",
        "account_enabled",
        "account_deleted",
    ]
    assert list_new(after=before) == [(action, "account", "ada", {}) for action in actions]


def test_accounts_that_are_deleted_together(admin: Client) -> None:
    accounts = [make_account("ada"), make_account("bob")]
    before = mark()

    response = admin.post(
        "/admin/auth/user/",
        {
            "action": "delete_selected",
            "_selected_action": [account.pk for account in accounts],
            "post": "yes",
        },
    )

    assert response.status_code == 302
    told = list_new(after=before)
    assert sorted(told) == [("account_deleted", "account", name, {}) for name in ("ada", "bob")]


def test_password_is_not_changed_without_its_event(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = make_account()

    def fail(*args: object, **options: object) -> None:
        raise DatabaseError("no room")

    monkeypatch.setattr(AuditEvent.objects, "bulk_create", fail)
    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    with pytest.raises(DatabaseError):
        admin.post(
            f"/admin/auth/user/{ada.pk}/password/",
            {"set-password": "1", "usable_password": "true", **passwords},
        )

    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)


def test_group_is_made_renamed_given_a_right_and_deleted(admin: Client) -> None:
    before = mark()
    right = Permission.objects.get(codename="change_fairshare")

    statuses = [admin.post("/admin/auth/group/add/", {"name": "crew"}).status_code]
    path = f"/admin/auth/group/{Group.objects.get().pk}/"
    statuses += [
        admin.post(f"{path}change/", {"name": "operators"}).status_code,
        admin.post(f"{path}change/", {"name": "operators", "permissions": right.pk}).status_code,
        admin.post(f"{path}delete/", {"post": "yes"}).status_code,
    ]

    assert statuses == [302] * 4
    assert list_new(after=before) == [
        ("group_made", "group", "", {"name": "crew"}),
        ("group_changed", "group", "", {"name": "operators", "was": "crew"}),
        ("roles_changed", "group", "", {"added": [str(right)]}),
        ("group_deleted", "group", "", {"name": "operators"}),
    ]


def test_memberships_are_told_of_each_account_from_either_end() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    crew, guests = Group.objects.create(name="crew"), Group.objects.create(name="guests")
    before = mark()

    crew.user_set.add(ada, bob)
    ada.groups.set([guests])
    bob.groups.clear()
    bob.groups.add(guests)
    guests.user_set.clear()
    guests.user_set.clear()

    assert [(owner, facts) for _, _, owner, facts in list_new(after=before)] == [
        ("ada", {"added": ["crew"]}),
        ("bob", {"added": ["crew"]}),
        ("ada", {"removed": ["crew"]}),
        ("ada", {"added": ["guests"]}),
        ("bob", {"removed": ["crew"]}),
        ("bob", {"added": ["guests"]}),
        ("ada", {"removed": ["guests"]}),
        ("bob", {"removed": ["guests"]}),
    ]


def test_cap_of_an_account(admin: Client) -> None:
    ada = make_account()
    share = FairShare.objects.create(owner=ada, counted_at=timezone.now(), expected_seconds=1)
    before = mark()

    for cap in (3, 3, ""):
        response = admin.post(f"/admin/runapp/fairshare/{share.pk}/change/", {"cap": cap})
        assert response.status_code == 302

    assert list_new(after=before) == [
        ("quota_changed", "quota", "ada", {"cap": 3}),
        ("quota_changed", "quota", "ada", {"cap": None}),
    ]


def test_tokens_are_told_when_made_and_revoked_but_not_when_they_have_expired() -> None:
    ada = make_account()
    tokens = get_token_model().objects
    before = mark()

    first, _ = tokens.create(ada, name="first")
    tokens.create(ada, name="second")
    expired, _ = tokens.create(ada, name="third", expiry=timedelta(seconds=-1))
    first.delete()
    expired.delete()
    tokens.all().delete()

    told = [(action, owner) for action, _, owner, _ in list_new(after=before)]
    assert told == [("token_made", "ada")] * 3 + [("token_revoked", "ada")] * 2


def _sign_in_by_form(account: User) -> None:
    Client().post("/admin/login/", {"username": account.username, "password": PASSWORD})
    assert User.objects.get(pk=account.pk).last_login is not None


def _sign_in_by_basic(account: User) -> None:
    assert make_client(account).get("/runapp/rawdata/").status_code == 200


@pytest.mark.parametrize("sign_in", [_sign_in_by_form, _sign_in_by_basic])
def test_sign_in_changes_no_account(settings: Any, sign_in: Callable[[User], None]) -> None:
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.MD5PasswordHasher",
        "django.contrib.auth.hashers.ScryptPasswordHasher",
    ]
    ada = make_account()
    User.objects.update(password=make_password(PASSWORD, hasher="scrypt"), is_staff=True)
    before = mark()

    sign_in(ada)

    ada.refresh_from_db()
    assert ada.password.startswith("md5$")
    assert [action for action, *_ in list_new(after=before)] == ["sign_in"]


def test_passwords_changed_by_hash_and_by_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ada = make_account()
    before = mark()

    ada.password = make_password(NEW_PASSWORD)
    ada.save()
    monkeypatch.setattr("getpass.getpass", lambda *words, **options: "a-th1rd-Secret")
    call_command("changepassword", "ada")

    assert list_new(after=before) == [("password_changed", "account", "ada", {})] * 2


def test_events_are_shown_and_not_changed(admin: Client) -> None:
    make_account()
    event = AuditEvent.objects.latest("pk")
    path = "/admin/runapp/auditevent/"

    listed = admin.get(path)
    shown = admin.get(f"{path}{event.pk}/change/")
    refused = [
        admin.post(f"{path}{event.pk}/change/", {"actor": "nobody"}).status_code,
        admin.post(f"{path}{event.pk}/delete/", {"post": "yes"}).status_code,
        admin.get(f"{path}add/").status_code,
    ]

    assert listed.status_code == shown.status_code == 200
    assert "account_made" in listed.content.decode()
    assert refused == [403, 403, 403]
