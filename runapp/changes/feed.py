"""The change feed: every change that clients can see gets a number that only grows.

Who changes something public does it by `touch`, in a transaction opened by `publishing`. As the
last thing before the commit, after what was counted (`counters.py`), the clock is raised and its
value written into the rows touched. The clock's lock is then held to the commit, and nothing else
is locked after it: so numbers become visible in their order, no reader of "all above n" can miss
one, and nobody who waits for the clock is waited for.

A row that was touched and not numbered yet has no number. Others never see it so, and the rows of
this transaction are found by just that.

PostgreSQL checks the foreign keys of a row that one transaction changes twice, and Django has it do
so at the commit: after the clock, the keys of the dataset and the submission are asked for. So who
locks these rows, and then waits for folds or for the clock, leaves their keys free (`no_key`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connection, models, transaction

from runapp.changes.counters import gathering
from runapp.models import Clock, RawData, Removals, SubmissionFold, make_epoch

_THE_ROW = 1  # made by apps.py
_touched: ContextVar[set[type[models.Model]] | None] = ContextVar("touched", default=None)


@contextmanager
def publishing() -> Iterator[None]:
    """Open a transaction that may change what clients see; within another one, be part of it."""
    if _touched.get() is not None:
        with transaction.atomic():
            yield
        return
    touched: set[type[models.Model]] = set()
    token = _touched.set(touched)
    try:
        with transaction.atomic():
            with gathering():
                yield
            if touched:
                _number(touched)
    finally:
        _touched.reset(token)


def touch(rows: models.QuerySet[Any], **changes: Any) -> int:
    """Change columns that clients see; return how many rows there were."""
    changed = rows.update(**changes, change_seq=None)
    if changed:
        note(rows.model)
    return changed


def note(model: type[models.Model]) -> None:
    """Note that rows of a table were made or touched, within `publishing`."""
    touched = _touched.get()
    assert touched is not None, "what clients see is changed by publishing()"
    touched.add(model)


def note_removal(*, owner_ids: Iterable[int]) -> None:
    """Note that what accounts see has changed otherwise than by rows: they have to read it anew.

    Rows are being removed, or they come to see others, or cease to. The clock is locked from here
    to the end of the caller's transaction.
    """
    now = _tick()
    Clock.objects.filter(pk=_THE_ROW).update(removed_seq=now)
    Removals.objects.bulk_create(
        [Removals(owner_id=owner_id, seq=now) for owner_id in sorted(owner_ids)],
        update_conflicts=True,
        unique_fields=["owner"],
        update_fields=["seq"],
    )


def begin_epoch() -> None:
    """Make every cursor and every ETag worthless, as after a backup was restored."""
    with transaction.atomic():
        _tick()
        Clock.objects.filter(pk=_THE_ROW).update(epoch=make_epoch())


def _number(touched: set[type[models.Model]]) -> None:
    now = _tick()
    for model in (RawData, SubmissionFold):
        if model in touched:
            model._default_manager.filter(change_seq=None).update(change_seq=now)


def _tick() -> int:
    """Raise the clock, whose lock is held from now on, and return what it shows."""
    with connection.cursor() as cursor:
        # In one statement, which the ORM has no word for.
        cursor.execute(
            "UPDATE runapp_clock SET value = value + 1 WHERE id = %s RETURNING value", [_THE_ROW]
        )
        (value,) = cursor.fetchone()
    return int(value)
