"""The order of the queue: which fold is next, in one statement for both databases.

Waiting folds lie in a partial index by priority, account, dataset, rank within their submission
and age. A recursive query jumps through it, one probe for each account and dataset that have
something to wait for, however many folds that is, and finds the first fold of each: a *head*
(a "loose index scan", see the PostgreSQL wiki). Of the heads the best is next:

1. priority H strictly before L;
2. the account with the least recent running time (`FairShare`);
3. the first fold of every submission before the second of any;
4. the older one.

What keeps a whole account or dataset from running (a pause, a cap, being disabled) is asked of the
heads only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connection, transaction

from runapp.common.transitions import Phase
from runapp.models import RawData, SubmissionFold

# Any number does that nobody else uses in this database.
_CLAIM_LOCK = 4_711_004
NO_CAP = 2**31 - 1
# What a fold is taken to last before any of its account has ended.
FIRST_EXPECTED_SECONDS = 10.0

# The phases stand in the text: only then may the partial indexes be used. Three probes in place
# of one comparison of rows, of which SQLite would use the index's first column only. The heads are
# named by IN: joined, once the tables are analysed, SQLite reads all folds for a Bloom filter.
_HEADS = f"""
WITH RECURSIVE head (id) AS (
    SELECT (
        SELECT id FROM runapp_submissionfold WHERE phase = '{Phase.WAITING}'
        ORDER BY priority, owner_id, raw_data_id, rank, id LIMIT 1
    )
    UNION ALL
    SELECT coalesce(
        (SELECT next.id FROM runapp_submissionfold AS next
         WHERE next.phase = '{Phase.WAITING}' AND next.priority = last.priority
             AND next.owner_id = last.owner_id AND next.raw_data_id > last.raw_data_id
         ORDER BY next.raw_data_id, next.rank, next.id LIMIT 1),
        (SELECT next.id FROM runapp_submissionfold AS next
         WHERE next.phase = '{Phase.WAITING}' AND next.priority = last.priority
             AND next.owner_id > last.owner_id
         ORDER BY next.owner_id, next.raw_data_id, next.rank, next.id LIMIT 1),
        (SELECT next.id FROM runapp_submissionfold AS next
         WHERE next.phase = '{Phase.WAITING}' AND next.priority > last.priority
         ORDER BY next.priority, next.owner_id, next.raw_data_id, next.rank, next.id LIMIT 1)
    )
    FROM head JOIN runapp_submissionfold AS last ON last.id = head.id
), busy (owner_id, folds) AS (
    SELECT owner_id, count(*) FROM runapp_submissionfold
    WHERE phase = '{Phase.RUNNING}' GROUP BY owner_id
)
SELECT fold.id, fold.attempt, fold.priority, fold.owner_id, fold.raw_data_id,
    coalesce(share.cap, %s) - coalesce(busy.folds, 0) AS room,
    coalesce(share.expected_seconds, %s) AS expected_seconds
FROM runapp_submissionfold AS fold
JOIN runapp_rawdata AS dataset ON dataset.id = fold.raw_data_id
LEFT JOIN runapp_fairshare AS share ON share.owner_id = fold.owner_id
LEFT JOIN busy ON busy.owner_id = fold.owner_id
WHERE fold.id IN (SELECT head.id FROM head)
    AND dataset.state = '{RawData.State.READY}' AND NOT dataset.paused
    AND (SELECT account.is_active FROM auth_user AS account WHERE account.id = fold.owner_id)
    AND coalesce(busy.folds, 0) < coalesce(share.cap, %s)
"""  # noqa: S608 - the names are our own
_ORDER = "ORDER BY fold.priority, coalesce(share.seconds, 0), fold.rank, fold.id"


@dataclass(frozen=True)
class Head:
    """The first waiting fold of one account on one dataset at one priority.

    Parameters
    ----------
    room : int
        How many more folds the account may run at once.
    expected_seconds : float
        How long it is expected to take.
    """

    fold_id: int
    attempt: int
    priority: str
    owner_id: int
    raw_data_id: int
    room: int
    expected_seconds: float


def lock_claims() -> None:
    """Let one claim happen at a time, until the transaction ends, or none while it goes on.

    A statement of its own, before the one that looks for a head: in READ COMMITTED the next one
    then sees what the last claim has done. SQLite's transactions are one at a time anyway. Never
    while folds are locked, as a claim locks one under it.
    """
    if connection.vendor == "postgresql":
        _probe_indexes()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIM_LOCK])


def _probe_indexes() -> None:
    # While a table is small, or its statistics are old, reading all of it for each head looks
    # cheaper to PostgreSQL than a probe; it is not.
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")


def find_head(*, but_for: Collection[int] = ()) -> Head | None:
    """Return the fold that is next, if any may run, but for those of some datasets."""
    return next(iter(_query("LIMIT 1", but_for=but_for)), None)


def count_claimable(*, most: int) -> int:
    """Return how many folds might be claimed now, counting no further than `most`."""
    if most <= 0:
        return 0
    if connection.vendor != "postgresql":
        return _count_claimable(most)
    with transaction.atomic():
        _probe_indexes()
        return _count_claimable(most)


def _count_claimable(most: int) -> int:
    rooms: dict[int, int] = {}
    found = 0
    for head in _query(""):
        room = rooms.setdefault(head.owner_id, head.room)
        waiting = _count_waiting(head, most=min(room, most - found))
        rooms[head.owner_id] = room - waiting
        found += waiting
        if found >= most:
            break
    return found


def explain_head() -> str:
    """Return the database's plan for finding a head."""
    is_postgresql = connection.vendor == "postgresql"
    keyword = "EXPLAIN (ANALYZE, BUFFERS)" if is_postgresql else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{keyword} {_HEADS} {_ORDER} LIMIT 1", _list_parameters())
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def get_cap() -> int:
    """Return how many folds of an account run at once, unless its share says otherwise."""
    return settings.ACCOUNT_CAP or NO_CAP


def _list_parameters() -> list[float]:
    return [get_cap(), FIRST_EXPECTED_SECONDS, get_cap()]


def _query(ending: str, *, but_for: Collection[int] = ()) -> Iterator[Head]:
    marks = ", ".join(["%s"] * len(but_for))
    condition = f"AND fold.raw_data_id NOT IN ({marks})" if but_for else ""
    with connection.cursor() as cursor:
        cursor.execute(f"{_HEADS} {condition} {_ORDER} {ending}", [*_list_parameters(), *but_for])
        rows = cursor.fetchall()
    return (Head(*row) for row in rows)


def _count_waiting(head: Head, *, most: int) -> int:
    folds = SubmissionFold.objects.filter(
        phase=Phase.WAITING,
        priority=head.priority,
        owner_id=head.owner_id,
        raw_data_id=head.raw_data_id,
    )
    return folds[: max(most, 0)].count()
