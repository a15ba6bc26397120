"""The list of the audit: who may read it, filters, pages, order, nothing new, and the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runapp.events import Action, AuditEvent, Kind, Via
from runapp.services.audit import Thing, record
from tests.factories import JSONClient, make_account, make_client, make_raw_data, read_rows
from tests.integration.test_lists import find_next, follow

pytestmark = pytest.mark.django_db

PATH = "/runapp/audit/"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_operator(name: str = "op", *, group: str = "operators") -> User:
    account = make_account(name)
    account.groups.add(Group.objects.get_or_create(name=group)[0])
    return account


def make_events(*, n_events: int = 6) -> list[int]:
    """Return the keys of events a second apart, of two actors by turns, without those before."""
    rows = [
        AuditEvent(
            at=START + timedelta(seconds=number),
            actor=("ada", "bob")[number % 2],
            via=Via.BASIC,
            address=f"192.0.2.{number % 3}",
            action=(Action.SIGN_IN, Action.FOLD_FORCED, Action.RAW_DATA_POSTED)[number % 3],
            kind=(Kind.ACCOUNT, Kind.SUBMISSION_FOLD, Kind.RAW_DATA)[number % 3],
            target=str(number),
            owner=("cy", "di")[number // 3 % 2],
            raw_data_id=number,
        )
        for number in range(n_events)
    ]
    return [row.pk for row in AuditEvent.objects.bulk_create(rows)]


def make_reader() -> JSONClient:
    """Return an operator's client whose sign-in is told already."""
    client = make_client(make_operator())
    client.get("/runapp/rawdata/")
    return client


def read_ids(response: Any) -> list[int]:
    return [row["id"] for row in read_rows(response)]


def test_operators_and_superusers_read_it_and_nobody_else(settings: Any) -> None:
    clients = {
        "nobody": make_client(),
        "account": make_client(make_account()),
        "crew": make_client(make_operator("member", group="crew")),
        "operator": make_client(make_operator()),
        "superuser": make_client(make_account("root", is_superuser=True)),
    }

    statuses = {name: client.get(PATH).status_code for name, client in clients.items()}
    settings.OPERATORS_GROUP = "crew"
    renamed = {name: client.get(PATH).status_code for name, client in clients.items()}
    settings.OPERATORS_GROUP = ""
    without = {name: client.get(PATH).status_code for name, client in clients.items()}

    others = {"nobody": 401, "account": 403, "crew": 403, "operator": 403, "superuser": 200}
    assert statuses == {**others, "operator": 200}
    assert renamed == {**others, "crew": 200}
    assert without == others
    assert clients["account"].get(PATH).json()["errors"][0]["code"] == "permission_denied"


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_events_are_not_written_by_clients(method: str) -> None:
    response = getattr(make_client(make_operator()), method)(PATH, {})

    assert response.status_code == 405


