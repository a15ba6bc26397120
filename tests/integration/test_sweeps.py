"""What is done to all folds that fit a search: by rounds, each fold once, and none too many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from django.contrib.auth.models import User
from django.test import TestCase

from runapp.execution.registration import beat
from runapp.models import RawData, SubmissionFold
from runapp.models.audit import AuditEvent
from runapp.ops.actions import CANCEL, FOLD_ACTIONS, HIGH, RERUN, FoldAction
from runapp.ops.bulk_actions import (
    BulkAction,
    Refusal,
    describe_search,
    do_round,
    foresee,
    group_refusals,
    resume,
)
from runapp.ops.search import Search
from runapp.runner.contract import Outcome
from runapp.scheduling.control import cancel_fold
from tests.factories import finish_fold, make_fold, make_raw_data, work
from tests.integration.test_concurrency import run_at_once

ALL = Search()


def make_folds(account: User, raw_data: RawData, numbers: Iterable[int]) -> list[SubmissionFold]:
    submission = {"databoard_s_id": raw_data.pk}
    return [make_fold(account, raw_data, databoard_sf_id=n, **submission) for n in numbers]


def list_numbers(**those: object) -> list[int]:
    rows = SubmissionFold.objects.filter(**those).order_by("databoard_sf_id")
    return list(rows.values_list("databoard_sf_id", flat=True))


def count_events(action: str) -> int:
    return AuditEvent.objects.filter(action=action).count()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("deed", "fitting"),
    [("cancel", [12, 13]), ("rerun", [11]), ("high", [12]), ("low", [])],
)
def test_deed_takes_only_folds_that_can_have_it_done(
    deed: str, fitting: list[int], ada: User, iris: RawData
) -> None:
    finish_fold(ada, iris)
    make_folds(ada, iris, [12, 13])
    SubmissionFold.objects.filter(databoard_sf_id=13).update(phase="running", state="TRAINED")

    prospect = foresee(action=FOLD_ACTIONS[deed], search=ALL)

    assert (str(prospect.fitting), str(prospect.able)) == ("3", str(len(fitting)))
    assert [fold.databoard_sf_id for fold in prospect.sweep.find().reverse()] == fitting


@pytest.mark.django_db
def test_sweep_does_it_to_those_that_fit_with_an_event_each(ada: User, iris: RawData) -> None:
    make_folds(ada, iris, [11, 12])
    make_folds(ada, make_raw_data(ada, name="digits"), [13])
    prospect = foresee(action=CANCEL, search=Search(dataset="iris"))

    done = do_round(sweep=prospect.sweep)

    assert (done.n_done, done.refusals, done.rest.count().number) == (2, (), 0)
    assert list_numbers(error_code="cancelled") == [11, 12]
    assert count_events("fold_cancelled") == 2


@pytest.mark.django_db
def test_rounds_end_at_their_number_and_go_on_where_they_ended(ada: User, iris: RawData) -> None:
    make_folds(ada, iris, range(1, 6))
    sweep = foresee(action=CANCEL, search=ALL).sweep

    first = do_round(sweep=sweep, most=2)
    left = str(first.rest.count())
    second = do_round(sweep=first.rest, most=2)
    third = do_round(sweep=second.rest, most=2)
    fourth = do_round(sweep=third.rest, most=2)

    assert [done.n_done for done in (first, second, third, fourth)] == [2, 2, 1, 0]
    assert left == "3"
    assert fourth.is_empty


@pytest.mark.django_db
def test_round_ends_at_its_time(ada: User, iris: RawData) -> None:
    make_folds(ada, iris, range(1, 5))
    seconds = count()

    done = do_round(
        sweep=foresee(action=CANCEL, search=ALL).sweep, seconds=3, clock=lambda: next(seconds)
    )

    assert (done.n_done, str(done.rest.count())) == (3, "1")


@pytest.mark.django_db
def test_folds_are_read_some_at_a_time(
    ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.bulk_actions._BATCH", 2)
    make_folds(ada, iris, range(1, 6))

    done = do_round(sweep=foresee(action=HIGH, search=ALL).sweep)

    assert done.n_done == 5
    assert list_numbers(priority="H") == [1, 2, 3, 4, 5]


@pytest.mark.django_db
def test_what_was_posted_or_put_back_since_is_left_alone(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)
    sweep = foresee(action=RERUN, search=ALL).sweep
    finish_fold(ada, iris, databoard_sf_id=12)

    first = do_round(sweep=sweep)
    work()
    again = do_round(sweep=sweep)

    assert (first.n_done, again.is_empty) == (1, True)
    assert list(SubmissionFold.objects.order_by("pk").values_list("attempt", flat=True)) == [2, 1]


@pytest.mark.django_db
def test_what_was_put_back_within_the_same_millisecond_is_left_alone(
    ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris)
    sweep = foresee(action=CANCEL, search=ALL).sweep

    same = replace(sweep, moment=fold.queued_at - timedelta(milliseconds=1))

    assert list(sweep.find()) == [fold]
    assert list(same.find()) == []


@pytest.mark.django_db
def test_moment_to_come_is_taken_for_now(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)
    foreseen = foresee(action=RERUN, search=ALL).sweep
    forged = foreseen.moment.replace(year=9999)

    sweep = resume(action=RERUN, search=ALL, moment=forged, below=foreseen.below)
    do_round(sweep=sweep)
    work()

    assert sweep.moment.year < 9999
    assert do_round(sweep=sweep).is_empty


@pytest.mark.django_db
@pytest.mark.parametrize("deed", [CANCEL, HIGH], ids=lambda deed: deed.name)
def test_sweep_that_is_sent_twice_is_done_once(deed: FoldAction, ada: User, iris: RawData) -> None:
    make_folds(ada, iris, [11, 12])
    sweep = foresee(action=deed, search=ALL).sweep

    first, second = do_round(sweep=sweep), do_round(sweep=sweep)

    assert (first.n_done, second.is_empty) == (2, True)
    assert AuditEvent.objects.filter(kind="submission_fold", via="command").count() == 2


@pytest.mark.django_db
def test_fold_that_changed_after_it_was_read_is_refused(ada: User, iris: RawData) -> None:
    older, _ = make_folds(ada, iris, [11, 12])
    seconds = count()

    def tell_seconds() -> float:
        # Asked for before the round, and again once the newer one is done.
        if (second := next(seconds)) == 1:
            cancel_fold(fold=older)
        return second

    done = do_round(sweep=foresee(action=HIGH, search=ALL).sweep, clock=tell_seconds)

    sentence = "It has changed in the meantime: it has ended with cancelled."
    assert (done.n_done, done.refusals) == (1, (Refusal(older.pk, sentence),))
    assert list_numbers(priority="H") == [12]


@pytest.mark.django_db
def test_what_hinders_one_is_told_and_nothing_to_the_others(ada: User, iris: RawData) -> None:
    digits = make_raw_data(ada, name="digits")
    make_folds(ada, iris, [11])
    (broken,) = make_folds(ada, digits, [12])
    make_folds(ada, iris, [13])
    work()
    cancel_fold(fold=broken)
    RawData.objects.filter(pk=digits.pk).update(state="ERROR")

    done = do_round(sweep=foresee(action=RERUN, search=ALL).sweep)

    assert done.n_done == 2
    assert done.refusals == (Refusal(broken.pk, "Its dataset's split has failed."),)
    assert list_numbers(phase="waiting") == [11, 13]
    # It is not tried for ever.
    assert do_round(sweep=done.rest).is_empty


@pytest.mark.django_db
@pytest.mark.parametrize(("n_slots", "n_hints"), [(0, 1), (2, 2), (9, 3)])
def test_no_more_hints_are_published_than_slots_or_folds(
    n_slots: int, n_hints: int, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folds(ada, iris, [11, 12, 13])
    work()
    beat(name="w", slots=n_slots, self_test=None)
    hints: list[str | None] = []
    monkeypatch.setattr(
        "runapp.scheduling.dispatch.publish", lambda *, task_id=None: hints.append(task_id) or True
    )

    with TestCase.captureOnCommitCallbacks(execute=True):
        do_round(sweep=foresee(action=RERUN, search=ALL).sweep)
    n_rung = len(hints)
    do_round(sweep=foresee(action=CANCEL, search=ALL).sweep)

    assert (n_rung, len(hints)) == (n_hints, n_hints)
    assert list_numbers(error_code="cancelled") == [11, 12, 13]


@pytest.mark.django_db
def test_search_that_cannot_be_meant_fits_none(ada: User, iris: RawData) -> None:
    make_fold(ada, iris)

    prospect = foresee(action=CANCEL, search=Search(state="asleep"))

    assert (prospect.fitting.number, prospect.able.number) == (0, 0)
    assert do_round(sweep=prospect.sweep).is_empty


@pytest.mark.django_db
def test_counts_end_at_their_bound(
    ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.bulk_actions.MOST_COUNTED", 2)
    make_folds(ada, iris, [11, 12, 13, 14])

    prospect = foresee(action=CANCEL, search=ALL)

    assert (prospect.fitting.number, prospect.able.number) == (3, 3)
    assert prospect.sweep.count().number == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["cancel", "rerun", "high"])
def test_two_sweeps_at_once_do_it_to_each_fold_once(
    name: str, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.scheduling.dispatch.publish", lambda *, task_id=None: True)
    make_folds(ada, iris, range(20))
    if name == "rerun":
        work(outcome=Outcome.WALL_LIMIT)
    events = {"cancel": "fold_cancelled", "rerun": "fold_forced", "high": "priority_changed"}
    sweep: BulkAction = foresee(action=FOLD_ACTIONS[name], search=ALL).sweep

    rounds = run_at_once(lambda _: do_round(sweep=sweep), threads=2)

    assert sum(done.n_done for done in rounds) == 20
    assert count_events(events[name]) == 20
    assert sweep.count().number == 0


def test_refusals_are_grouped_by_their_sentence() -> None:
    refusals = [Refusal(1, "no"), Refusal(2, "never"), Refusal(3, "never")]

    assert list(group_refusals(refusals).items()) == [("never", [2, 3]), ("no", [1])]


def test_search_is_told_in_words() -> None:
    search = Search(state="ERROR", error_code="worker_lost", worker="node-3", older_than="2h")

    assert describe_search(search) == (
        "state ERROR, error code worker_lost, worker beginning with node-3, older than 2h"
    )
    assert describe_search(ALL) == ""
