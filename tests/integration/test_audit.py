"""What is done leaves one event each: who, what, when, from where; what is not done leaves none."""

from __future__ import annotations

import json
import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from knox.models import get_token_model

from runapp.audit import record as audit
from runapp.datasets import raw_data as services
from runapp.execution import worker
from runapp.models import RawData, Submission, SubmissionFold
from runapp.models.audit import Action, AuditEvent
from runapp.submissions.code import Force
from tests.factories import (
    CLASSES,
    CLASSIFIER,
    PASSWORD,
    JSONClient,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_kit,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
    pack,
)

pytestmark = pytest.mark.django_db

OTHER_CODE = {"classifier.py": pack(CLASSIFIER + b"# another\n")}
OF_IRIS = {"raw_data": "{pk}"}
ADDRESS = "203.0.113.7"


def list_new(*, after: int) -> list[dict[str, Any]]:
    """Return the events since, as far as they are the same in every run."""
    names = ("actor", "via", "address", "action", "kind", "target", "owner", "facts")
    return list(AuditEvent.objects.filter(pk__gt=after).order_by("pk").values(*names))


def mark() -> int:
    return AuditEvent.objects.values_list("pk", flat=True).order_by("pk").last() or 0


def list_actions(*, after: int = 0) -> list[str]:
    return [event["action"] for event in list_new(after=after)]


# Method, path, body; the action, what it was done to, and facts.
FORCE, FORCE_ALL = (str(force) for force in (Force.FOLD, Force.SUBMISSION))
DEEDS: list[tuple[str, str, dict[str, Any], list[tuple[str, str, str, dict[str, Any]]]]] = [
    (
        "post",
        "rawdata/",
        make_raw_data_body(name="second"),
        [("raw_data_posted", "raw_data", "new", {"name": "second"})],
    ),
    (
        "patch",
        "rawdata/{pk}/",
        {"limits": {"processes": 2, "memory_mb": None}, "paused": True},
        [
            (
                "raw_data_changed",
                "raw_data",
                "{pk}",
                {"limits": {"processes": 2, "memory_mb": None}, "paused": True},
            )
        ],
    ),
    ("delete", "rawdata/{pk}/", {}, [("raw_data_deleted", "raw_data", "{pk}", {"name": "iris"})]),
    (
        "post",
        "rawdata/split/",
        {"raw_data_id": "{pk}", "held_out_test": 0.5, "force": True},
        [
            (
                "split_requested",
                "raw_data",
                "{pk}",
                {"held_out_test": 0.5, "random_state": 42, "force": True},
            )
        ],
    ),
    (
        "post",
        "rawdata/customsplit/",
        {"raw_data_id": "{kit}"},
        [("split_requested", "raw_data", "{kit}", {"force": False})],
    ),
    (
        "post",
        "submissionfold/",
        {**make_fold_body(databoard_sf_id=21, databoard_s_id=2, files=OTHER_CODE), **OF_IRIS},
        [("submission_posted", "submission", "2", {"digest": "*"})],
    ),
    ("post", "submissionfold/", make_fold_body(databoard_sf_id=13), []),
    (
        "post",
        "submissionfold/",
        make_fold_body(databoard_sf_id=11, force=FORCE),
        [("fold_forced", "submission_fold", "11", {"force": FORCE})],
    ),
    (
        "post",
        "submissionfold/",
        make_fold_body(databoard_sf_id=11, files=OTHER_CODE, force=FORCE_ALL),
        [
            (
                "submission_forced",
                "submission",
                "1",
                {"force": FORCE_ALL, "digest": "*", "was": "*"},
            ),
            ("fold_forced", "submission_fold", "11", {"force": FORCE_ALL}),
        ],
    ),
    (
        "post",
        "submissionfold/bulk/",
        [
            make_fold_body(databoard_sf_id=14),
            {**make_fold_body(databoard_sf_id=31, databoard_s_id=3, files=OTHER_CODE), **OF_IRIS},
            make_fold_body(databoard_sf_id=11, force=FORCE),
        ],
        [
            ("submission_posted", "submission", "3", {"digest": "*"}),
            ("fold_forced", "submission_fold", "11", {"force": FORCE}),
        ],
    ),
    (
        "patch",
        "submissionfold/12/",
        {"priority": "H"},
        [("priority_changed", "submission_fold", "12", {"priority": "H"})],
    ),
    (
        "delete",
        "submissionfold/12/",
        {},
        [("fold_cancelled", "submission_fold", "12", {"phase": "waiting"})],
    ),
    ("get", "submissionfold/12/", {}, []),
    ("get", "rawdata/", {}, []),
    ("post", "testpredictions/new/", {}, []),
]


