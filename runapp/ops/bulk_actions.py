"""Actions on all folds that fit a search: foreseen first, then done in rounds of a bounded time.

Nothing is kept between two rounds but what the caller is given: how far the sweep has come, by the
folds' keys from the newest to the oldest, and the moment at which it was foreseen. What was put
into the queue later is left alone, so no fold is run again twice. Each fold is read shortly before
its action and compared under its lock, as if it had been ticked: it is done once, whoever else does
the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db.models import QuerySet, Subquery
from django.db.models.functions import Now

from runapp.common.transitions import Phase
from runapp.models import MAX_CLIENT_ID, Clock, Folds
from runapp.ops.actions import FoldAction, Seen, carry_out
from runapp.ops.overview import MOST_COUNTED, Count
from runapp.ops.search import Search
from runapp.scheduling import dispatch
from runapp.scheduling.live_workers import count_live_slots

# A web request takes no longer, also where the disk or the broker is slow.
ROUND_FOLDS = 500
ROUND_SECONDS = 5.0
# Few, so that little changes between the reading of a fold and its action.
_BATCH = 50
# SQLite's clock goes by it, and what is put back within the same one is not to fit again.
_INSTANT = timedelta(milliseconds=1)
_WORDS = {
    "error_code": "error code",
    "worker": "worker beginning with",
    "older_than": "older than",
}


@dataclass(frozen=True)
class BulkAction:
    """An action on all folds that fit a search, or to those of them that are left.

    Parameters
    ----------
    moment : datetime
        By the database's clock; folds that were put into the queue later are left alone.
    below : int
        The folds from this key on are dealt with.
    """

    action: FoldAction
    search: Search
    moment: datetime
    below: int = MAX_CLIENT_ID

    def find(self) -> Folds:
        """Return the folds that fit and can have it done, the newest first."""
        able = self.action.keep_able(self.search.find())
        return able.filter(queued_at__lte=self.moment, pk__lt=self.below)

    def count(self) -> Count:
        """Return how many they are, within a bound."""
        return Count(self.find().order_by().values("pk")[: MOST_COUNTED + 1].count())


@dataclass(frozen=True)
class Prospect:
    """A sweep that has not begun: how many folds fit, and which of them can have it done."""

    sweep: BulkAction
    fitting: Count
    able: Count
    folds: Folds


@dataclass(frozen=True)
class Refusal:
    """A fold to which it was not done, by its key, and why."""

    pk: int
    sentence: str


@dataclass(frozen=True)
class Round:
    """What became of some folds, and the sweep of the rest."""

    n_done: int
    refusals: tuple[Refusal, ...]
    rest: BulkAction

    @property
    def is_empty(self) -> bool:
        """Whether no fold was left for it."""
        return self.n_done == 0 and not self.refusals


def foresee(*, action: FoldAction, search: Search) -> Prospect:
    """Return what would be done to the folds that fit now; in two queries.

    Parameters
    ----------
    action : FoldAction
        What is to be done.
    search : Search
        An empty one fits all folds of all accounts; one that cannot be meant fits none.

    Returns
    -------
    Prospect
        With counts that end at a bound.

    Notes
    -----
    A fold is in the queue since the statement that put it there. One whose transaction commits only
    after this query is not counted, but is older than the moment, and taken.
    """
    fitting = search.find()
    able = action.keep_able(fitting)
    counts = {"fitting": _BoundedCount(fitting), "able": _BoundedCount(able)}
    row = Clock.objects.annotate(now=Now(), **counts).values("now", *counts)[0]
    sweep = BulkAction(action, search, row["now"] - _INSTANT)
    # Of a search that cannot be meant nothing is asked.
    n_fitting, n_able = (Count(row[name] or 0) for name in counts)
    return Prospect(sweep, n_fitting, n_able, able)


def resume(*, action: FoldAction, search: Search, moment: datetime, below: int) -> BulkAction:
    """Return a sweep that was foreseen before, as a form or a caller tells of it.

    Parameters
    ----------
    action, search : FoldAction, Search
        What is done, and to which folds.
    moment : datetime
        When it was foreseen; one that has not come yet is taken for now.
    below : int
        The key from which on folds are dealt with.

    Returns
    -------
    Sweep
        What is left of it.
    """
    now = Clock.objects.annotate(now=Now()).values_list("now", flat=True)[0]
    return BulkAction(action, search, min(moment, now - _INSTANT), below)


def do_round(
    *,
    sweep: BulkAction,
    most: int = ROUND_FOLDS,
    seconds: float = ROUND_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Round:
    """Do it to the first of the folds that are left, each in a transaction of its own.

    Parameters
    ----------
    sweep : BulkAction
        What is to be done.
    most : int, optional
        How many folds at most.
    seconds : float, optional
        After this time no further fold is begun.
    clock : callable, optional
        Returns seconds.

    Returns
    -------
    Round
        What became of them, and what is left.
    """
    n_done, refusals = 0, []
    with dispatch.holding_hints() as task_id:
        for seen in _read_until(sweep, clock() + seconds, most, clock):
            answer = carry_out(action=sweep.action, seen=seen)
            n_done += answer.is_done
            if not answer.is_done:
                refusals.append(Refusal(seen.pk, answer.sentence))
            sweep = replace(sweep, below=seen.pk)
    if sweep.action.wakes and n_done:
        dispatch.burst(task_id=task_id, count=min(n_done, max(count_live_slots(), 1)))
    return Round(n_done, tuple(refusals), sweep)


def group_refusals(refusals: Iterable[Refusal]) -> dict[str, list[int]]:
    """Return the keys of the folds that were refused by each sentence, the most frequent first."""
    groups: dict[str, list[int]] = {}
    for refusal in refusals:
        groups.setdefault(refusal.sentence, []).append(refusal.pk)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def describe_search(search: Search) -> str:
    """Return a search in words; "" of one for nothing, which all folds fit."""
    known = [(name, value) for name, value in asdict(search).items() if value]
    return ", ".join(f"{_WORDS.get(name, name)} {value}" for name, value in known)


def _read_until(
    sweep: BulkAction, end: float, most: int, clock: Callable[[], float]
) -> Iterator[Seen]:
    for seen in islice(_read(sweep), most):
        yield seen
        if clock() >= end:
            return


def _read(sweep: BulkAction) -> Iterator[Seen]:
    """Yield the folds that are left as they are now, read some at a time."""
    columns = ("pk", "attempt", "phase", "queued_at")
    while batch := sweep.find().values_list(*columns)[:_BATCH]:
        for pk, attempt, phase, queued_at in batch:
            yield Seen(pk, attempt, Phase(phase), queued_at)
        sweep = replace(sweep, below=pk)


class _BoundedCount(Subquery):
    """How many rows a query has, within the bound."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"

    def __init__(self, rows: QuerySet[Any]) -> None:
        super().__init__(rows.order_by().values("pk")[: MOST_COUNTED + 1])
