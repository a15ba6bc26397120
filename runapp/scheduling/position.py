"""Where a waiting fold stands in the queue, and when it is likely to start.

Reckoned, not played through: each account gets the next slot while its share is the least, so the
one of a fold that has `n` folds of its own account before it is served when the account's share has
grown by `n` times what its folds are expected to take. Until then every other account is served as
often as its own share stays below that ("start-time fair queueing", Goyal, Vin and Cheng, 1996).
What is posted, paused or cancelled meanwhile changes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from runapp.common.transitions import Phase
from runapp.models import RawData, SubmissionFold, keep_phase
from runapp.scheduling.live_workers import list_live_workers
from runapp.scheduling.queue import FIRST_EXPECTED_SECONDS, NO_CAP, get_cap

# Counted along the index of the queue, which has all columns: joined first, each fold would be
# looked at.
_LINES = f"""
WITH waiting AS (
    SELECT priority, owner_id, raw_data_id, count(*) AS folds,
        count(CASE WHEN rank < %s OR (rank = %s AND id < %s) THEN 1 END) AS lower_folds
    FROM runapp_submissionfold WHERE phase = '{Phase.WAITING}'
    GROUP BY priority, owner_id, raw_data_id
)
SELECT waiting.priority, waiting.owner_id, sum(waiting.folds), sum(waiting.lower_folds),
    coalesce(min(share.seconds), 0), coalesce(min(share.expected_seconds), %s),
    coalesce(min(share.cap), %s)
FROM waiting
JOIN runapp_rawdata AS dataset ON dataset.id = waiting.raw_data_id
JOIN auth_user AS account ON account.id = waiting.owner_id
LEFT JOIN runapp_fairshare AS share ON share.owner_id = waiting.owner_id
WHERE dataset.state = '{RawData.State.READY}' AND NOT dataset.paused AND account.is_active
GROUP BY waiting.priority, waiting.owner_id
"""  # noqa: S608 - the names are our own


@dataclass(frozen=True)
class Line:
    """What one account has waiting at one priority.

    Parameters
    ----------
    share_seconds : float
        What it has lately used.
    fold_seconds : float
        How long one of its folds is expected to take.
    cap : int, optional
        How many folds the account may run at once.
    """

    priority: str
    owner_id: int
    n_waiting: int
    share_seconds: float
    fold_seconds: float
    cap: int = NO_CAP


@dataclass(frozen=True)
class Position:
    """Where a waiting fold stands.

    Parameters
    ----------
    number : int
        1 for the fold that is next.
    starts_at : datetime or None
        When it is likely to start; None when no worker lives that may run it, or its
        account may run none at all.
    """

    number: int
    starts_at: datetime | None


def find_position(fold: SubmissionFold) -> Position | None:
    """Return where a fold stands, None for one that waits for something else than its turn."""
    raw_data = fold.submission.raw_data
    if fold.phase != Phase.WAITING or raw_data.state != RawData.State.READY or raw_data.paused:
        return None
    if not fold.owner.is_active:
        return None
    lines, n_before = _list_lines(fold)
    own = next((line for line in lines if _is_of(line, fold)), None)
    if own is None:  # claimed since it was read
        return None
    ahead = list(count_ahead(own, n_before=n_before, lines=lines))
    number = 1 + sum(count for _, count in ahead)
    return Position(number, _estimate_start(own, ahead=ahead, n_before=n_before))


def count_ahead(own: Line, *, n_before: int, lines: Iterable[Line]) -> Iterable[tuple[Line, int]]:
    """Yield how many folds of each line are served before the next one of `own`.

    Parameters
    ----------
    own : Line
        The line of the fold that is asked about.
    n_before : int
        How many folds stand before it in that line.
    lines : iterable of Line
        All lines, `own` among them.
    """
    turn = own.share_seconds + n_before * own.fold_seconds
    for line in lines:
        if line.priority < own.priority:
            yield line, line.n_waiting
        elif line == own:
            yield line, n_before
        elif line.priority == own.priority:
            served = math.ceil((turn - line.share_seconds) / max(line.fold_seconds, 0.001))
            yield line, min(max(served, 0), line.n_waiting)


def _is_of(line: Line, fold: SubmissionFold) -> bool:
    return (line.owner_id, line.priority) == (fold.owner_id, fold.priority)


def _list_lines(fold: SubmissionFold) -> tuple[list[Line], int]:
    """Return all lines, and how many folds stand before this one in its own."""
    with connection.cursor() as cursor:
        cursor.execute(_LINES, [fold.rank, fold.rank, fold.pk, FIRST_EXPECTED_SECONDS, get_cap()])
        rows = cursor.fetchall()
    n_before = 0
    lines = []
    for priority, owner_id, n_waiting, n_lower, *share in rows:
        lines.append(Line(priority, owner_id, int(n_waiting), *share))
        if _is_of(lines[-1], fold):
            n_before = int(n_lower)
    return lines, n_before


def _estimate_start(own: Line, *, ahead: list[tuple[Line, int]], n_before: int) -> datetime | None:
    workers: Any = list_live_workers().annotate(now=Now())
    able = [
        worker
        for worker in workers
        if worker.promises is not None and set(worker.promises) >= settings.REQUIRED_PROMISES
    ]
    n_slots = sum(worker.slots for worker in able)
    if not n_slots or not own.cap:
        return None
    now = able[0].now
    left = _list_remaining(now)
    n_idle = n_slots - len(left)
    seconds = 0.0
    if sum(count for _, count in ahead) >= n_idle:
        work = sum(count * line.fold_seconds for line, count in ahead)
        seconds = (work + sum(seconds for _, seconds in left)) / n_slots
    own_left = [seconds for owner_id, seconds in left if owner_id == own.owner_id]
    if n_before + len(own_left) >= own.cap:
        seconds = max(seconds, (n_before * own.fold_seconds + sum(own_left)) / own.cap)
    start: datetime = now + timedelta(seconds=seconds)
    return start


def _list_remaining(now: datetime) -> list[tuple[int, float]]:
    """Return the owner and the rest of each fold that runs, by the database's time."""
    running: QuerySet[Any] = keep_phase(SubmissionFold.objects.all(), Phase.RUNNING).annotate(
        expected=Coalesce(F("owner__fair_share__expected_seconds"), FIRST_EXPECTED_SECONDS)
    )
    return [
        (owner_id, max(expected - (now - started_at).total_seconds(), 0.0))
        for owner_id, started_at, expected in running.values_list(
            "owner_id", "started_at", "expected"
        )
    ]