def test_row_shows_who_what_when_and_from_where() -> None:
    ada = make_account()
    client = make_client(ada)
    body = {"limits": {"processes": 3}}
    raw_data = make_raw_data(ada)
    client.patch(f"/runapp/rawdata/{raw_data.pk}/", body, REMOTE_ADDR="2001:db8:0::1")

    for reader in (make_reader(), make_client(make_account("root", is_superuser=True))):
        rows = read_rows(reader.get(PATH, {"action": "raw_data_changed"}))

        (row,) = rows
        assert abs(datetime.fromisoformat(row.pop("at")) - datetime.now(UTC)).seconds < 60
        assert row.pop("id") > 0
        assert row == {
            "actor_id": ada.pk,
            "actor": "ada",
            "via": "basic",
            "address": "2001:db8::1",
            "action": "raw_data_changed",
            "kind": "raw_data",
            "target": str(raw_data.pk),
            "owner_id": ada.pk,
            "owner": "ada",
            "raw_data": raw_data.pk,
            "facts": body,
        }


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"actor": "ada"}, [0, 2, 4]),
        ({"actor": "nobody"}, []),
        ({"owner": "di"}, [3, 4, 5]),
        ({"action": "sign_in"}, [0, 3]),
        ({"action": "sign_in,raw_data_posted"}, [0, 2, 3, 5]),
        ({"kind": "submission_fold"}, [1, 4]),
        ({"kind": "submission_fold", "target": "4"}, [4]),
        ({"raw_data": "5"}, [5]),
        ({"address": "192.0.2.1"}, [1, 4]),
        ({"address": "2001:DB8:0::1"}, []),
        ({"since": "2026-01-01T12:00:04Z", "until": "2026-01-02T00:00:00Z"}, [4, 5]),
        ({"until": "2026-01-01T12:00:04Z"}, [0, 1, 2, 3]),
        ({"until": "2026-01-01T14:00:04+02:00"}, [0, 1, 2, 3]),
        ({"since": "2026-01-01T12:00:01", "until": "2026-01-01T12:00:03.000Z"}, [1, 2]),
        ({"actor": "ada", "action": "sign_in", "until": "2026-01-02"}, [0]),
        ({"until": "0001-01-01T00:00:00Z"}, []),
        ({"actor": "", "action": "", "since": "", "until": "2026-01-02"}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_filters_narrow_the_list(parameters: dict[str, str], expected: list[int]) -> None:
    client = make_reader()
    keys = make_events()

    found = read_ids(client.get(PATH, parameters))

    assert [key for key in found if key in keys] == [keys[number] for number in expected]
    if any(parameters.values()) and "until" in parameters:
        assert set(found) <= set(keys)


def test_moment_of_an_event_is_included_by_since_and_not_by_until() -> None:
    client = make_reader()
    record(action=Action.SIGN_IN, of=Thing(Kind.ACCOUNT))
    (row,) = read_rows(client.get(PATH, {"actor": AuditEvent.objects.last().actor}))[-1:]

    since = read_ids(client.get(PATH, {"since": row["at"]}))
    until = read_ids(client.get(PATH, {"until": row["at"]}))

    assert row["id"] in since
    assert row["id"] not in until


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"action": "signin"}, "action"),
        ({"kind": "dataset"}, "kind"),
        ({"raw_data": "iris"}, "raw_data"),
        ({"raw_data": "-1"}, "raw_data"),
        ({"address": "localhost"}, "address"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-13-01T00:00:00Z"}, "since"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "until"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"actor": "a\0b"}, "actor"),
        ({"newest_first": "yes"}, "newest_first"),
        ({"updated_since": "0"}, "updated_since"),
        ({"state": "TODO"}, "state"),
        ({"fields": "password"}, "fields"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
    ],
)
def test_unknown_values_are_refused(parameters: dict[str, str], field: str) -> None:
    response = make_reader().get(PATH, parameters)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize("limit", [1, 4, 7, 10_000])
