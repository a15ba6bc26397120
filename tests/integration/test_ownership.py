"""Every endpoint as its owner, another account, nobody and a superuser."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from runapp.models import RawData, SubmissionFold
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
    post_fold,
)

pytestmark = pytest.mark.django_db

LISTS = ["rawdata", "submission", "submissionfold", "submissionfold-light"]

# Method, path, body: of what belongs to somebody.
OWNED: list[tuple[str, str, dict[str, Any]]] = [
    ("get", "rawdata/{pk}/", {}),
    ("patch", "rawdata/{pk}/", {"limits": {"processes": 2}}),
    ("post", "rawdata/{pk}/folds/", {"n_splits": 3}),
    ("post", "rawdata/split/", {"held_out_test": 0.5, "force": True}),
    ("post", "raw_data/split/", {"held_out_test": 0.5, "force": True}),
    ("get", "submissionfold/11/", {}),
    ("patch", "submissionfold/12/", {"priority": "H"}),
    ("delete", "submissionfold/12/", {}),
    ("post", "testpredictions/new/", {}),
    ("delete", "rawdata/{pk}/", {}),
]
UNOWNED = [
    ("get", "rawdata/"),
    ("post", "rawdata/"),
    ("get", "submission/"),
    ("get", "submissionfold/"),
    ("post", "submissionfold/"),
    ("get", "submissionfold-light/"),
    ("post", "testpredictions/list/"),
    ("post", "rawdata/customsplit/"),
    ("post", "raw_data/customsplit/"),
]


def make_rows(owner: User, **changes: Any) -> RawData:
    """Make a dataset, a finished fold 11 and a waiting fold 12."""
    raw_data = make_ready_dataset(owner, **changes)
    finish_fold(owner, raw_data, databoard_sf_id=11)
    make_fold(owner, databoard_sf_id=12)
    return raw_data


def call(client: Any, method: str, path: str, body: dict[str, Any], raw_data: RawData) -> Any:
    if body:
        body = {"raw_data_id": raw_data.pk, **body}
    if "testpredictions/new" in path:
        body = {"raw_data_id": raw_data.pk}
    return getattr(client, method)(f"/runapp/{path.format(pk=raw_data.pk)}", body)


@pytest.mark.parametrize(("method", "path", "body"), OWNED)
def test_owner_may(method: str, path: str, body: dict[str, Any]) -> None:
    owner = make_account()
    raw_data = make_rows(owner)

    response = call(make_client(owner), method, path, body, raw_data)

    assert response.status_code in (200, 204)


def test_another_account_finds_nothing_and_changes_nothing() -> None:
    raw_data = make_rows(make_account())
    before = (RawData.objects.values().get(), list(SubmissionFold.objects.values()))
    bob = make_client(make_account("bob"))

    for method, path, body in OWNED:
        response = call(bob, method, path, body, raw_data)

        assert response.status_code == 404, path
        assert response.json()["errors"][0]["code"] == "not_found"
    assert (RawData.objects.values().get(), list(SubmissionFold.objects.values())) == before


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, _ in OWNED] + UNOWNED
)
def test_nobody_is_asked_who_they_are(method: str, path: str) -> None:
    response = getattr(make_client(), method)(f"/runapp/{path.format(pk=1)}")

    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    ("method", "path", "body"), [row for row in OWNED if "predictions" not in row[1]]
)
def test_superuser_may(method: str, path: str, body: dict[str, Any]) -> None:
    raw_data = make_rows(make_account())
    root = make_client(make_account("root", is_superuser=True))

    response = call(root, method, path, body, raw_data)

    assert response.status_code in (200, 204)


def test_lists_show_an_account_its_own_rows_without_an_owner() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    make_rows(ada)

    for path in LISTS:
        own = make_client(ada).get(f"/runapp/{path}/").json()
        foreign = make_client(bob).get(f"/runapp/{path}/").json()

        assert own, path
        assert all("owner" not in row for row in own)
        assert foreign == []


def test_lists_show_a_superuser_all_rows_with_their_owner() -> None:
    for name in ("ada", "bob"):
        make_rows(make_account(name))
    root = make_client(make_account("root", is_superuser=True))

    for path in LISTS:
        every = root.get(f"/runapp/{path}/").json()
        some = root.get(f"/runapp/{path}/", {"owner": "bob"}).json()

        assert {row["owner"] for row in every} == {"ada", "bob"}, path
        assert some == [row for row in every if row["owner"] == "bob"]


@pytest.mark.parametrize("path", LISTS)
def test_account_may_name_itself_as_owner_and_nobody_else(path: str) -> None:
    client = make_client(make_account("ada"))
    make_account("bob")

    assert client.get(f"/runapp/{path}/?owner=ada").json() == []
    assert client.get(f"/runapp/{path}/?owner=bob").status_code == 404
    assert client.get(f"/runapp/{path}/?owner=nobody").status_code == 404


def test_odd_owner_is_not_found() -> None:
    bob = make_account("bob")
    make_fold(bob, make_raw_data(bob), databoard_sf_id=11)
    root = make_client(make_account("root", is_superuser=True))
    names = [
        "",
        "%00",
        "bob%00",
        "%ff",
        "%F0%9F%8C%B8",
        "b" * 5000,
        "bob%20",
        "..",
        "1%27%20OR%201",
    ]

    for name in names:
        for path in ("rawdata/", "submissionfold/11/"):
            assert root.get(f"/runapp/{path}?owner={name}").status_code == 404, name


@pytest.mark.parametrize("name", ["a+b@c.org", "zoé", "用户"])
def test_owner_may_have_a_name_of_any_script(name: str) -> None:
    make_raw_data(make_account(name))
    root = make_client(make_account("root", is_superuser=True))

    rows = root.get("/runapp/rawdata/", {"owner": name}).json()

    assert [row["owner"] for row in rows] == [name]


def test_superuser_sees_a_fold_id_that_one_account_has() -> None:
    make_rows(make_account("ada"))
    root = make_client(make_account("root", is_superuser=True))

    assert root.get("/runapp/submissionfold/11/").json()["owner"] == "ada"


@pytest.mark.parametrize("method", ["get", "delete", "patch"])
def test_superuser_must_say_whose_fold_when_several_have_the_id(method: str) -> None:
    for name in ("bob", "ada"):
        account = make_account(name)
        make_fold(account, make_raw_data(account), databoard_sf_id=12)
    root = make_client(make_account("root", is_superuser=True))
    body = {"priority": "H"} if method == "patch" else None

    vague = getattr(root, method)("/runapp/submissionfold/12/", body)
    exact = getattr(root, method)("/runapp/submissionfold/12/?owner=bob", body)

    assert vague.status_code == 409
    assert "ada, bob" in vague.json()["detail"]
    assert exact.status_code == 200
    assert exact.json()["owner"] == "bob"
    states = dict(SubmissionFold.objects.values_list("owner__username", "priority"))
    assert states["ada"] == "L"


def test_superusers_own_fold_comes_first() -> None:
    make_rows(make_account("ada"))
    root = make_account("root", is_superuser=True)
    make_rows(root)

    assert make_client(root).get("/runapp/submissionfold/11/").json()["owner"] == "root"


def test_another_account_cannot_post_on_a_dataset() -> None:
    raw_data = make_raw_data(make_account())

    response = post_fold(make_client(make_account("bob")), raw_data)

    assert response.status_code == 400
    assert response.json()["raw_data"] == [f"There is no raw data {raw_data.pk}."]
    assert not SubmissionFold.objects.exists()


def test_another_account_cannot_use_a_submission() -> None:
    make_fold(make_account(), make_raw_data(User.objects.get()))

    response = make_client(make_account("bob")).post(
        "/runapp/submissionfold/", make_fold_body(databoard_sf_id=12)
    )

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "raw_data"


def test_predictions_are_handed_to_their_owner_alone() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    make_rows(ada)
    client = make_client(bob)

    listed = client.post("/runapp/testpredictions/list/", {"list_submission_fold": [11]}).json()
    new = client.post("/runapp/testpredictions/new/", {}).json()

    assert listed == new == []
    assert len(make_client(ada).post("/runapp/testpredictions/new/", {}).json()) == 1


def test_superuser_reads_predictions_without_taking_them() -> None:
    ada = make_account("ada")
    make_rows(ada)
    root = make_client(make_account("root", is_superuser=True))
    body = {"list_submission_fold": [11]}

    own = root.post("/runapp/testpredictions/list/", body).json()
    named = root.post("/runapp/testpredictions/list/?owner=ada", body).json()
    new = root.post("/runapp/testpredictions/new/", {}).json()

    assert own == new == []
    assert [(row["databoard_sf_id"], row["owner"]) for row in named] == [(11, "ada")]
    assert SubmissionFold.objects.get(databoard_sf_id=11).new


def test_superuser_posts_under_its_own_name() -> None:
    root = make_client(make_account("root", is_superuser=True))

    response = root.post("/runapp/rawdata/?owner=ada", make_raw_data_body())

    assert response.status_code == 201
    assert response.json()["owner"] == "root"
