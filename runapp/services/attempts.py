"""The history of a fold: a row for every attempt whose code has begun to run."""

from __future__ import annotations

import logging
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from runapp.models import FoldAttempt, SubmissionFold

logger = logging.getLogger(__name__)


def begin_attempt(*, fold: SubmissionFold) -> None:
    """Note that the submission's code has begun to run: from now on the attempt counts."""
    try:
        with transaction.atomic():
            FoldAttempt.objects.create(
                fold=fold,
                number=fold.attempt,
                worker=fold.worker,
                started_at=Now(),
                code_digest=fold.code_digest,
                split_digest=fold.split_digest,
            )
    except IntegrityError:
        # Its dataset was deleted: the next heartbeat ends the run.
        logger.info("fold %s attempt %s: deleted meanwhile", fold.pk, fold.attempt)


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
    logger.warning("fold %s attempt %s: a late write was refused", fold.pk, fold.attempt)
    end_attempt(fold=fold, outcome="overtaken")
    changes = {} if usage is None else {"usage": usage}
    rows = FoldAttempt.objects.filter(fold_id=fold.pk, number=fold.attempt)
    rows.update(refused=F("refused") + 1, **changes)
