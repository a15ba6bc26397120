"""One submission, and one account: what they have used, may use, and have done lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Max, QuerySet, Sum

from runapp.access import READERS, Scope
from runapp.allowance import Measure, Standing, read_allowance, read_standing
from runapp.board.fold_lines import KB_IN_MB, Line, read_lines
from runapp.events import AuditEvent
from runapp.exceptions import Forbidden, NotFound
from runapp.models import MEASURES, DailyUse, FairShare, Submission, SubmissionFold
from runapp.storage import Kind

FOLDS_SHOWN = 50
# Of a submission, so many of the latest folds are added up.
FOLDS_ADDED = 1000
EVENTS_SHOWN = 20
DAYS_SHOWN = 14
# Of a file, so much is shown.
MOST_BYTES = 256 * 1024
_MB = 2**20


@dataclass(frozen=True)
class Sums:
    """What the latest folds of a submission have used in all; None is what was not measured.

    Wall time and CPU in seconds, `memory` is the greatest peak in MB.
    """

    n_folds: int
    wall: float | None
    cpu: float | None
    memory: float | None

    @property
    def are_all(self) -> bool:
        """Whether no fold was left out."""
        return self.n_folds < FOLDS_ADDED


@dataclass(frozen=True)
class SubmissionStory:
    """One submission; its files are named to those who may read it."""

    submission: Submission
    sums: Sums
    lines: tuple[Line, ...]
    has_more: bool
    may_read: bool


@dataclass(frozen=True)
class File:
    """A file of a submission, or its beginning; bytes that are no UTF-8 are shown as such."""

    submission: Submission
    name: str
    n_bytes: int
    text: str

    @property
    def is_cut(self) -> bool:
        return self.n_bytes > MOST_BYTES


@dataclass(frozen=True)
class Room:
    """What is used of one quota; `limit` is None where there is none, `used` if it is not known."""

    name: str
    used: float | None
    limit: float | None


@dataclass(frozen=True)
class AccountStory:
    """One account: what it may have and do, beside what it has and has done."""

    account: User
    rooms: tuple[Room, ...]
    share: FairShare | None
    days: tuple[DailyUse, ...]
    events: tuple[Any, ...]


def read_submission_story(*, pk: int, scope: Scope) -> SubmissionStory:
    """Return a submission and its latest folds; in five queries.

    Raises
    ------
    NotFound
        When there is no such submission.
    """
    submission = _find_submission(pk)
    folds = SubmissionFold.objects.filter(submission=submission).order_by("-pk")
    lines = read_lines(folds, most=FOLDS_SHOWN + 1)
    return SubmissionStory(
        submission,
        _add_up(folds),
        tuple(lines[:FOLDS_SHOWN]),
        len(lines) > FOLDS_SHOWN,
        _may_read(submission, scope),
    )


def _add_up(folds: QuerySet[SubmissionFold]) -> Sums:
    latest = SubmissionFold.objects.filter(pk__in=folds.values("pk")[:FOLDS_ADDED])
    sums = {name: Sum(measure) for name, (_, measure) in MEASURES.items() if name != "memory"}
    row = latest.aggregate(n_folds=Count("pk"), memory=Max(MEASURES["memory"][1]), **sums)
    peak = row.pop("memory")
    return Sums(memory=None if peak is None else peak / KB_IN_MB, **row)


def read_file(*, pk: int, name: str, scope: Scope) -> File:
    """Return a file of a submission.

    Raises
    ------
    NotFound
        When there is no such submission, or it has no such file.
    Forbidden
        When its code is not for the reader.
    StorageError
        When the file is missing or damaged, or the storage away.
    """
    submission = _find_submission(pk)
    if not _may_read(submission, scope):
        raise Forbidden("You may look at this submission, not at its code.")
    if name not in submission.files:
        raise NotFound("There is no such file.")
    content = submission.raw_data.bin.read(kind=Kind.CODE, digest=submission.files[name])
    text = content[:MOST_BYTES].decode(errors="backslashreplace")
    return File(submission, name, len(content), text)


def _find_submission(pk: int) -> Submission:
    rows = Submission.objects.select_related("raw_data", "owner")
    submission = rows.filter(pk=pk).first()
    if submission is None:
        raise NotFound("There is no such submission.")
    return submission


def _may_read(submission: Submission, scope: Scope) -> bool:
    return scope.may(READERS, raw_data_id=submission.raw_data_id, owner_id=submission.owner_id)


def read_account_story(*, name: str) -> AccountStory:
    """Return an account's use, quotas and latest deeds; in five queries.

    Raises
    ------
    NotFound
        When there is no such account.
    """
    rows = User.objects.select_related("fair_share")
    account = None if "\0" in name else rows.filter(username=name).first()
    if account is None:
        raise NotFound("There is no such account.")
    allowance = read_allowance(owner=account)
    days = DailyUse.objects.filter(owner=account).order_by("-day", "raw_data_id")[:DAYS_SHOWN]
    # What is stored is summed up only where it is limited: that takes a while.
    stored = {Measure.STORED_BYTES} & set(allowance.limits)
    measures = {Measure.WAITING_FOLDS, *stored}
    standing = read_standing(owner=account, allowance=allowance, measures=measures)
    kept = tuple(days)
    n_today = sum(day.folds for day in kept if day.day == allowance.day)
    return AccountStory(
        account=account,
        rooms=_list_rooms(standing, n_today),
        share=getattr(account, "fair_share", None),
        days=kept,
        events=tuple(AuditEvent.objects.filter(actor=name).order_by("-pk")[:EVENTS_SHOWN]),
    )


def _list_rooms(standing: Standing, n_today: int) -> tuple[Room, ...]:
    limits, use = standing.allowance.limits, standing.use
    stored = limits.get(Measure.STORED_BYTES)
    return (
        Room("waiting folds", use.waiting_folds, limits.get(Measure.WAITING_FOLDS)),
        Room("folds today", n_today, limits.get(Measure.FOLDS_PER_DAY)),
        Room(
            "stored, MB",
            None if stored is None else use.n_bytes / _MB,
            None if stored is None else stored / _MB,
        ),
    )
