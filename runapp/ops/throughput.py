"""How many folds ended in each ten minutes of the last day, tested or failed.

Read from counts of which there are as many as ten minutes, whatever the number of folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum

from runapp.changes.ended_folds import (
    SPAN,
    Outcome,
    begin_span,
    list_since,
    make_labels,
    tell_span,
)

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Ended:
    """The folds that ended in some time."""

    began_at: datetime
    ended_at: datetime
    tested: int
    failed: int

    @property
    def total(self) -> int:
        """How many there are of both."""
        return self.tested + self.failed


@dataclass(frozen=True)
class Throughput:
    """The ten minutes of the last day, the oldest first; the one that it is now is the last."""

    spans: tuple[Ended, ...]

    @property
    def last_hour(self) -> Ended:
        """The ten minutes that it is, and the fifty before."""
        return _add_up(self.spans[-(_HOUR // SPAN) :])

    @property
    def last_day(self) -> Ended:
        """All of them together."""
        return _add_up(self.spans)

    @property
    def most(self) -> int:
        """How many ended in the ten minutes in which most did."""
        return max(span.total for span in self.spans)

    @property
    def busy(self) -> tuple[Ended, ...]:
        """The ten minutes in which any fold ended, the latest first."""
        return tuple(span for span in reversed(self.spans) if span.total)

    @property
    def data(self) -> dict[str, Any]:
        """What is drawn."""
        return {
            "kind": "throughput",
            "at": [int(span.began_at.timestamp()) for span in self.spans],
            "step": int(SPAN.total_seconds()),
            "tested": [span.tested for span in self.spans],
            "failed": [span.failed for span in self.spans],
        }


def read_throughput(*, now: datetime) -> Throughput:
    """Return what ended in the day before a moment; in one query.

    Parameters
    ----------
    now : datetime
        By the database's clock, as by that they were counted.
    """
    n_spans = _DAY // SPAN
    first = begin_span(now) - (n_spans - 1) * SPAN
    rows: Any = list_since(first).order_by().values("labels").annotate(total=Sum("value"))
    counts = {row["labels"]: int(row["total"]) for row in rows}
    return Throughput(tuple(_make_span(first + n * SPAN, counts) for n in range(n_spans)))


def _make_span(began_at: datetime, counts: dict[str, int]) -> Ended:
    at = tell_span(began_at)
    tested, failed = (counts.get(make_labels(at, outcome), 0) for outcome in Outcome)
    return Ended(began_at, began_at + SPAN, tested, failed)


def _add_up(spans: Sequence[Ended]) -> Ended:
    return Ended(
        began_at=spans[0].began_at,
        ended_at=spans[-1].ended_at,
        tested=sum(span.tested for span in spans),
        failed=sum(span.failed for span in spans),
    )
