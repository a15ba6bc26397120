"""`manage.py folds`: what waits and why, what failed, and what it used of its limits."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import F

from runapp.common.error_codes import ERROR_CODES
from runapp.models import RawData, SubmissionFold
from runapp.ops.search import Search
from runapp.runner.contract import Outcome
from tests.factories import (
    finish_fold,
    make_account,
    make_fold,
    make_live_worker,
    make_raw_data,
)
from tests.unit.test_documentation import list_fold_codes

pytestmark = pytest.mark.django_db


def run_folds(*words: str) -> tuple[str, str]:
    """Return what the command prints, and its hints."""
    out, hints = StringIO(), StringIO()
    call_command("folds", *words, stdout=out, stderr=hints)
    return out.getvalue(), hints.getvalue()


def read_folds(*words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run_folds("--json", *words)[0])
    return rows


def list_ids(*words: str) -> list[int]:
    return [row["fold"] for row in read_folds(*words)]


def test_folds_tell_states_and_use_against_limits(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)

    out, hints = run_folds()

    head, row = out.splitlines()
    assert head.split()[:5] == ["fold", "owner", "dataset", "submission", "state"]
    assert row.split()[:6] == ["11", "ada", "iris", f"({iris.pk})", "1", "TESTED"]
    # As the stand-in of the runner tells.
    assert row.split()[-3:] == ["1.88/600", "1.31/600", "0.00488/2048"]
    assert hints == ""


def test_fold_tells_why_it_waits(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)

    (without,) = read_folds()
    make_live_worker(broken=[])
    (behind,) = read_folds()
    RawData.objects.update(paused=True)
    (paused,) = read_folds()

    reasons = [without["reason"], behind["reason"], paused["reason"]]
    assert reasons == ["no_live_worker", "behind_others", "paused"]


def test_fold_that_runs_tells_for_how_long(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)
    start = F("queued_at") - timedelta(seconds=100)
    SubmissionFold.objects.update(phase="running", started_at=start, worker="w@h/1/2")

    (row,) = read_folds("--state", "running")

    assert row["worker"] == "w@h/1/2"
    assert row["wall"]["used"] >= 100
    assert row["reason"] is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--state", "ERROR"], [12]),
        (["--state", "TODO"], [14, 13]),
        (["--state", "waiting"], [14, 13]),
        (["--state", "done"], [12, 11]),
        (["--error-code", "wall_limit"], [12]),
        (["--error-code", "cancelled"], []),
        (["--dataset", "digits"], [14]),
        (["--owner", "bob"], [14]),
        (["--priority", "H"], [13]),
        (["--worker", "worker-1"], [12, 11]),
        (["--older-than", "1h"], [11]),
        (["--older-than", "0"], [14, 13, 12, 11]),
        (["--limit", "2"], [14, 13]),
        (["--owner", "ada", "--state", "TODO", "--priority", "H"], [13]),
    ],
)
def test_filters_keep_what_fits(
    ada: User, iris: RawData, words: list[str], found: list[int]
) -> None:
    old = finish_fold(ada, iris)
    finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)
    make_fold(ada, iris, databoard_sf_id=13, priority="H")
    bob = make_account("bob")
    make_fold(bob, make_raw_data(bob, name="digits"), databoard_sf_id=14)
    SubmissionFold.objects.filter(pk=old.pk).update(queued_at=F("queued_at") - timedelta(hours=2))

    assert list_ids(*words) == found


def test_dataset_is_named_by_its_id_as_well(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)

    assert list_ids("--dataset", str(iris.pk)) == [11]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--state", "SLEEPING"], '"SLEEPING" is not a valid state (use one of: TODO,'),
        (["--error-code", "bad"], '"bad" is not a valid error code (use one of: bad_predictions,'),
        (["--dataset", "wine"], 'There is no dataset with the name or id "wine".'),
        (["--dataset", "9" * 30], 'There is no dataset with the name or id "9999'),
        (["--owner", "eve"], 'There is no account "eve".'),
        (["--priority", "X"], '"X" is not a valid priority (use one of: H, L).'),
        (["--worker", "nobody"], 'No worker\'s name begins with "nobody"'),
        (["--older-than", "soon"], '"soon" is not a valid age (use 30s, 5m, 2h, 1d).'),
        (["--state", "ERROR"], "No folds match."),
    ],
)
def test_nonsense_gives_an_empty_table_and_a_hint(
    ada: User, iris: RawData, words: list[str], hint: str
) -> None:
    make_fold(ada, iris)

    out, hints = run_folds(*words)

    assert len(out.splitlines()) == 1
    assert hint in hints
    assert read_folds(*words) == []


def test_several_mistakes_are_all_told(ada: User) -> None:
    assert len(Search(state="x", owner="y", older_than="z").explain()) == 3


def test_more_than_the_limit_is_told(ada: User, iris: RawData) -> None:
    for number in range(3):
        make_fold(ada, iris, databoard_sf_id=number)

    out, hints = run_folds("--limit", "2")

    assert len(out.splitlines()) == 3
    assert hints.strip() == "There are more than 2 matching folds; use --limit to see more."


def test_escape_sequences_of_names_do_not_reach_the_terminal(ada: User) -> None:
    make_fold(ada, make_raw_data(ada, name="red \x1b[31m"))

    assert "\x1b" not in run_folds()[0]


def test_folds_are_listed_in_few_queries(
    ada: User, iris: RawData, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        make_fold(ada, iris, databoard_sf_id=number)

    # The tables, the circumstances and the accounts at their cap, the folds.
    with django_assert_max_num_queries(4):
        run_folds()


def test_error_codes_are_those_of_the_code() -> None:
    assert set(ERROR_CODES) == list_fold_codes()
