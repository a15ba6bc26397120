"""One submission, and one account: what they have used, may use, and have done lately."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User

from runapp.access import READERS, Scope
from runapp.allowance import Measure, Standing, read_allowance, read_standing
from runapp.board.fold_lines import Line, Use, read_lines
from runapp.board.history import History, read_deeds_of, read_history_of_submission
from runapp.exceptions import Forbidden, NotFound
from runapp.models import DailyUse, FairShare, Submission, SubmissionFold
from runapp.storage import Kind

FOLDS_SHOWN = 50
DAYS_SHOWN = 14
# Of a file, so much is shown.
MOST_BYTES = 256 * 1024
_MB = 2**20


@dataclass(frozen=True)
class Sums:
    """What folds have used in all by now; None is what was not measured.

    Wall time and CPU in seconds, `memory` is the greatest peak in MB.
    """

    wall: float | None
    cpu: float | None
    memory: float | None


@dataclass(frozen=True)
class SubmissionStory:
    """One submission; its files are named to those who may read it."""

    submission: Submission
    sums: Sums
    lines: tuple[Line, ...]
    has_more: bool
    may_read: bool
    events: History


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
    events: History


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
    shown = tuple(lines[:FOLDS_SHOWN])
    return SubmissionStory(
        submission=submission,
        sums=_add_up(shown),
        lines=shown,
        has_more=len(lines) > FOLDS_SHOWN,
        may_read=_may_read(submission, scope),
        events=read_history_of_submission(submission),
    )


def _add_up(lines: Sequence[Line]) -> Sums:
    wall = _list_used(line.wall for line in lines)
    cpu = _list_used(line.cpu for line in lines)
    memory = _list_used(line.memory for line in lines)
    return Sums(sum(wall) if wall else None, sum(cpu) if cpu else None, max(memory, default=None))


def _list_used(uses: Iterable[Use]) -> list[float]:
    return [use.used for use in uses if use.used is not None]


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
        raise Forbidden("You may see this submission but not its code.")
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
        events=read_deeds_of(account=name),
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