def fill_in(value: Any, keys: dict[str, int]) -> Any:
    """Replace the names of keys in a body."""
    if isinstance(value, dict):
        return {name: fill_in(one, keys) for name, one in value.items()}
    if isinstance(value, list):
        return [fill_in(one, keys) for one in value]
    return keys.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("caller", ["ada", "root"])
@pytest.mark.parametrize(
    ("method", "path", "body", "expected"), DEEDS, ids=lambda value: str(value)[:40]
)
def test_deed_leaves_one_event(
    caller: str, method: str, path: str, body: Any, expected: list[Any]
) -> None:
    ada = make_account()
    raw_data = make_ready_dataset(ada)
    finish_fold(ada, raw_data, databoard_sf_id=11)
    make_fold(ada, databoard_sf_id=12)
    keys = {"{pk}": raw_data.pk, "{kit}": make_kit(ada).pk}
    account = ada if caller == "ada" else make_account("root", is_superuser=True)
    if caller == "root" and path in ("rawdata/", "submissionfold/", "submissionfold/bulk/"):
        account = ada  # what is posted is the caller's own
    client = make_client(account)
    client.get("/runapp/rawdata/")  # the sign-in is told apart
    before = mark()

    response = getattr(client, method)(
        f"/runapp/{path.format(pk=raw_data.pk)}", fill_in(body, keys), REMOTE_ADDR=ADDRESS
    )

    content = response.getvalue()
    assert response.status_code < 300, content
    events = [event for event in list_new(after=before) if event["action"] != "sign_in"]
    for event in events:
        for name, value in event["facts"].items():
            if len(str(value)) == 64:  # a digest
                event["facts"][name] = "*"
    assert events == [
        {
            "actor": account.username,
            "via": "basic",
            "address": ADDRESS,
            "action": action,
            "kind": kind,
            "target": str(RawData.objects.last().pk)
            if target == "new"
            else str(keys.get(target, target)),
            "owner": "ada",
            "facts": facts,
        }
        for action, kind, target, facts in expected
    ]
    about = AuditEvent.objects.filter(pk__gt=before).exclude(action="sign_in")
    assert set(about.values_list("actor_id", "owner_id")) <= {(account.pk, ada.pk)}
    assert None not in set(about.values_list("raw_data_id", flat=True))


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "rawdata/", make_raw_data_body(), 400),
        ("delete", "submissionfold/11/", {}, 409),
        ("patch", "submissionfold/11/", {"priority": "H"}, 409),
        ("post", "rawdata/split/", {"raw_data_id": "{pk}", "held_out_test": 0.5}, 409),
        ("post", "submissionfold/", make_fold_body(databoard_sf_id=12, files=OTHER_CODE), 409),
        ("delete", "rawdata/987654/", {}, 404),
    ],
)
def test_deed_that_is_refused_leaves_none(method: str, path: str, body: Any, status: int) -> None:
    ada = make_account()
    raw_data = make_ready_dataset(ada)
    finish_fold(ada, raw_data, databoard_sf_id=11)
    client = make_client(ada)
    client.get("/runapp/rawdata/")
    before = mark()

    response = getattr(client, method)(f"/runapp/{path}", fill_in(body, {"{pk}": raw_data.pk}))

    assert response.status_code == status, response.content
    assert list_new(after=before) == []


def test_deed_that_is_rolled_back_leaves_none_and_is_not_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = make_account()
    raw_data = make_raw_data(ada)
    fold = make_fold(ada, raw_data)
    before = mark()

    def fail(*args: object, **options: object) -> None:
        raise DatabaseError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(services.dispatch, "ring", fail)
        with pytest.raises(DatabaseError):
            services.change_raw_data(raw_data=raw_data, paused=False, fail_fast=True)
    with monkeypatch.context() as patch:
        patch.setattr(AuditEvent.objects, "bulk_create", fail)
        with pytest.raises(DatabaseError):
            services.delete_raw_data(raw_data=raw_data)

    assert list_new(after=before) == []
    raw_data.refresh_from_db()
    assert not raw_data.fail_fast
    assert SubmissionFold.objects.filter(pk=fold.pk).exists()