def test_pages_make_up_the_list_in_either_order(limit: int) -> None:
    client = make_reader()
    keys = make_events(n_events=7)
    narrow = "until=2026-01-02&fields=id"

    oldest = follow(client, f"{PATH}?{narrow}&limit={limit}")
    newest = follow(client, f"{PATH}?{narrow}&limit={limit}&newest_first=true")

    assert [key for page in oldest for key in read_ids(page)] == keys
    assert [key for page in newest for key in read_ids(page)] == keys[::-1]
    assert len(oldest) == len(newest) == -(-7 // limit)


def test_whole_list_is_read_in_pieces_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_reader()
    keys = make_events(n_events=7)
    monkeypatch.setattr("runapp.rows.PIECE_ROWS", 3)

    answers = [client.get(PATH, {"until": "2026-01-02", "newest_first": v}) for v in ("", "true")]

    assert [answer.streaming for answer in answers] == [True, True]
    assert [read_ids(answer) for answer in answers] == [keys, keys[::-1]]


def test_cursor_is_good_for_its_order_and_its_account_only() -> None:
    client = make_reader()
    make_events()
    link = find_next(client.get(f"{PATH}?limit=1"))
    assert link is not None

    turned = client.get(f"{link}&newest_first=true")
    other = make_client(make_account("root", is_superuser=True)).get(link)

    assert [turned.status_code, other.status_code] == [400, 400]
    assert client.get(link).status_code == 200


def test_nothing_new_is_told_without_the_list() -> None:
    client = make_reader()
    make_events()
    first = client.get(PATH)

    known = client.get(PATH, HTTP_IF_NONE_MATCH=first["ETag"])
    record(action=Action.SIGN_IN, of=Thing(Kind.ACCOUNT))
    later = client.get(PATH, HTTP_IF_NONE_MATCH=first["ETag"])

    assert (known.status_code, later.status_code) == (304, 200)
    assert len(read_rows(later)) == len(read_rows(first)) + 1


def test_event_that_is_committed_late_is_news() -> None:
    client = make_reader()
    *_, last = make_events()
    AuditEvent.objects.bulk_create([AuditEvent(pk=last + 2, via="basic", action="a", kind="b")])
    first = client.get(PATH)

    AuditEvent.objects.bulk_create([AuditEvent(pk=last + 1, via="basic", action="a", kind="b")])
    later = client.get(PATH, HTTP_IF_NONE_MATCH=first["ETag"])

    assert later.status_code == 200
    assert read_ids(later)[-2:] == [last + 1, last + 2]


@pytest.mark.parametrize(
    "narrow",
    [
        "",
        "actor=ada",
        "owner=di",
        "action=fold_forced",
        "raw_data=77",
        "address=192.0.2.1",
        "kind=raw_data&target=77",
        "newest_first=true",
        "actor=bob&newest_first=true",
    ],
)
def test_page_is_read_by_an_index(narrow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runapp.selectors._LATEST_EVENTS", 30)  # a small part of what there is
    client = make_reader()
    make_events(n_events=3000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runapp_auditevent")
    link = find_next(client.get(f"{PATH}?limit=20&{narrow}")) or f"{PATH}?limit=20&{narrow}"

    with CaptureQueriesContext(connection) as queries:
        assert client.get(link).status_code == 200

    about = [q["sql"] for q in queries if 'FROM "runapp_auditevent"' in q["sql"]]
    assert len(queries) <= 7
    assert len(about) == 3
    for statement in about:
        plan = explain(statement)
        assert "Seq Scan" not in plan, plan
        assert "SCAN runapp_auditevent" not in plan or "LIMIT" in statement, plan
        assert "TEMP B-TREE" not in plan, plan
        assert "Sort" not in plan or "77" in narrow, plan


def explain(statement: str) -> str:
    with connection.cursor() as cursor:
        word = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        cursor.execute(f"{word} {statement}")
        return "\n".join(str(row) for row in cursor.fetchall())


def run(*words: str) -> str:
    output = StringIO()
    call_command("audit", *words, stdout=output)
    return output.getvalue()


def test_command_prints_a_line_for_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runapp.management.commands.audit.PIECE_ROWS", 2)
    keys = make_events()
    facts = {"name": "a\x1b[2Jb"}
    record(action=Action.RAW_DATA_DELETED, of=Thing(Kind.RAW_DATA, "7", owner="x\ny"), facts=facts)

    lines = run("--until", "2026-01-02").splitlines()
    last = run("--action", "raw_data_deleted").splitlines()

    assert len(lines) == len(keys)
    assert lines[1] == (
        "2026-01-01 12:00:01Z bob by basic from 192.0.2.1: fold_forced submission_fold 1 of cy"
    )
    assert len(last) == 1
    assert last[0].endswith('raw_data_deleted raw_data 7 of x?y {"name": "a\\u001b[2Jb"}')


def test_command_prints_what_the_list_answers_as_json() -> None:
    client = make_reader()
    make_events()
    narrow = {"actor": "ada", "since": "2026-01-01T12:00:01Z", "until": "2026-01-02"}

    words = [word for name, value in narrow.items() for word in (f"--{name}", value)]
    printed = run("--json", *words)

    assert json.loads(printed) == read_rows(client.get(PATH, narrow))
    assert len(json.loads(printed)) == 2
    assert run("--json", "--actor", "nobody") == "[]\n"


def test_command_refuses_what_there_is_not() -> None:
    with pytest.raises(CommandError, match=r"--action: Must be one of: sign_in, "):
        run("--action", "signin")
    with pytest.raises(CommandError, match=r"--since: Must be a time such as"):
        run("--since", "yesterday")
