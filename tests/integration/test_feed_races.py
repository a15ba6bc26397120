"""Two writers and a reader, step by step: the numbers of changes become visible in their order.

On SQLite writers are one at a time anyway; `tests/on_postgresql.sh` runs this where it counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from runapp.changes import feed
from runapp.changes.feed import publishing, touch
from runapp.models import SubmissionFold
from tests.factories import make_account, make_client, make_fold, make_ready_dataset, read_rows

pytestmark = pytest.mark.django_db(transaction=True)

LIGHT = "/runapp/submissionfold-light/"
DEADLINE_SECONDS = 20.0


@dataclass
class Reader:
    """Follows the changes as a client does."""

    account: User
    cursor: str = "0"
    picture: dict[int, bool] = field(default_factory=dict)

    def read(self) -> None:
        response = make_client(self.account).get(LIGHT, {"updated_since": self.cursor})
        self.picture.update({row["databoard_sf_id"]: row["new"] for row in read_rows(response)})
        self.cursor = response.headers["Datarun-Cursor"]


@dataclass
class Writer:
    """Changes a fold in a thread, and is held after the number is given and before the commit."""

    number: int
    has_number: threading.Event = field(default_factory=threading.Event)
    may_commit: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        try:
            with publishing():
                touch(SubmissionFold.objects.filter(databoard_sf_id=self.number), new=False)
        finally:
            connection.close()

    def hold(self) -> None:
        self.has_number.set()
        assert self.may_commit.wait(DEADLINE_SECONDS)


@contextmanager
def writing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Writer]]:
    """Yield a function that starts a writer, which holds its transaction open once numbered."""
    current = threading.local()
    number = feed._number

    def number_and_hold(touched: Any) -> None:
        number(touched)
        current.writer.hold()

    def start(fold: int) -> Writer:
        writer = Writer(fold)

        def write() -> None:
            current.writer = writer
            writer.write()

        running.append(pool.submit(write))
        return writer

    running: list[Any] = []
    monkeypatch.setattr(feed, "_number", number_and_hold)
    with ThreadPoolExecutor(2) as pool:
        yield start
    for done in running:
        done.result(DEADLINE_SECONDS)


def number_naively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number changes as a sequence does, which holds no lock until the commit."""
    lock, values = threading.Lock(), iter(range(10**6, 2 * 10**6))

    def tick() -> int:
        with lock:
            return next(values)

    monkeypatch.setattr(feed, "_tick", tick)


@pytest.fixture
def reader() -> Reader:
    account = make_account()
    dataset = make_ready_dataset(account)
    for number in (11, 12):
        make_fold(account, dataset, databoard_sf_id=number, databoard_s_id=number)
    reader = Reader(account)
    reader.read()
    assert reader.picture == {11: True, 12: True}
    return reader


def test_later_number_is_not_seen_before_an_earlier_one(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(monkeypatch) as start:
        first = start(11)
        assert first.has_number.wait(DEADLINE_SECONDS)
        second = start(12)
        # It is held up by the first one's lock, so nobody can read of it yet.
        assert not second.has_number.wait(0.3)
        reader.read()
        assert reader.picture == {11: True, 12: True}
        first.may_commit.set()
        assert second.has_number.wait(DEADLINE_SECONDS)
        reader.read()
        second.may_commit.set()
    reader.read()

    assert reader.picture == {11: False, 12: False}


@pytest.mark.postgresql
def test_reader_misses_a_change_that_is_numbered_without_a_lock(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the test above would not see if the clock were a plain sequence.
    number_naively(monkeypatch)
    monkeypatch.setattr("runapp.lists.query.ListQuery.check", lambda query, feed: None)

    with writing(monkeypatch) as start:
        first = start(11)
        assert first.has_number.wait(DEADLINE_SECONDS)
        second = start(12)
        assert second.has_number.wait(DEADLINE_SECONDS)
        second.may_commit.set()
        while reader.picture[12]:
            reader.read()
        first.may_commit.set()
    reader.read()

    assert reader.picture == {11: True, 12: False}
