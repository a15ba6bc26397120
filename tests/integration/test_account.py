"""What an account is told of itself, and how operators set its quotas."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import Client

from runapp.accounts.quotas import set_quota
from runapp.common.exceptions import InvalidInput
from runapp.models import Quota
from tests.factories import (
    make_account,
    make_client,
    make_fold,
    make_raw_data,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/account/"


def run(*words: str) -> list[str]:
    out = io.StringIO()
    call_command("quota", *words, stdout=out)
    return out.getvalue().splitlines()


def test_account_without_quotas_is_told_what_it_uses() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    make_fold(account, raw_data)

    row = make_client(account).get(PATH).json()

    quotas = row.pop("quotas")
    assert row == {"name": "ada", "is_superuser": False, "is_operator": False}
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    resets_at = f"{midnight + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    assert quotas["folds_per_day"] == {
        "limit": None, "used": 1, "left": None, "resets_at": resets_at,
    }  # fmt: skip
    assert quotas["submissions_per_day"] == {
        "limit": None,
        "datasets": [{"raw_data": raw_data.pk, "used": 1, "left": None}],
        "resets_at": resets_at,
    }
    assert quotas["waiting_folds"] == {"limit": None, "used": 1, "left": None, "resets_at": None}
    assert quotas["stored_bytes"]["limit"] is quotas["stored_bytes"]["resets_at"] is None


def test_account_is_told_what_is_left() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    set_quota(
        account=account,
        changes={"folds_per_day": 5, "waiting_folds": 0, "submissions_per_day": 3, "stored_mb": 2},
    )
    quota = Quota.objects.get()
    Quota.objects.update(waiting_folds=None)
    make_fold(account, raw_data)
    quota.save()

    quotas = make_client(account).get(PATH).json()["quotas"]

    assert (quotas["folds_per_day"]["limit"], quotas["folds_per_day"]["left"]) == (5, 4)
    assert (quotas["waiting_folds"]["limit"], quotas["waiting_folds"]["left"]) == (0, 0)
    assert quotas["submissions_per_day"]["limit"] == 3
    assert quotas["submissions_per_day"]["datasets"][0]["left"] == 2
    stored = quotas["stored_bytes"]
    assert stored["limit"] == 2 * 2**20 == stored["used"] + stored["left"]


def test_roles_are_told(settings: Any) -> None:
    settings.OPERATORS_GROUP = "wardens"
    warden, root = make_account("bob"), make_account("root", is_superuser=True)
    warden.groups.add(Group.objects.create(name="wardens"))

    rows = [make_client(account).get(PATH).json() for account in (warden, root)]

    assert [(row["is_superuser"], row["is_operator"]) for row in rows] == [
        (False, True),
        (True, False),
    ]


def test_superuser_may_ask_for_another_and_nobody_else() -> None:
    ada = make_account("ada")
    make_account("bob")
    set_quota(account=ada, changes={"folds_per_day": 7})
    root = make_client(make_account("root", is_superuser=True))

    row = root.get(PATH, {"owner": "ada"}).json()
    refused = make_client(ada).get(PATH, {"owner": "bob"})

    assert (row["name"], row["quotas"]["folds_per_day"]["limit"]) == ("ada", 7)
    assert refused.status_code == 404
    assert make_client().get(PATH).status_code == 401


def test_command_prints_limits_and_use() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    make_fold(account, raw_data)

    lines = run("ada", "--folds-per-day", "200", "--stored-mb", "1")

    assert [line.split()[:3] for line in lines] == [
        ["quota", "limit", "used"],
        ["folds_per_day", "200", "1"],
        ["submissions_per_day", "unlimited", "1"],
        ["waiting_folds", "unlimited", "1"],
        ["stored_bytes", "1048576", lines[-1].split()[2]],
    ]
    assert lines[2].endswith(f"1 to dataset {raw_data.pk}")


def test_command_changes_what_is_named_and_nothing_else() -> None:
    make_account()
    run("ada", "--folds-per-day", "200", "--waiting-folds", "0")

    run("ada", "--folds-per-day", "none", "--submissions-per-day", "4")
    run("ada")

    quota = Quota.objects.get()
    assert (quota.folds_per_day, quota.waiting_folds) == (None, 0)
    assert (quota.submissions_per_day, quota.stored_mb) == (4, None)


@pytest.mark.parametrize(
    "words",
    [
        ["bob"],
        ["ada", "--folds-per-day", "-2"],
        ["ada", "--folds-per-day", "many"],
        ["ada", "--folds-per-day", str(2**31)],
    ],
)
def test_command_refuses_what_cannot_be(words: list[str]) -> None:
    make_account()

    with pytest.raises(CommandError):
        run(*words)

    assert not Quota.objects.exists()


@pytest.mark.parametrize("changes", [{"folds": 1}, {"folds_per_day": -1}, {"stored_mb": 2**31}])
def test_impossible_quota_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        set_quota(account=make_account(), changes=changes)


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(make_account("root", is_superuser=True, is_staff=True))
    return client


def test_admin_sets_a_quota(admin: Client) -> None:
    ada = make_account("ada")
    form = {"account": ada.pk, "stored_mb": "", "waiting_folds": "3", "folds_per_day": "0"}

    added = admin.post("/admin/runapp/quota/add/", {**form, "submissions_per_day": ""})
    quota = Quota.objects.get()
    changed = admin.post(
        f"/admin/runapp/quota/{quota.pk}/change/",
        {"stored_mb": "9", "waiting_folds": "", "folds_per_day": "0", "submissions_per_day": ""},
    )

    assert (added.status_code, changed.status_code) == (302, 302)
    quota = Quota.objects.get()
    assert (quota.account, quota.stored_mb, quota.waiting_folds) == (ada, 9, None)
    assert (quota.folds_per_day, quota.submissions_per_day) == (0, None)


def test_admin_shows_quotas_and_use(admin: Client) -> None:
    ada = make_account("ada")
    make_fold(ada, make_raw_data(ada))
    set_quota(account=ada, changes={"folds_per_day": 4321})

    quotas = admin.get("/admin/runapp/quota/")
    use = admin.get("/admin/runapp/dailyuse/")

    assert "4321" in quotas.content.decode()
    assert use.status_code == 200
    assert admin.post("/admin/runapp/dailyuse/add/").status_code == 403
