"""Faults of ours: which are tried again, how often, and what that costs the fold."""

from __future__ import annotations

import pytest

from runapp.common.transitions import Phase
from runapp.execution.training import run_fold
from runapp.models import FoldAttempt, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.scheduling.attempts import begin_attempt
from runapp.scheduling.claims import claim_fold
from runapp.scheduling.control import cancel_fold
from runapp.scheduling.outcomes import return_fold
from tests.doubles import USAGE, InstantSupervisor
from tests.factories import make_account, make_fold, make_ready_dataset, work

pytestmark = pytest.mark.django_db


@pytest.fixture
def fold(db: None) -> SubmissionFold:
    account = make_account()
    return make_fold(account, make_ready_dataset(account))


def test_fold_whose_child_never_began_waits_again_unspent(fold: SubmissionFold) -> None:
    runs = [work(outcome=Outcome.NOT_STARTED) for _ in range(5)]

    fold.refresh_from_db()
    # Each time the slot pauses; it does not take the same fold again at once.
    assert [len(supervisor.jobs) for supervisor in runs] == [1] * 5
    assert (fold.phase, fold.failures) == (Phase.WAITING, 0)
    work()
    fold.refresh_from_db()
    assert fold.state == "TESTED"


@pytest.mark.parametrize(
    ("outcome", "error_code"),
    [(Outcome.LOST, "worker_lost"), (Outcome.SETUP_FAILED, "internal_error")],
)
def test_fold_that_fails_by_our_fault_is_tried_three_times(
    outcome: Outcome, error_code: str, fold: SubmissionFold
) -> None:
    supervisor = work(outcome=outcome)

    fold.refresh_from_db()
    assert len(supervisor.jobs) == 3
    assert (fold.state, fold.error_code) == ("ERROR", error_code)
    assert fold.log_messages.endswith("Tried 3 times.")
    usages = FoldAttempt.objects.values_list("usage", flat=True)
    assert [usage["train_seconds"] for usage in usages] == [USAGE.train_seconds] * 3


def test_fold_that_a_leaving_worker_gives_back_keeps_what_it_has_used(
    fold: SubmissionFold,
) -> None:
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None

    run_fold(fold=claimed, supervisor=InstantSupervisor(), is_leaving=lambda: True)  # type: ignore[arg-type]

    attempt = FoldAttempt.objects.get()
    assert (attempt.outcome, attempt.usage["train_seconds"]) == ("returned", USAGE.train_seconds)


def test_code_that_begins_when_its_claim_is_lost_opens_no_attempt(fold: SubmissionFold) -> None:
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None
    cancel_fold(fold=fold)

    begin_attempt(fold=claimed)
    return_fold(claimed, reason="Left.", is_spent=False, error_code="worker_lost")

    assert not FoldAttempt.objects.exists()
    fold.refresh_from_db()
    assert fold.error_code == "cancelled"


def test_return_of_a_fold_that_was_taken_after_it_began_is_counted(fold: SubmissionFold) -> None:
    claimed = claim_fold(worker="worker-1")
    assert claimed is not None
    begin_attempt(fold=claimed)
    cancel_fold(fold=fold)

    return_fold(claimed, reason="Left.", is_spent=False, error_code="worker_lost")

    attempt = FoldAttempt.objects.get()
    assert (attempt.outcome, attempt.refused) == ("cancelled", 1)
