"""Shares of datasets, and operators: who sees what, who may do what, who is told of a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from runapp.datasets.raw_data import delete_raw_data
from runapp.lists import feed
from runapp.models import RawData, Share, SubmissionFold
from tests.factories import (
    JSONClient,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_ready_dataset,
    pack_indices,
    post_fold,
    read_rows,
    work,
)

pytestmark = pytest.mark.django_db

LISTS = ["rawdata", "submission", "submissionfold", "submissionfold-light"]
HIDDEN = (
    "train_is",
    "test_is",
    "log_messages",
    "test_predictions",
    "test_predictions_shape",
    "test_predictions_dtype",
    "full_train_predictions",
    "full_train_predictions_shape",
    "full_train_predictions_dtype",
)


def share(raw_data: RawData, role: str, account: User) -> Share:
    """Share a dataset as its owner does."""
    client = make_client(raw_data.owner)
    body = {"account": account.username, "role": role}
    response = client.post(f"/runapp/rawdata/{raw_data.pk}/shares/", body)
    assert response.status_code == 201, response.json()
    return Share.objects.get(pk=response.json()["id"])


def make_operator(name: str = "otto") -> User:
    account = make_account(name)
    account.groups.add(Group.objects.get_or_create(name="operators")[0])
    return account


def get_rows(client: JSONClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    return read_rows(client.get(f"/runapp/{path}/", parameters))


def follow(client: JSONClient, path: str = "submissionfold-light") -> str:
    """Return the cursor of a client that has read a list."""
    return str(client.get(f"/runapp/{path}/")["Datarun-Cursor"])


def ask_since(client: JSONClient, cursor: str, path: str = "submissionfold-light") -> Any:
    return client.get(f"/runapp/{path}/", {"updated_since": cursor})


def test_submitter_posts_and_sees_own_folds_and_the_dataset() -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    for account in (bob, eve):
        share(raw_data, "submit", account)
        make_fold(account, raw_data)
    client = make_client(bob)

    datasets, folds = get_rows(client, "rawdata"), get_rows(client, "submissionfold")

    assert [(row["id"], row["owner"]) for row in datasets] == [(raw_data.pk, "ada")]
    assert [(row["databoard_sf_id"], row["owner"]) for row in folds] == [(11, "bob")]
    assert folds[0]["train_is"] is not None
    assert datasets[0]["classes"] == ["setosa", "versicolor", "virginica"]
    assert [row["owner"] for row in get_rows(client, "submission")] == ["bob"]


def test_owner_of_a_dataset_sees_and_steers_everybodys_folds_on_it() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "submit", bob)
    make_fold(bob, raw_data)
    client = make_client(ada)

    rows = get_rows(client, "submissionfold-light")
    changed = client.patch("/runapp/submissionfold/11/", {"priority": "H"})
    cancelled = client.delete("/runapp/submissionfold/11/")

    assert [row["owner"] for row in rows] == ["bob"]
    assert (changed.status_code, cancelled.status_code) == (200, 200)
    assert cancelled.json()["error_code"] == "cancelled"


def test_reader_sees_all_folds_with_their_results_and_changes_nothing() -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "submit", bob)
    share(raw_data, "read", eve)
    finish_fold(ada, raw_data, databoard_sf_id=12)
    finish_fold(bob, raw_data)
    client = make_client(eve)

    rows = get_rows(client, "submissionfold", fields="databoard_sf_id,owner,test_predictions")
    listed = client.post("/runapp/testpredictions/list/?owner=bob", {"list_submission_fold": [11]})
    file = client.get("/runapp/submissionfold/11/predictions/test/")
    refused = [
        client.patch("/runapp/submissionfold/11/", {"priority": "H"}),
        client.delete("/runapp/submissionfold/11/"),
        post_fold(client, raw_data),
        client.patch(f"/runapp/rawdata/{raw_data.pk}/", {"paused": True}),
        client.post("/runapp/rawdata/split/", {"raw_data_id": raw_data.pk, "held_out_test": 0.5}),
        client.get(f"/runapp/rawdata/{raw_data.pk}/shares/"),
    ]

    assert [(row["databoard_sf_id"], row["owner"]) for row in rows] == [(12, "ada"), (11, "bob")]
    assert all(row["test_predictions"] for row in rows)
    assert [row["owner"] for row in listed.json()] == ["bob"]
    assert file.status_code == 200
    assert {response.status_code for response in refused} == {403}
    assert {response.json()["errors"][0]["code"] for response in refused} == {"permission_denied"}
    assert SubmissionFold.objects.get(owner=bob).new


def test_manager_changes_a_dataset_and_neither_deletes_nor_shares_it() -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    made = share(raw_data, "manage", bob)
    client = make_client(bob)
    path = f"/runapp/rawdata/{raw_data.pk}/"

    allowed = [
        client.patch(path, {"limits": {"processes": 3}}),
        client.post("/runapp/rawdata/split/", {"raw_data_id": raw_data.pk, "held_out_test": 0.5}),
        client.get(f"{path}shares/"),
        post_fold(client, raw_data),
    ]
    refused = [
        client.delete(path),
        client.post(f"{path}shares/", {"account": eve.username, "role": "read"}),
        client.delete(f"{path}shares/{made.pk}/"),
    ]

    assert [response.status_code for response in allowed] == [200, 200, 200, 201]
    assert [response.status_code for response in refused] == [403] * 3
    raw_data.refresh_from_db()
    assert raw_data.limits == {"processes": 3}


def test_group_lets_its_members_in() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    group = Group.objects.create(name="course")
    body = {"group": "course", "role": "submit"}
    made = make_client(ada).post(f"/runapp/rawdata/{raw_data.pk}/shares/", body)
    client = make_client(bob)

    before = get_rows(client, "rawdata")
    bob.groups.add(group)
    member = post_fold(client, raw_data)
    bob.groups.remove(group)
    after = post_fold(client, raw_data, databoard_sf_id=12)

    assert made.json() == {**made.json(), "group": "course", "account": None, "role": "submit"}
    assert before == []
    assert member.status_code == 201
    assert after.status_code == 400
    assert after.json()["errors"][0]["code"] == "does_not_exist"


@pytest.mark.parametrize("path", ["submissionfold/", "submissionfold/bulk/"])
def test_owner_sees_what_a_superuser_posts_on_his_dataset(path: str) -> None:
    ada, root = make_account("ada"), make_account("root", is_superuser=True)
    body: Any = make_fold_body(make_ready_dataset(ada))
    client = make_client(ada)
    cursor = follow(client)

    make_client(root).post(f"/runapp/{path}", [body] if "bulk" in path else body).getvalue()

    assert ask_since(client, cursor).status_code == 410
    rows = get_rows(client, "submissionfold-light")
    assert [(row["databoard_sf_id"], row["owner"]) for row in rows] == [(11, "root")]


def test_withdrawn_submitter_keeps_his_folds_and_posts_no_more() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    made = share(raw_data, "submit", bob)
    make_fold(bob, raw_data)
    withdrawn = make_client(ada).delete(f"/runapp/rawdata/{raw_data.pk}/shares/{made.pk}/")
    client = make_client(bob)

    known = client.post("/runapp/submissionfold/", make_fold_body(databoard_sf_id=12))
    forced = client.post("/runapp/submissionfold/", make_fold_body(force="submission_fold"))
    bulk = client.post("/runapp/submissionfold/bulk/", [make_fold_body(databoard_sf_id=13)])

    assert withdrawn.status_code == 204
    assert get_rows(client, "rawdata") == []
    assert [row["databoard_sf_id"] for row in get_rows(client, "submissionfold-light")] == [11]
    assert (known.status_code, forced.status_code) == (403, 403)
    assert [item["status"] for item in read_rows(bulk)] == [403]
    assert [row["owner"] for row in get_rows(make_client(ada), "submissionfold-light")] == ["bob"]


def test_folds_of_one_id_are_told_apart_by_their_owner() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    for account in (bob, make_account("eve")):
        share(raw_data, "submit", account)
        make_fold(account, raw_data)
    client = make_client(ada)

    vague = client.get("/runapp/submissionfold/11/")
    exact = client.get("/runapp/submissionfold/11/?owner=bob")
    named = get_rows(client, "submissionfold-light", owner="bob")

    assert vague.status_code == 409
    assert "bob, eve" in vague.json()["detail"]
    assert exact.json()["owner"] == "bob"
    assert [row["owner"] for row in named] == ["bob"]


@pytest.mark.parametrize("path", LISTS)
def test_owner_is_named_by_those_who_see_rows_of_his_alone(path: str) -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "submit", bob)
    make_account("eve")
    client = make_client(bob)

    statuses = {
        name: client.get(f"/runapp/{path}/?owner={name}").status_code
        for name in ("bob", "ada", "eve", "nobody")
    }

    assert statuses == {"bob": 200, "ada": 200, "eve": 404, "nobody": 404}


def test_operator_sees_states_and_use_of_everything_and_no_data() -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada)
    finish_fold(ada, raw_data)
    client = make_client(make_operator())

    (fold,) = get_rows(client, "submissionfold")
    detail = client.get("/runapp/submissionfold/11/").json()
    (dataset,) = get_rows(client, "rawdata")
    listed = client.post("/runapp/testpredictions/list/?owner=ada", {"list_submission_fold": [11]})
    file = client.get("/runapp/submissionfold/11/predictions/test/")
    folds = client.post(f"/runapp/rawdata/{raw_data.pk}/folds/", {"n_splits": 2})

    assert (fold["state"], fold["owner"]) == ("TESTED", "ada")
    assert fold["train_cpu_time"] is not None
    assert {name: fold[name] for name in HIDDEN} == dict.fromkeys(HIDDEN)
    assert {name: detail[name] for name in HIDDEN} == dict.fromkeys(HIDDEN)
    assert (dataset["classes"], dataset["log_messages"]) == (None, None)
    assert listed.json() == []
    assert (file.status_code, folds.status_code) == (403, 403)


def test_operator_cancels_pauses_and_reprioritises_and_changes_nothing_else() -> None:
    ada = make_account("ada")
    raw_data = make_ready_dataset(ada)
    make_fold(ada, raw_data)
    client = make_client(make_operator())
    path = f"/runapp/rawdata/{raw_data.pk}/"

    refused = [
        client.patch(path, {"limits": {"processes": 3}}),
        client.patch(path, {"paused": True, "fail_fast": True}),
        client.delete(path),
        client.post("/runapp/rawdata/split/", {"raw_data_id": raw_data.pk, "held_out_test": 0.5}),
        client.post(f"{path}shares/", {"account": "otto", "role": "read"}),
        post_fold(client, raw_data, databoard_sf_id=12),
    ]
    allowed = [
        client.patch(path, {"paused": True}),
        client.patch("/runapp/submissionfold/11/", {"priority": "H"}),
        client.delete("/runapp/submissionfold/11/"),
    ]

    assert [response.status_code for response in refused] == [403] * len(refused)
    assert [response.status_code for response in allowed] == [200] * 3
    assert allowed[0].json()["paused"] is True
    assert allowed[2].json()["error_code"] == "cancelled"


def test_operator_reads_what_is_his_or_shared_with_him_whole() -> None:
    ada, otto = make_account("ada"), make_operator()
    shared, own = make_ready_dataset(ada), make_ready_dataset(otto)
    share(shared, "read", otto)
    finish_fold(ada, shared)
    finish_fold(otto, own)

    rows = get_rows(make_client(otto), "submissionfold")

    assert [row["owner"] for row in rows] == ["ada", "otto"]
    assert all(row["test_predictions"] and row["log_messages"] is not None for row in rows)


def test_submitter_does_not_read_what_a_split_said() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    RawData.objects.update(state="ERROR", error_code="split_error", log_messages="row 7: Alice")
    share(raw_data, "submit", bob)

    row = make_client(bob).get(f"/runapp/rawdata/{raw_data.pk}/").json()

    assert (row["error_code"], row["log_messages"]) == ("split_error", None)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"role": "read"}, "account", "contradictory"),
        ({"account": "bob", "group": "course", "role": "read"}, "account", "contradictory"),
        ({"account": "nobody", "role": "read"}, "account", "does_not_exist"),
        ({"account": "gone", "role": "read"}, "account", "does_not_exist"),
        ({"account": "ada", "role": "read"}, "account", "invalid"),
        ({"group": "nowhere", "role": "read"}, "group", "does_not_exist"),
        ({"account": "bob"}, "role", "required"),
        ({"account": "bob", "role": "own"}, "role", "invalid_choice"),
        ({"account": "bob", "role": "submit"}, "role", "unique"),
        ({"account": "b\0b", "role": "read"}, "account", "null_characters_not_allowed"),
        ({"account": ["bob"], "role": "read"}, "account", "invalid"),
    ],
)
def test_odd_shares_are_refused(body: dict[str, Any], field: str, code: str) -> None:
    ada, bob = make_account("ada"), make_account("bob")
    make_account("gone", is_active=False)
    Group.objects.create(name="course")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "submit", bob)

    response = make_client(ada).post(f"/runapp/rawdata/{raw_data.pk}/shares/", body)

    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert Share.objects.count() == 1


def test_share_of_another_dataset_is_not_found() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    first, second = make_ready_dataset(ada), make_ready_dataset(ada, name="second")
    made = share(first, "read", bob)

    response = make_client(ada).delete(f"/runapp/rawdata/{second.pk}/shares/{made.pk}/")

    assert response.status_code == 404
    assert Share.objects.exists()


def test_reader_hears_of_every_change_on_a_shared_dataset() -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "submit", bob)
    share(raw_data, "read", eve)
    client = make_client(eve)
    cursor = follow(client)

    make_fold(bob, raw_data)
    posted = ask_since(client, cursor)
    work()
    tested = ask_since(client, posted["Datarun-Cursor"])

    assert [(row["owner"], row["state"]) for row in read_rows(posted)] == [("bob", "TODO")]
    assert [(row["owner"], row["state"]) for row in read_rows(tested)] == [("bob", "TESTED")]


def _join(ada: User, bob: User, raw_data: RawData) -> None:
    bob.groups.add(Group.objects.get(name="course"))


def _leave(ada: User, bob: User, raw_data: RawData) -> None:
    bob.groups.clear()


def _drop_group(ada: User, bob: User, raw_data: RawData) -> None:
    Group.objects.all().delete()


def _grant(ada: User, bob: User, raw_data: RawData) -> None:
    share(raw_data, "read", bob)


def _withdraw(ada: User, bob: User, raw_data: RawData) -> None:
    Share.objects.get(account=bob).delete()


def _delete_dataset(ada: User, bob: User, raw_data: RawData) -> None:
    delete_raw_data(raw_data=raw_data)


def _delete_submitter(ada: User, bob: User, raw_data: RawData) -> None:
    User.objects.get(username="eve").delete()


def _promote(ada: User, bob: User, raw_data: RawData) -> None:
    bob.is_superuser = True
    bob.save()


def _rename(name: str, new: str) -> None:
    group = Group.objects.get(name=name)
    group.name = new
    group.save()


def _rename_to_operators(ada: User, bob: User, raw_data: RawData) -> None:
    _rename("course", "operators")


def _operate(ada: User, bob: User, raw_data: RawData) -> None:
    bob.groups.add(Group.objects.create(name="operators"))


def _rename_operators(ada: User, bob: User, raw_data: RawData) -> None:
    _rename("operators", "operators of before")


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (None, _grant),
        (_grant, _withdraw),
        (None, _join),
        (_join, _leave),
        (_join, _drop_group),
        (_grant, _delete_dataset),
        (_grant, _delete_submitter),
        (None, _promote),
        (_join, _rename_to_operators),
        (_operate, _rename_operators),
    ],
)
@pytest.mark.parametrize("path", ["rawdata", "submissionfold-light"])
def test_who_comes_to_see_or_ceases_to_see_reads_anew(
    path: str,
    before: Callable[[User, User, RawData], None] | None,
    change: Callable[[User, User, RawData], None],
) -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    Group.objects.create(name="course")
    body = {"group": "course", "role": "read"}
    make_client(ada).post(f"/runapp/rawdata/{raw_data.pk}/shares/", body)
    share(raw_data, "submit", eve)
    make_fold(eve, raw_data)
    if before:
        before(ada, bob, raw_data)
    client = make_client(bob)
    cursor = follow(client, path)
    etag = client.get(f"/runapp/{path}/")["ETag"]

    change(ada, bob, raw_data)
    answer = ask_since(client, cursor, path)
    fresh = client.get(f"/runapp/{path}/", headers={"If-None-Match": etag})

    assert answer.status_code == 410
    assert fresh.status_code == 200


@pytest.mark.parametrize("has_share", [False, True])
@pytest.mark.parametrize("path", ["rawdata", "submissionfold", "submissionfold-light"])
def test_who_comes_to_see_or_ceases_to_see_within_a_request_is_told_by_its_cursor(
    path: str, has_share: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    make_fold(ada, raw_data)
    if has_share:
        _grant(ada, bob, raw_data)
    changes = [_withdraw if has_share else _grant]
    annotate = feed._annotate_feed

    def change_and_annotate(*words: Any) -> Any:
        if changes:
            changes.pop()(ada, bob, raw_data)
        return annotate(*words)

    monkeypatch.setattr(feed, "_annotate_feed", change_and_annotate)
    response = make_client(bob).get(f"/runapp/{path}/")

    # The cursor leads on from what he sees now, or else it leads nowhere.
    assert len(read_rows(response)) == (0 if has_share else 1)
    assert read_rows(ask_since(make_client(bob), response["Datarun-Cursor"], path)) == []


def test_stranger_keeps_his_cursor_whatever_others_share() -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    client = make_client(eve)
    cursor = follow(client)

    share(raw_data, "read", bob)
    make_fold(bob, make_ready_dataset(bob))

    assert read_rows(ask_since(client, cursor)) == []


def test_cursor_of_own_rows_is_none_of_all_rows() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "read", bob)
    client = make_client(bob)
    own = client.get("/runapp/submissionfold-light/?owner=bob")["Datarun-Cursor"]

    answer = ask_since(client, own)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "bad_cursor"


# The account, its scope, how far the changes have come, the rows; for those with logs their keys,
# and for folds with all columns the accounts at their cap and the predictions.
@pytest.mark.parametrize(
    ("path", "most"),
    [("rawdata", 5), ("submission", 4), ("submissionfold", 7), ("submissionfold-light", 4)],
)
def test_list_of_somebody_with_shares_asks_one_query_more(
    path: str, most: int, django_assert_max_num_queries: Any
) -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "read", bob)
    finish_fold(ada, raw_data)
    client = make_client(bob)
    client.get("/runapp/rawdata/")  # pays for the password

    with django_assert_max_num_queries(most):
        assert len(get_rows(client, path)) == 1


def test_submitters_do_not_see_each_other_whatever_they_ask() -> None:
    ada, bob, eve = make_account("ada"), make_account("bob"), make_account("eve")
    raw_data = make_ready_dataset(ada)
    for account in (bob, eve):
        share(raw_data, "submit", account)
    finish_fold(bob, raw_data)
    client = make_client(eve)

    answers = [
        client.get("/runapp/submissionfold/11/"),
        client.get("/runapp/submissionfold/11/?owner=bob"),
        client.delete("/runapp/submissionfold/11/?owner=bob"),
        client.get("/runapp/submissionfold/11/predictions/test/?owner=bob"),
        client.post("/runapp/testpredictions/list/?owner=bob", {"list_submission_fold": [11]}),
    ]
    own = client.post("/runapp/testpredictions/list/", {"list_submission_fold": [11]})

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert own.json() == []
    assert get_rows(client, "submissionfold") == get_rows(client, "submission") == []


def test_submission_of_another_id_space_is_not_touched() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    raw_data = make_ready_dataset(ada)
    share(raw_data, "submit", bob)
    make_fold(ada, raw_data)
    client = make_client(bob)

    unknown = client.post("/runapp/submissionfold/", make_fold_body(databoard_sf_id=12))
    first = post_fold(client, raw_data, test_is=pack_indices([1]))

    assert unknown.status_code == 400
    assert first.status_code == 201
    assert SubmissionFold.objects.filter(databoard_sf_id=11).count() == 2
