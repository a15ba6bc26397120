"""Claims, heartbeats, losses, ends, cancels, reruns and pauses in any order, against a model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Sum
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from runapp.common.exceptions import Conflict
from runapp.common.transitions import Phase, State, is_allowed
from runapp.datasets.raw_data import change_raw_data
from runapp.execution.training import run_fold
from runapp.models import DailyUse, FairShare, FoldAttempt, RawData, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.scheduling.attempts import begin_attempt
from runapp.scheduling.claims import claim_fold, reap_expired, renew_fold
from runapp.scheduling.control import cancel_fold, change_priority
from runapp.scheduling.disabled_accounts import disable_account, enable_account
from runapp.scheduling.outcomes import return_fold
from tests.doubles import InstantSupervisor
from tests.effort import FACTOR
from tests.factories import make_account, make_fold, make_ready_dataset

pytestmark = pytest.mark.django_db

CAP = 2
MOST_USED_SECONDS = 8.0  # less than what one claim is charged at first
ENDS = st.sampled_from([Outcome.TESTED, Outcome.SUBMISSION_ERROR, Outcome.LOST])


@dataclass
class Expected:
    """What the model knows of a fold."""

    owner: User
    raw_data: RawData
    submission: int
    priority: str
    rank: int
    phase: Phase = Phase.WAITING
    attempt: int = 0
    failures: int = 0
    has_begun: bool = False
    end: str = ""
    history: dict[int, str] = field(default_factory=dict)


class Scheduling(RuleBasedStateMachine):
    """Two accounts with a dataset each, three submissions each; any number of workers."""

    @initialize()
    def open_house(self) -> None:
        self.around = transaction.atomic()
        self.around.__enter__()
        self.folds: dict[int, Expected] = {}
        self.claims: list[SubmissionFold] = []
        self.counts: Counter[int] = Counter()
        self.datasets = []
        for name in ("ada", "eve"):
            self.datasets.append(make_ready_dataset(make_account(name)))

    def teardown(self) -> None:
        if hasattr(self, "around"):
            transaction.set_rollback(True)
            self.around.__exit__(None, None, None)

    @rule(
        number=st.integers(0, 1),
        submission=st.integers(0, 2),
        priority=st.sampled_from(["H", "L"]),
    )
    def post(self, number: int, submission: int, priority: str) -> None:
        raw_data = self.datasets[number]
        fold = make_fold(
            raw_data.owner,
            raw_data,
            databoard_sf_id=len(self.folds),
            databoard_s_id=submission,
            priority=priority,
        )
        others = [known for known in self.folds.values() if known.raw_data == raw_data]
        rank = sum(known.submission == submission for known in others)
        self.folds[fold.pk] = Expected(raw_data.owner, raw_data, submission, priority, rank)
        self.counts[raw_data.owner.pk] += 1

    @rule()
    def claim(self) -> None:
        eligible = self.list_eligible()

        fold = claim_fold(worker="worker-1")

        assert (fold is None) == (not eligible)
        if fold is None:
            return
        expected = self.folds[fold.pk]
        best = min(eligible, key=lambda pk: self.order(pk))
        assert self.order(fold.pk) == self.order(best)
        self.note_step(fold.pk, Phase.RUNNING, State.TODO)
        expected.attempt += 1
        expected.has_begun = False
        assert fold.attempt == expected.attempt
        self.claims.append(fold)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        is_held = self.holds(claim)
        if is_held and self.folds[claim.pk].has_begun:
            return  # its code runs once

        begin_attempt(fold=claim)

        if is_held:
            self.folds[claim.pk].has_begun = True
            self.folds[claim.pk].history[claim.attempt] = ""

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))

        assert renew_fold(claim) == self.holds(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=ENDS)
    def run(self, data: st.DataObject, outcome: Outcome) -> None:
        """Run a claim, which may long be another's, to its end."""
        claim = data.draw(st.sampled_from(self.claims))
        expected, is_held = self.folds[claim.pk], self.holds(claim)
        if expected.has_begun and claim.attempt in expected.history:
            return  # its code runs once

        run_fold(
            fold=claim,
            supervisor=InstantSupervisor(outcome=outcome),  # type: ignore[arg-type]
            is_leaving=lambda: False,
        )

        if not is_held:
            return
        if outcome is Outcome.LOST:
            self.note_return(claim.pk, is_spent=True)
            return
        code = "tested" if outcome is Outcome.TESTED else outcome.value
        expected.phase, expected.end = Phase.DONE, code
        expected.history[claim.attempt] = code

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        is_held = self.holds(claim)

        return_fold(claim, reason="", is_spent=False, error_code="worker_lost")

        if is_held:
            self.note_return(claim.pk, is_spent=False)

    @rule(pks=st.sets(st.integers(0, 5)))
    def lose_workers(self, pks: set[int]) -> None:
        running = [pk for pk, fold in self.folds.items() if fold.phase is Phase.RUNNING]
        silent = [pk for place, pk in enumerate(running) if place in pks]
        rows = SubmissionFold.objects.filter(pk__in=silent)
        rows.update(lease_expires_at=Now() - timedelta(seconds=1))

        assert reap_expired() == len(silent)

        for pk in silent:
            self.note_return(pk, is_spent=self.folds[pk].has_begun)

    @precondition(lambda self: self.folds)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        pk = data.draw(st.sampled_from(sorted(self.folds)))
        expected = self.folds[pk]
        fold = SubmissionFold.objects.get(pk=pk)
        if expected.phase is Phase.DONE:
            with pytest.raises(Conflict):
                cancel_fold(fold=fold)
            return

        assert cancel_fold(fold=fold) == (expected.phase is Phase.RUNNING)

        if expected.phase is Phase.RUNNING and expected.has_begun:
            expected.history[expected.attempt] = "cancelled"
        self.counts[expected.owner.pk] -= expected.phase is Phase.WAITING
        self.note_step(pk, Phase.DONE, State.ERROR)
        expected.end = "cancelled"

    @precondition(lambda self: self.folds)
    @rule(data=st.data(), priority=st.sampled_from(["H", "L"]))
    def rerun(self, data: st.DataObject, priority: str) -> None:
        pk = data.draw(st.sampled_from(sorted(self.folds)))
        expected = self.folds[pk]
        number = SubmissionFold.objects.get(pk=pk).databoard_sf_id

        make_fold(
            expected.owner,
            databoard_sf_id=number,
            databoard_s_id=expected.submission,
            priority=priority,
            force="submission_fold",
        )

        if expected.phase is Phase.RUNNING and expected.has_begun:
            expected.history[expected.attempt] = "restarted"
        expected.phase, expected.end, expected.priority = Phase.WAITING, "", priority
        expected.failures = 0
        self.counts[expected.owner.pk] += 1

    @precondition(lambda self: self.folds)
    @rule(data=st.data(), priority=st.sampled_from(["H", "L"]))
    def reorder(self, data: st.DataObject, priority: str) -> None:
        pk = data.draw(st.sampled_from(sorted(self.folds)))
        fold = SubmissionFold.objects.get(pk=pk)
        if self.folds[pk].phase is not Phase.WAITING:
            with pytest.raises(Conflict):
                change_priority(fold=fold, priority=priority)
            return

        change_priority(fold=fold, priority=priority)

        self.folds[pk].priority = priority

    @rule(number=st.integers(0, 1), paused=st.booleans())
    def pause(self, number: int, paused: bool) -> None:
        self.datasets[number] = change_raw_data(raw_data=self.datasets[number], paused=paused)

    @rule(number=st.integers(0, 1), is_active=st.booleans())
    def enable(self, number: int, is_active: bool) -> None:
        account = self.datasets[number].owner

        (enable_account if is_active else disable_account)(account=account)

        for expected in self.folds.values():
            is_taken = not is_active and expected.phase is Phase.RUNNING
            if is_taken and expected.owner == account:
                if expected.has_begun:
                    expected.history[expected.attempt] = "restarted"
                expected.phase, expected.failures = Phase.WAITING, 0

    @invariant()
    def rows_are_as_expected(self) -> None:
        if not hasattr(self, "folds"):
            return
        for fold in SubmissionFold.objects.annotate(n_predictions=Count("predictions")):
            expected = self.folds[fold.pk]
            assert (fold.phase, fold.attempt) == (expected.phase, expected.attempt)
            assert fold.failures == expected.failures
            assert (fold.lease_expires_at is not None) == (expected.phase is Phase.RUNNING)
            is_tested = expected.end == "tested"
            assert fold.state == (
                State.TESTED if is_tested else State.ERROR if expected.end else State.TODO
            )
            assert (fold.error_code or "tested") == (expected.end or "tested")
            assert fold.n_predictions == (2 if is_tested else 0)

    @invariant()
    def attempts_are_as_expected(self) -> None:
        if not hasattr(self, "folds"):
            return
        rows: dict[int, dict[int, str]] = {pk: {} for pk in self.folds}
        for attempt in FoldAttempt.objects.all():
            assert (attempt.ended_at is None) == (attempt.outcome == "")
            rows[attempt.fold_id][attempt.number] = attempt.outcome
        assert rows == {pk: fold.history for pk, fold in self.folds.items()}

    @invariant()
    def posts_are_counted_but_for_those_refunded(self) -> None:
        if not hasattr(self, "counts"):
            return
        found = dict(DailyUse.objects.values_list("owner").annotate(n=Sum("folds")))
        assert found == self.counts

    @invariant()
    def shares_hold_what_runs_and_what_was_used(self) -> None:
        for share in FairShare.objects.all():
            running = SubmissionFold.objects.filter(owner=share.owner_id, phase=Phase.RUNNING)
            charged = sum(running.values_list("charged_seconds", flat=True))
            # Runs without a process take next to no time.
            assert -1e-6 <= share.seconds - charged < MOST_USED_SECONDS

    def holds(self, claim: SubmissionFold) -> bool:
        expected = self.folds[claim.pk]
        return expected.phase is Phase.RUNNING and expected.attempt == claim.attempt

    def list_eligible(self) -> list[int]:
        running = [fold.owner for fold in self.folds.values() if fold.phase is Phase.RUNNING]
        paused = {raw_data.pk for raw_data in RawData.objects.filter(paused=True)}
        disabled = set(User.objects.filter(is_active=False))
        return [
            pk
            for pk, fold in self.folds.items()
            if fold.phase is Phase.WAITING
            and fold.raw_data.pk not in paused
            and fold.owner not in disabled
            and running.count(fold.owner) < CAP
        ]

    def order(self, pk: int) -> tuple[Any, ...]:
        fold = self.folds[pk]
        share = FairShare.objects.filter(owner=fold.owner).first()
        # Claimed now, its account has been charged; before the claim it had so much less.
        row = SubmissionFold.objects.get(pk=pk)
        charged = row.charged_seconds if row.phase == Phase.RUNNING else 0.0
        used = share.seconds if share else 0.0
        return fold.priority, round(used - charged, 6), fold.rank, pk

    def note_step(self, pk: int, phase: Phase, state: State) -> None:
        before = (self.folds[pk].phase, State.TODO)
        assert is_allowed(before=before, after=(phase, state))
        self.folds[pk].phase = phase

    def note_return(self, pk: int, *, is_spent: bool) -> None:
        expected = self.folds[pk]
        expected.failures += is_spent
        if is_spent or expected.has_begun or expected.attempt in expected.history:
            expected.history[expected.attempt] = "lost" if is_spent else "returned"
        is_over = expected.failures >= django_settings.MAX_ATTEMPTS
        self.note_step(
            pk, Phase.DONE if is_over else Phase.WAITING, State.ERROR if is_over else State.TODO
        )
        expected.end = "worker_lost" if is_over else ""
        self.counts[expected.owner.pk] -= is_over


def test_any_order_of_events_keeps_to_the_model(settings: Any) -> None:
    settings.ACCOUNT_CAP = CAP

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Scheduling, settings=make_settings(n_examples=25 * FACTOR)
    )


def make_settings(*, n_examples: int) -> Any:
    return settings(
        max_examples=n_examples,
        stateful_step_count=40,
        # Without the search for a smaller example, which takes minutes; add Phase.shrink for it.
        phases=[HypothesisPhase.explicit, HypothesisPhase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