def test_event_has_the_time_of_the_database() -> None:
    make_raw_data(make_account())

    event = AuditEvent.objects.annotate(now=Now()).last()

    assert event is not None
    assert abs((event.now - event.at).total_seconds()) < 60


def test_account_that_is_deleted_leaves_its_events_and_those_of_its_datasets() -> None:
    ada = make_account()
    raw_data = make_ready_dataset(ada)
    make_fold(ada, raw_data)
    get_token_model().objects.create(ada)
    key, before = ada.pk, mark()
    ada.delete()

    told = [(e["action"], e["kind"], e["owner"]) for e in list_new(after=before)]
    assert told == [
        ("raw_data_deleted", "raw_data", "ada"),
        ("account_deleted", "account", "ada"),
    ]
    assert AuditEvent.objects.filter(owner_id=key, owner="ada").count() >= 6
    assert set(AuditEvent.objects.filter(action="submission_posted").values_list("owner")) == {
        ("ada",)
    }


def test_many_folds_leave_one_event_for_each_submission_in_few_statements() -> None:
    ada = make_account()
    raw_data = make_ready_dataset(ada)
    client = make_client(ada)
    client.get("/runapp/rawdata/")
    bodies = [
        make_fold_body(raw_data, databoard_sf_id=number, databoard_s_id=number % 20)
        for number in range(1000)
    ]
    before = mark()

    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.post("/runapp/submissionfold/bulk/?fields=state", bodies)

    assert {row["status"] for row in json.loads(response.getvalue())} == {201}
    events = list_new(after=before)
    assert [event["action"] for event in events] == ["submission_posted"] * 20
    assert {event["target"] for event in events} == {str(number) for number in range(20)}
    assert Submission.objects.count() == 20
    written = [q for q in queries if "INSERT INTO" in q["sql"] and "runapp_auditevent" in q["sql"]]
    assert len(written) == 1


def test_requests_of_two_threads_are_not_mixed_up(transactional_db: None) -> None:
    accounts = [make_account("ada"), make_account("bob")]
    datasets = [make_raw_data(account) for account in accounts]
    clients = [make_client(account) for account in accounts]
    before, both = mark(), Barrier(2)

    def change(number: int) -> list[int]:
        statuses = []
        try:
            for turn in range(10):
                both.wait(20)
                answer = clients[number].patch(
                    f"/runapp/rawdata/{datasets[number].pk}/",
                    {"fail_fast": bool(turn % 2)},
                    REMOTE_ADDR=f"192.0.2.{number}",
                )
                statuses.append(answer.status_code)
        finally:
            connections.close_all()
        return statuses

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(change, range(2))) == [[200] * 10] * 2

    events = [event for event in list_new(after=before) if event["action"] != "sign_in"]
    told = [(event["actor"], event["owner"], event["address"]) for event in events]
    assert sorted(told) == [("ada", "ada", "192.0.2.0")] * 10 + [("bob", "bob", "192.0.2.1")] * 10


def test_nothing_of_a_request_is_left_when_it_is_over() -> None:
    ada = make_account()
    make_client(ada).get("/runapp/rawdata/")

    make_raw_data(ada)

    assert list_new(after=mark() - 1)[0]["via"] == "command"


def test_worker_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_via_of_process", audit.Via.COMMAND)
    monkeypatch.setattr(worker, "_host", None)
    monkeypatch.setattr(worker, "survey_host", lambda **options: None)

    worker.look_around()
    make_raw_data(make_account())

    assert {event["via"] for event in list_new(after=0)} == {"worker"}


def test_what_the_audit_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="Barrier"):
        audit.record(action=Action.SIGN_IN, of=Barrier(1))


def run(*words: str) -> str:
    output = StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def test_commands_are_told_with_the_name_of_who_runs_them() -> None:
    me = pwd.getpwuid(os.getuid()).pw_name

    run("createuser", "ada", "ada@example.org", PASSWORD)
    run("createuser", "root", "root@example.org", PASSWORD, "--superuser")
    run("createtoken", "ada")

    rows = [
        (e["actor"], e["via"], e["address"], e["action"], e["kind"], e["owner"], e["facts"])
        for e in list_new(after=0)
    ]
    both = {"is_staff": True, "is_superuser": True}
    assert rows == [
        (me, "command", "", "account_made", "account", "ada", {}),
        (me, "command", "", "account_made", "account", "root", both),
        (me, "command", "", "token_made", "token", "ada", {"name": "token 1", "expiry": None}),
    ]
    assert set(AuditEvent.objects.values_list("actor_id")) == {(None,)}


