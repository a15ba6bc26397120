"""The history of a fold: a row for every attempt whose code has begun to run."""

from __future__ import annotations

import logging
from typing import Any

from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Now

from runapp.changes.counters import WRITES_REFUSED, count
from runapp.common.transitions import Phase
from runapp.models import FoldAttempt, SubmissionFold

logger = logging.getLogger(__name__)


def begin_attempt(*, fold: SubmissionFold) -> None:
    """Note that the submission's code has begun to run: from now on the attempt counts.

    A claim that was lost since leaves no row, which nobody would end any more.
    """
    with transaction.atomic():
        # Locked: whoever takes the fold does so before, or ends the attempt after.
        if held_fold(fold).select_for_update().exists():
            _make_row(fold)
            logger.info(
                *("fold %s attempt %s: its code begins", fold.pk, fold.attempt),
                extra={"action": "attempt_begun"},
            )
        else:
            logger.info("fold %s attempt %s: lost before it began", fold.pk, fold.attempt)


def record_attempt(*, fold: SubmissionFold, outcome: str, usage: dict[str, Any]) -> None:
    """Keep how a claim ended, in the transaction that ended it."""
    if not end_attempt(fold=fold, outcome=outcome, usage=usage):
        # The database was away when it began, or it was refused before it could begin.
        _make_row(fold)
        end_attempt(fold=fold, outcome=outcome, usage=usage)


def _make_row(fold: SubmissionFold) -> None:
    FoldAttempt.objects.create(
        fold=fold,
        number=fold.attempt,
        worker=fold.worker,
        started_at=Now(),
        code_digest=fold.code_digest,
        split_digest=fold.split_digest,
    )


def held_fold(fold: SubmissionFold) -> models.QuerySet[SubmissionFold]:
    """Return the fold's row as a query that is empty once the claim is lost."""
    return SubmissionFold.objects.filter(pk=fold.pk, attempt=fold.attempt, phase=Phase.RUNNING)


def has_begun(*, fold: SubmissionFold) -> bool:
    """Tell whether the code of a claimed fold has begun to run."""
    return FoldAttempt.objects.filter(fold=fold, number=fold.attempt).exists()


def has_ended(*, fold: SubmissionFold, outcome: str) -> bool:
    """Tell whether the attempt was recorded to have ended like that."""
    rows = FoldAttempt.objects.filter(fold_id=fold.pk, number=fold.attempt, outcome=outcome)
    return rows.exclude(ended_at=None).exists()


def end_attempt(*, fold: SubmissionFold, outcome: str, usage: dict[str, Any] | None = None) -> bool:
    """Keep what became of an attempt; the first word counts, and False is a second one."""
    changes = {} if usage is None else {"usage": usage}
    running = FoldAttempt.objects.filter(fold=fold, number=fold.attempt, ended_at=None)
    return bool(running.update(outcome=outcome, ended_at=Now(), **changes))


def refuse_write(*, fold: SubmissionFold, usage: dict[str, Any] | None = None) -> None:
    """Count a write that came when the fold was no longer this attempt's, and what it had used."""
    logger.warning(
        *("fold %s attempt %s: a late write was refused", fold.pk, fold.attempt),
        extra={"action": "write_refused"},
    )
    changes = {} if usage is None else {"usage": usage}
    rows = FoldAttempt.objects.filter(fold_id=fold.pk, number=fold.attempt)
    rows.update(refused=F("refused") + 1, **changes)
    count(WRITES_REFUSED)
