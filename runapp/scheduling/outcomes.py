"""How attempts end that bring no result: given back, taken from their worker, or never made.

Whatever takes a running fold from its worker also ends the attempt and settles the account's share,
in one transaction.
"""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from runapp.accounts.quotas import refund_folds
from runapp.changes.counters import LEASES_EXPIRED, count
from runapp.changes.feed import publishing
from runapp.common.log_context import following
from runapp.common.transitions import Phase, State
from runapp.models import Folds, Submission, SubmissionFold
from runapp.scheduling.attempts import end_attempt, has_ended, held_fold, refuse_write
from runapp.scheduling.fair_share import settle
from runapp.scheduling.state_changes import NEVER_TRIED, NO_RESULTS, fail_waiting, move, order_locks

logger = logging.getLogger(__name__)

CANCELLED = "Cancelled on request."
NOT_RUN = "Not run: fold {fold} of the same code failed before fit was called: {sentence}"
WORKER_LOST = "The worker was lost."
WORKER_LEFT = "The worker left."
# How often a worker may be lost between a claim and the start of the code: no attempt is spent by
# it, but a fold that fells whoever prepares it must come to an end.
MOST_FALSE_STARTS = 30


def fail_siblings(*, fold: SubmissionFold, error_code: str, sentence: str) -> int:
    """End the waiting folds of the same code as one that failed before `fit` was called.

    Returns
    -------
    int
        How many were ended.
    """
    with publishing():
        # Locked: whoever replaces the code, or posts another fold of it, does so before or after.
        rows = Submission.objects.select_for_update(no_key=True).filter(pk=fold.submission_id)
        submission = rows.first()
        if submission is None or submission.hash_files != fold.code_digest:
            return 0
        return fail_waiting(
            SubmissionFold.objects.filter(submission=submission),
            error_code=error_code,
            log_messages=NOT_RUN.format(fold=fold.databoard_sf_id, sentence=sentence),
        )


def count_waited(fold: SubmissionFold) -> float:
    """Return how many seconds a claimed fold has waited since it was posted, or posted again."""
    assert fold.started_at is not None  # the claim has set it
    return (fold.started_at - fold.queued_at).total_seconds()


def return_fold(
    fold: SubmissionFold,
    *,
    reason: str,
    is_spent: bool,
    error_code: str,
    is_lost: bool = False,
    usage: dict[str, Any] | None = None,
) -> None:
    """Give a fold back; after too many spent attempts it ends in error.

    Its account is charged nothing: whatever brings a fold back was our fault or our wish.

    Parameters
    ----------
    reason : str
        What happened, for the client who reads it when the attempts are used up.
    is_spent : bool
        Whether the attempt counts: its code had begun.
    error_code : str
        How the fold ends when the attempts are used up.
    is_lost : bool, optional
        True when its worker is silent and another gives it back: only if the lease is still over.
    usage : dict or None, optional
        What the attempt has used, where that is known.
    """
    held = held_fold(fold)
    if is_lost:
        held = held.filter(lease_expires_at__lt=Now())
    failures = fold.failures + int(is_spent)
    false_starts = fold.false_starts + int(is_lost and not is_spent)
    counts = {"failures": failures, "false_starts": false_starts}
    outcome = "lost" if is_spent else "returned"
    is_over = failures >= settings.MAX_ATTEMPTS or false_starts >= MOST_FALSE_STARTS
    with publishing():
        if is_over:
            moved = move(
                held,
                phase=Phase.DONE,
                state=State.ERROR,
                error_code=error_code,
                log_messages=f"{reason} Tried {failures or false_starts} times.",
                finished_at=Now(),
                lease_expires_at=None,
                **counts,
            )
        else:
            moved = move(held, phase=Phase.WAITING, state=State.TODO, **{**NO_RESULTS, **counts})
        if moved:
            end_attempt(fold=fold, outcome=outcome, usage=usage)
            _charge_nothing(fold, is_over=is_over)
            if is_lost:
                count(LEASES_EXPIRED, kind="fold")
    if moved and is_over:
        _tell_fold(fold, f"{error_code}: {reason}", action="fold_ended", outcome=error_code)
    elif moved:
        _tell_fold(fold, f"given back: {reason}", action="fold_returned", outcome=outcome)
    elif not is_lost and not has_ended(fold=fold, outcome=outcome):
        # Taken from this attempt before.
        refuse_write(fold=fold, usage=usage)


def _tell_fold(fold: SubmissionFold, sentence: str, **fields: str) -> None:
    # Who returns what another held has nothing of it in hand.
    with following(request=fold.request_id, fold=fold.pk, attempt=fold.attempt, worker=fold.worker):
        logger.info("fold %s attempt %s: %s", fold.pk, fold.attempt, sentence, extra=fields)


def _charge_nothing(fold: SubmissionFold, *, is_over: bool) -> None:
    """Take back what a claim has put on its account, and the day's count of a fold that is over."""
    settle(fold=fold, used_seconds=0.0, held_seconds=_read_age(fold))
    if is_over:
        refund_folds(folds=SubmissionFold.objects.filter(pk=fold.pk))


def _read_age(fold: SubmissionFold) -> float:
    """Return how many seconds ago a fold was claimed, by the database's clock."""
    now = SubmissionFold.objects.annotate(now=Now()).values_list("now", flat=True).get(pk=fold.pk)
    assert fold.started_at is not None  # the claim has set it
    return float((now - fold.started_at).total_seconds())


def take_from_workers(
    folds: Folds, *, phase: Phase, state: State, outcome: str, **changes: Any
) -> int:
    """Take running folds from their workers, which notice within a second and kill what runs.

    Parameters
    ----------
    folds : QuerySet
        Those of them that run are taken.
    phase, state : Phase, State
        Where they go.
    outcome : str
        What became of the attempts.

    Returns
    -------
    int
        How many were taken.
    """
    with publishing():
        running = folds.filter(phase=Phase.RUNNING).annotate(now=Now())
        held = list(order_locks(running))
        taken = SubmissionFold.objects.filter(pk__in=[fold.pk for fold in held])
        moved = move(taken, phase=phase, state=state, **changes)
        for fold in held:
            end_attempt(fold=fold, outcome=outcome)
            assert fold.started_at is not None  # the claim has set it
            settle(fold=fold, used_seconds=(fold.now - fold.started_at).total_seconds())
    return moved


def requeue_running(folds: Folds) -> int:
    """Send running folds back to the queue, as if nobody had tried them."""
    return take_from_workers(
        folds, phase=Phase.WAITING, state=State.TODO, outcome="restarted", **NEVER_TRIED
    )