def test_secrets_and_data_are_in_no_event() -> None:
    password, other = "Pa55word-of-Audits", "An0ther-Pa55word"
    run("createuser", "ada", "ada@example.org", password)
    ada = User.objects.get()
    key = run("createtoken", "ada").strip()
    client = make_client(ada, password=password)
    wrong = [make_client(ada, password="Wr0ng-Pa55word"), JSONClient()]
    wrong[1].credentials(HTTP_AUTHORIZATION="Token " + "Wr0ngKey" * 8)
    csv = b"length,width,species\n" + b"".join(
        f"{number + 90210.25},{number},{CLASSES[number % 3]}\n".encode() for number in range(30)
    )
    code = b"# c0de-of-Ada\n" + CLASSIFIER
    browser = Client()

    for one in (client, *wrong):
        one.get("/runapp/rawdata/")
    client.post("/runapp/rawdata/", make_raw_data_body(files={"flowers.csv": pack(csv)}))
    raw_data = RawData.objects.get()
    services.request_split(raw_data=raw_data, held_out_test=0.2, random_state=1, force=False)
    files = {"classifier.py": pack(code)}
    client.post("/runapp/submissionfold/", make_fold_body(raw_data, files=files))
    tokened = JSONClient()
    tokened.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    body = make_fold_body(files={"classifier.py": pack(code + b"#")}, force=FORCE_ALL)
    assert tokened.post("/runapp/submissionfold/", body).status_code == 201
    browser.post("/admin/login/", {"username": password, "password": "ada"})
    ada.set_password(other)
    ada.save()
    tokened.delete(f"/runapp/rawdata/{raw_data.pk}/")
    stored = User.objects.get().password
    token = get_token_model().objects.get()
    get_token_model().objects.all().delete()

    text = json.dumps([list(map(str, row)) for row in AuditEvent.objects.values_list()])
    secrets = [password, other, "Wr0ng", "ada:", key, key[:8], token.digest, stored]
    data = ["90210", *CLASSES, "c0de-of-Ada", "flowers", pack(code)[:20], "length"]
    assert [word for word in (*secrets, *data) if word in text] == []
    assert set(list_actions()) == {
        "account_made",
        "token_made",
        "sign_in",
        "sign_in_failed",
        "raw_data_posted",
        "split_requested",
        "submission_posted",
        "submission_forced",
        "fold_forced",
        "password_changed",
        "raw_data_deleted",
        "token_revoked",
    }


def test_share_is_told_when_made_and_withdrawn() -> None:
    ada = make_account()
    make_account("bob")
    raw_data = make_raw_data(ada)
    path = f"/runapp/rawdata/{raw_data.pk}/shares/"
    client = make_client(ada)
    body = {"account": "bob", "role": "read"}
    before = mark()

    made = client.post(path, body)
    refused = client.post(path, body)
    client.delete(f"{path}{made.json()['id']}/")

    assert refused.status_code == 400
    told = [event for event in list_new(after=before) if event["kind"] == "share"]
    assert [(event["action"], event["target"], event["facts"]) for event in told] == [
        ("share_made", str(made.json()["id"]), body),
        ("share_removed", str(made.json()["id"]), body),
    ]
    assert {(event["actor"], event["owner"]) for event in told} == {("ada", "ada")}


def test_quota_is_told_when_it_changes() -> None:
    make_account()
    before = mark()

    for _ in range(2):
        call_command("quota", "ada", "--folds-per-day", "5", stdout=StringIO())

    (event,) = list_new(after=before)
    assert (event["action"], event["via"], event["owner"]) == ("quota_changed", "command", "ada")
    assert event["facts"] == {"folds_per_day": 5}


def test_lock_of_an_address_is_told_once(settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    make_account()
    client = make_client(User.objects.get(), password="wrong")
    before = mark()

    for _ in range(4):
        client.get("/runapp/rawdata/", REMOTE_ADDR=ADDRESS)

    told = [event for event in list_new(after=before) if event["action"] == "locked_out"]
    assert [(event["owner"], event["address"], event["actor"]) for event in told] == [
        ("ada", ADDRESS, "")
    ]
