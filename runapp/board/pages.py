"""Pages of folds: each begins behind the last row of the one before, found by an index."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from runapp.board.fold_lines import Line
from runapp.models import MAX_CLIENT_ID, SubmissionFold

ROWS = 50
SORTS = {"id": "pk", "queued": "queued_at", "ended": "finished_at"}
_MOST_DIGITS = len(str(MAX_CLIENT_ID))


@dataclass(frozen=True)
class Place:
    """Where a page begins: behind the fold of this key, and of this moment if that is sorted by."""

    pk: int
    moment: datetime | None = None

    @classmethod
    def of(cls, line: Line, by: str) -> Place:
        """Return the place behind a line."""
        moments = {"queued": line.queued_at, "ended": line.finished_at}
        return cls(line.id, moments.get(by.lstrip("-")))

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place that a link names, None if it names none."""
        number, _, moment = text.partition(",")
        if not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
            return None
        with suppress(ValueError):
            at = datetime.fromisoformat(moment) if moment else None
            if int(number) <= MAX_CLIENT_ID and (at is None or at.tzinfo is not None):
                return cls(int(number), at)
        return None

    def __str__(self) -> str:
        return str(self.pk) if self.moment is None else f"{self.pk},{self.moment.isoformat()}"


def sort(folds: QuerySet[SubmissionFold], by: str) -> QuerySet[SubmissionFold]:
    """Order folds by the name of a column; "-" turns it, and what is no name is "-id"."""
    name = by.lstrip("-")
    if name not in SORTS:
        return folds.order_by("-pk")
    if name == "ended":
        folds = folds.filter(finished_at__isnull=False)
    sign = "-" if by.startswith("-") else ""
    return folds.order_by(*dict.fromkeys((f"{sign}{SORTS[name]}", f"{sign}pk")))


def cut(folds: QuerySet[SubmissionFold], by: str, place: Place | None) -> QuerySet[SubmissionFold]:
    """Keep what comes behind a place in that order."""
    if place is None:
        return folds
    name = by.lstrip("-")
    turned = "gt" if name in SORTS and not by.startswith("-") else "lt"
    behind: dict[str, Any] = {f"pk__{turned}": place.pk}
    column = SORTS.get(name, "pk")
    if column == "pk" or place.moment is None:
        return folds.filter(**behind)
    # The first condition is one range of the index, the second cuts its edge.
    return folds.filter(
        Q(**{f"{column}__{turned}e": place.moment})
        & (Q(**{f"{column}__{turned}": place.moment}) | Q(**behind))
    )
