"""What has been done to a thing, or by an account, as the audit tells it."""

from __future__ import annotations

from django.db.models import QuerySet

from runapp.models import Submission, SubmissionFold
from runapp.models.audit import AuditEvent, Kind

EVENTS_SHOWN = 20

History = tuple[AuditEvent, ...]


def read_events_by(*, account: str) -> History:
    """Return what an account of that name has lately done; in one query."""
    return _read_latest(AuditEvent.objects.filter(actor=account))


def read_history_of_submission(submission: Submission) -> History:
    """Return what has lately been done to a submission; in one query."""
    return _read(Kind.SUBMISSION, submission.databoard_s_id, submission)


def read_history_of_fold(fold: SubmissionFold) -> History:
    """Return what has lately been done to a fold; in one query."""
    return _read(Kind.SUBMISSION_FOLD, fold.databoard_sf_id, fold)


def _read(kind: Kind, number: int | None, of: Submission | SubmissionFold) -> History:
    # The audit names them as their clients do: one without a number is told from no other.
    if number is None:
        return ()
    events = AuditEvent.objects.filter(kind=kind, target=str(number))
    return _read_latest(events.filter(owner_id=of.owner_id, raw_data_id=of.raw_data_id))


def _read_latest(events: QuerySet[AuditEvent]) -> History:
    return tuple(events.order_by("-pk")[:EVENTS_SHOWN])
