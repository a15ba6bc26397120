"""The admin site: every model, few queries however many rows, and changes by the services."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin as site
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runapp.events import AuditEvent
from runapp.models import RawData, Share
from runapp.runner.contract import Outcome
from tests.factories import (
    finish_fold,
    make_account,
    make_fold,
    make_live_worker,
    make_ready_dataset,
)

pytestmark = pytest.mark.django_db

MODELS = list(apps.get_app_config("runapp").get_models())
FOLDS = "/admin/runapp/submissionfold/"


@pytest.fixture
def root() -> User:
    return make_account("root", is_superuser=True, is_staff=True)


@pytest.fixture
def client(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def act(client: Client, path: str, action: str, *keys: int) -> Any:
    return client.post(path, {"action": action, "_selected_action": keys})


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/admin/runapp/dailyuse/", {"day__year": str(10**20)}),
        (FOLDS, {"state__exact": "\0"}),
        ("/admin/runapp/accesstoken/", {"name": "\0"}),
        ("/admin/auth/user/", {"is_staff__exact": "\0"}),
    ],
)
def test_what_no_database_can_look_for_is_not_looked_for(
    path: str, query: dict[str, str], client: Client
) -> None:
    response = client.get(path, query, follow=True)

    assert response.redirect_chain == [(f"{path}?e=1", 302)]
    assert response.status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_is_listed_found_and_shown(
    model: Any, client: Client, ada: User, iris: RawData
) -> None:
    make_live_worker()
    finish_fold(ada, iris)
    path = f"/admin/runapp/{model._meta.model_name}/"
    has_search = bool(site.site._registry[model].search_fields)

    listed = client.get(path)
    searched = client.get(path, {"q": "ada"}) if has_search else listed
    first = model._default_manager.first()
    shown = client.get(f"{path}{first.pk}/change/") if first else listed

    assert [page.status_code for page in (listed, searched, shown)] == [200, 200, 200]


@pytest.mark.parametrize("name", ["submissionfold", "foldattempt", "submission", "predictions"])
def test_list_asks_no_more_for_more_rows(
    name: str, client: Client, ada: User, iris: RawData, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        finish_fold(ada, iris, databoard_sf_id=number, databoard_s_id=number)

    with django_assert_max_num_queries(8):
        response = client.get(f"/admin/runapp/{name}/")

    assert response.context["cl"].result_count >= 12


def test_folds_are_filtered_by_error_code_without_a_look_through_all(
    client: Client, ada: User, iris: RawData
) -> None:
    finish_fold(ada, iris)
    failed = finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)

    with CaptureQueriesContext(connection) as queries:
        response = client.get(FOLDS, {"error_code__exact": "wall_limit"})

    assert list(response.context["cl"].result_list) == [failed]
    assert not any("DISTINCT" in query["sql"] for query in queries)
    unknown = client.get(FOLDS, {"error_code__exact": "unknown"})
    assert list(unknown.context["cl"].result_list) == []


def test_folds_are_cancelled_as_on_the_operators_page(
    client: Client, ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris)

    asked = act(client, FOLDS, "cancel", fold.pk)
    (seen,) = [seen for _, seen in asked.context["lines"]]
    done = client.post("/ops/folds/steer/", {"deed": "cancel", "fold": [str(seen)]})

    assert asked.context["back"] == FOLDS
    assert "default-src 'none'" in asked["Content-Security-Policy"]
    assert [result.is_done for result in done.context["results"]] == [True]
    fold.refresh_from_db()
    assert fold.error_code == "cancelled"
    assert AuditEvent.objects.filter(action="fold_cancelled", actor="root").count() == 1


def test_more_folds_than_can_be_told_of_are_not_chosen(
    client: Client, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.admin.ROWS", 2)
    folds = [make_fold(ada, iris, databoard_sf_id=number) for number in range(3)]
    every = {"action": "cancel", "select_across": "1", "_selected_action": [folds[0].pk]}

    refused = client.post(FOLDS, every, follow=True)
    folds[0].delete()
    asked = client.post(FOLDS, {**every, "_selected_action": [folds[1].pk]})

    page = refused.content.decode()
    assert "at most 2 folds can be selected here" in page
    assert "href='/ops/folds/'" in page
    assert len(asked.context["lines"]) == 2


def test_datasets_are_paused_and_resumed(client: Client, iris: RawData) -> None:
    path = "/admin/runapp/rawdata/"
    states = []

    for action in ("pause", "resume"):
        act(client, path, action, iris.pk)
        iris.refresh_from_db()
        states.append(iris.paused)

    assert states == [True, False]
    assert AuditEvent.objects.filter(action="raw_data_changed", via="admin").count() == 2


def test_staff_that_is_no_operator_is_offered_nothing(client: Client, iris: RawData) -> None:
    clerk = make_account("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(clerk)

    response = client.get("/admin/runapp/rawdata/")
    act(client, "/admin/runapp/rawdata/", "pause", iris.pk)

    assert response.status_code == 200
    assert b"Resume" not in response.content
    iris.refresh_from_db()
    assert not iris.paused


def test_account_with_rows_of_its_own_is_not_deleted(
    client: Client, ada: User, iris: RawData
) -> None:
    make_account("bob").groups.add(Group.objects.create(name="course"))  # noted for its lists
    keys = {user.username: user.pk for user in User.objects.all()}

    statuses = {
        name: client.post(f"/admin/auth/user/{keys[name]}/delete/", {"post": "yes"}).status_code
        for name in ("ada", "bob")
    }

    assert statuses == {"ada": 403, "bob": 302}
    assert set(User.objects.values_list("username", flat=True)) == {"ada", "root"}


def test_share_is_made_and_withdrawn(client: Client, ada: User, iris: RawData) -> None:
    bob = make_account("bob")
    form = {"raw_data": iris.pk, "role": "read", "account": bob.pk, "group": ""}

    client.post("/admin/runapp/share/add/", form)
    share = Share.objects.get()
    iris.refresh_from_db()
    client.post(f"/admin/runapp/share/{share.pk}/delete/", {"post": "yes"})

    assert iris.is_shared
    assert not Share.objects.exists()
    told = AuditEvent.objects.filter(kind="share").order_by("pk").values_list("action", "via")
    assert list(told) == [("share_made", "admin"), ("share_removed", "admin")]


@pytest.mark.parametrize("grantees", [(), ("account", "group"), ("owner",), ("account", "again")])
def test_odd_share_is_refused_in_its_form(
    grantees: tuple[str, ...], client: Client, ada: User, iris: RawData
) -> None:
    bob, group = make_account("bob"), Group.objects.create(name="course")
    if "again" in grantees:
        Share.objects.create(raw_data=iris, role="read", account=bob)
    before = Share.objects.count()
    account = ada.pk if "owner" in grantees else bob.pk if "account" in grantees else ""
    form = {
        "raw_data": iris.pk,
        "role": "read",
        "account": account,
        "group": group.pk if "group" in grantees else "",
    }

    response = client.post("/admin/runapp/share/add/", form)

    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert Share.objects.count() == before


def test_names_of_folds_and_datasets_are_escaped(client: Client, ada: User) -> None:
    RawData.objects.filter(pk=make_ready_dataset(ada).pk).update(name="<script>alert(1)</script>")
    make_fold(ada, RawData.objects.get())

    pages = [client.get(f"/admin/runapp/{name}/") for name in ("rawdata", "submission")]

    assert all(b"&lt;script&gt;alert" in page.content for page in pages)
    assert all(b"<script>alert" not in page.content for page in pages)
