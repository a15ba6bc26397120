"""The operators' list of folds against the same in plain Python, of random rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runapp.common.transitions import ALLOWED, Phase
from runapp.models import Submission, SubmissionFold
from tests.factories import make_account, make_raw_data, sign_in

pytestmark = pytest.mark.django_db

N_FOLDS, N_SEARCHES, ROWS = 80, 40, 7
SECONDS = (0.1, 0.2, 0.30000000000000004, 2.0)
WORKERS = ("", "node-1@a/7/8", "node-12@a/7/9", "Node-1@a/1/1", "n%de@a/1/1", "nöde_1@a/1/1")
SORTS = ("id", "queued", "ended", "wall", "cpu", "memory")
# Each is right of some rows, and some are right of none.
SOUGHT = {
    "state": ("TODO", "TRAINED", "TESTED", "ERROR", "waiting", "running", "done"),
    "error_code": ("wall_limit", "worker_lost", "cancelled"),
    "dataset": ("iris", "1", "2"),
    "submission": ("1", "2", "9"),
    "owner": ("ada", "bob", "olga"),
    "priority": ("H", "L"),
    "worker": ("node-1", "Node", "n%", "n_", "nö", "x"),
    "older_than": ("90s", "30m", "2h", "1d"),
}
AGES = {"90s": 90, "30m": 1800, "2h": 7200, "1d": 86_400}


def make_folds(chance: random.Random, now: datetime) -> list[SubmissionFold]:
    """Store folds of two accounts and three datasets, many of them alike."""
    submissions = []
    for owner, name in ((make_account("ada"), "iris"), (make_account("bob"), "iris")):
        raw_data = make_raw_data(owner, name=name)
        submissions += [
            Submission(owner=owner, raw_data=raw_data, databoard_s_id=number, files={})
            for number in (1, 2)
        ]
    Submission.objects.bulk_create(submissions)
    return SubmissionFold.objects.bulk_create(
        make_row(chance, now, number, chance.choice(submissions)) for number in range(N_FOLDS)
    )


def make_row(
    chance: random.Random, now: datetime, number: int, submission: Submission
) -> SubmissionFold:
    phase, state = chance.choice(sorted(ALLOWED))
    is_done, is_begun = phase == Phase.DONE, phase != Phase.WAITING
    n_measured = chance.randrange(4) if is_begun else 0
    known = [chance.choice(SECONDS) for _ in range(n_measured)]
    train, validation, test = [*known, None, None, None][:3]
    return SubmissionFold(
        owner=submission.owner,
        submission=submission,
        raw_data=submission.raw_data,
        databoard_sf_id=number,
        phase=phase,
        state=state,
        error_code=chance.choice(SOUGHT["error_code"]) if state == "ERROR" else None,
        priority=chance.choice("HL"),
        worker=chance.choice(WORKERS),
        queued_at=now - timedelta(seconds=chance.choice((1, 600, 3600, 40_000, 100_000))),
        started_at=now if is_begun else None,
        finished_at=now - timedelta(seconds=chance.randrange(3)) if is_done else None,
        train_time=train,
        validation_time=validation,
        test_time=test,
        train_cpu_time=train,
        test_cpu_time=test,
        train_memory=train,
        test_memory=test,
    )


def choose(chance: random.Random) -> dict[str, str]:
    names = chance.sample(sorted(SOUGHT), chance.randrange(4))
    return {name: chance.choice(SOUGHT[name]) for name in names}


def fits(fold: SubmissionFold, sought: dict[str, str], now: datetime) -> bool:
    tests = {
        "state": lambda value: value in (fold.state, fold.phase),
        "error_code": lambda value: fold.error_code == value,
        "dataset": lambda value: value in (fold.raw_data.name, str(fold.raw_data_id)),
        "submission": lambda value: str(fold.submission.databoard_s_id) == value,
        "owner": lambda value: fold.owner.username == value,
        "priority": lambda value: fold.priority == value,
        "worker": lambda value: fold.worker.startswith(value),
        "older_than": lambda value: (now - fold.queued_at).total_seconds() > AGES[value],
    }
    return all(tests[name](value) for name, value in sought.items())


def measure(fold: SubmissionFold, by: str) -> Any:
    """Return what a fold is sorted by; None if it is left out."""
    used = {
        "wall": [fold.train_time, fold.validation_time, fold.test_time],
        "cpu": [fold.train_cpu_time, fold.test_cpu_time],
        "memory": [fold.train_memory, fold.test_memory],
    }
    if by in used:
        known = [value for value in used[by] if value is not None]
        if fold.finished_at is None or not known:
            return None
        return max(known) if by == "memory" else sum(known)
    return {"id": fold.pk, "queued": fold.queued_at, "ended": fold.finished_at}[by]


def list_expected(
    folds: list[SubmissionFold], sought: dict[str, str], by: str, now: datetime
) -> list[int]:
    name = by.removeprefix("-")
    rows = [(measure(fold, name), fold.pk) for fold in folds if fits(fold, sought, now)]
    rows = [row for row in rows if row[0] is not None]
    return [pk for _, pk in sorted(rows, reverse=by.startswith("-"))]


def list_pages(client: Client, query: dict[str, str]) -> Iterator[int]:
    path: str | None = f"?{urlencode(query)}"
    while path:
        page = client.get(f"/ops/folds/{path}")
        yield from (line.id for line in page.context["lines"])
        path = page.context["next"]


@pytest.mark.parametrize("few", [0, 10, 1000], ids=["many", "some", "few"])
def test_every_search_and_order_lists_each_fold_once(
    few: int, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.views.folds.ROWS", ROWS)
    monkeypatch.setattr("runapp.ops.search.FEW", few)
    chance, now = random.Random(few), timezone.now()
    folds = make_folds(chance, now)
    client = sign_in(operator)

    for _ in range(N_SEARCHES):
        sought, by = choose(chance), chance.choice(("", "-")) + chance.choice(SORTS)

        found = list(list_pages(client, {**sought, "sort": by}))

        assert found == list_expected(folds, sought, by, now), (sought, by)
