"""Events stay as they are, whoever asks otherwise, and move to another database whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from runapp.models.audit import AuditEvent
from tests.factories import make_account

pytestmark = pytest.mark.django_db


def list_all() -> list[Any]:
    rows = list(AuditEvent.objects.order_by("pk").values())
    for row in rows:  # dumpdata keeps milliseconds
        row["at"] = row["at"].isoformat(timespec="milliseconds")
    return rows


def test_events_are_neither_changed_nor_deleted_by_the_models() -> None:
    make_account()
    event, before = AuditEvent.objects.get(), list_all()
    event.actor = "nobody"

    for change in (
        event.save,
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(actor="nobody"),
        lambda: AuditEvent.objects.bulk_update([event], ["actor"]),
    ):
        with pytest.raises(TypeError, match="neither changed nor deleted"), transaction.atomic():
            change()
    assert list_all() == before


def check_refused(statement: str) -> None:
    make_account("bob")
    before = list_all()

    with (
        pytest.raises(DatabaseError, match="Events of the audit"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)

    assert list_all() == before


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "statement",
    ["UPDATE runapp_auditevent SET actor = 'nobody'", "DELETE FROM runapp_auditevent"],
)
def test_postgresql_refuses_to_change_and_to_delete(statement: str) -> None:
    check_refused(statement)


@pytest.mark.postgresql
def test_events_that_were_archived_can_be_deleted_by_the_owner_of_the_database() -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    (block,) = re.findall(r"```sql\nBEGIN;\n(.*?)COMMIT;\n```", page.read_text(), re.DOTALL)
    AuditEvent.objects.create(at=datetime(2025, 1, 1, tzinfo=UTC), via="command")
    make_account()

    with connection.cursor() as cursor:
        cursor.execute(block)

    assert [row["action"] for row in list_all()] == ["account_made"]
    check_refused("DELETE FROM runapp_auditevent")


@pytest.mark.sqlite
def test_sqlite_refuses_to_change() -> None:
    check_refused("UPDATE runapp_auditevent SET actor = 'nobody'")


@pytest.mark.django_db(transaction=True)
def test_events_are_loaded_into_an_empty_database_and_no_others_made(tmp_path: Path) -> None:
    make_account()
    make_account("bob").groups.create(name="crew")
    before, rows = list_all(), tmp_path / "rows.jsonl"
    call_command(
        "dumpdata", "auth.user", "auth.group", "runapp.auditevent", format="jsonl", output=str(rows)
    )
    call_command("flush", interactive=False, verbosity=0)
    emptied = (list_all(), User.objects.count())

    call_command("loaddata", str(rows), verbosity=0)

    assert emptied == ([], 0)
    assert User.objects.count() == 2
    assert list_all() == before
