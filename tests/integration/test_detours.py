"""A slot that something hinders: what waits behind it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runapp.common.retry import Absence
from runapp.datasets.raw_data import request_split
from runapp.execution import step, worker
from runapp.models import SubmissionFold
from runapp.runner.contract import FoldJob, Outcome, RunResult
from runapp.runner.selftest.promises import Promise
from tests.doubles import InstantSupervisor, make_result
from tests.factories import make_account, make_csv, make_fold, make_raw_data, make_ready_dataset

pytestmark = pytest.mark.django_db


class HinderedSupervisor(InstantSupervisor):
    """Cannot begin a split, nor the folds of datasets of so many rows to train on.

    Parameters
    ----------
    hindered : sequence of int
        The numbers of rows.
    """

    def __init__(self, *, hindered: Sequence[int]) -> None:
        super().__init__()
        self.hindered = hindered
        self.tried: list[int] = []

    def run_fold(self, *, job: FoldJob, **rest: Any) -> RunResult:
        self.tried.append(job.n_train)
        if job.n_train in self.hindered:
            return make_result(Outcome.NOT_STARTED)
        return super().run_fold(job=job, **rest)

    def run_split(self, **rest: Any) -> RunResult:
        return make_result(Outcome.NOT_STARTED)


@pytest.fixture(autouse=True)
def slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process a slot that has just begun, of a worker that is fit."""
    for name, value in (
        ("fitness", worker.Fitness()),
        ("_hindrance", Absence()),
        ("_detours", step.Detours()),
    ):
        monkeypatch.setattr(worker, name, value)
    worker.fitness.announce(frozenset(Promise))


def post_folds(n_rows: Sequence[int]) -> None:
    """Post two folds to each of some datasets, which have so many rows to train on."""
    account = make_account()
    for place, n_train in enumerate(n_rows):
        files = {"iris.csv": make_csv(n_rows=n_train * 5 // 4)}
        raw_data = make_ready_dataset(account, name=f"iris {place}", files=files)
        for key in (2 * place, 2 * place + 1):
            make_fold(account, raw_data, databoard_sf_id=key, databoard_s_id=key)


def work_through_pauses(
    monkeypatch: pytest.MonkeyPatch, *, hindered: Sequence[int] = (), n_pauses: int = 6
) -> list[int]:
    """Let a slot go on after each pause; return of which datasets it has tried folds."""
    supervisor = HinderedSupervisor(hindered=hindered)
    monkeypatch.setattr(worker, "_supervisor", supervisor)
    for _ in range(n_pauses):
        worker.run_until_idle()
        worker._hindrance.end()
    return supervisor.tried


def test_slot_passes_over_what_hinders_it_while_there_is_other_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    post_folds([24, 28, 32])

    tried = work_through_pauses(monkeypatch, hindered=[24, 28])

    # At last nothing else is left: each is tried again, one after each pause.
    assert tried == [24, 28, 32, 32, 24, 28, 24, 28]
    assert SubmissionFold.objects.filter(state="TESTED").count() == 2


def test_slot_tries_again_what_hindered_it_once_other_work_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "DETOUR_SECONDS", 0.0)
    post_folds([24, 28])

    tried = work_through_pauses(monkeypatch, hindered=[24])

    assert tried[:4] == [24, 28, 24, 28]


def test_split_that_cannot_begin_lets_folds_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    post_folds([24])
    unsplit = make_raw_data(make_account("eve"))
    request_split(raw_data=unsplit, held_out_test=0.2, random_state=42, force=False)

    tried = work_through_pauses(monkeypatch)

    assert tried == [24, 24]
    unsplit.refresh_from_db()
    assert (unsplit.split_phase, unsplit.split_failures) == ("waiting", 0)
