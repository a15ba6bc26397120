"""Pages of folds: each begins behind the last row of the one before, found by an index."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, QuerySet

from runapp.models import MAX_CLIENT_ID, MEASURES, SubmissionFold, is_measured
from runapp.ops.fold_rows import KB_IN_MB, Line

ROWS = 50
# Each name with the column or the alias that it sorts by.
SORTS = {"id": "pk", "queued": "queued_at", "ended": "finished_at"} | dict.fromkeys(
    MEASURES, "measure"
)
# At the ends of all years another time zone has none.
_FIRST_YEAR, _LAST_YEAR = 1, 9999
_MOST_DIGITS = len(str(MAX_CLIENT_ID))

Value = datetime | float


@dataclass(frozen=True)
class Place:
    """Where a page begins: behind the fold of this key, and of this value if it sorts by one."""

    pk: int
    value: Value | None = None

    @classmethod
    def of(cls, line: Line, by: str) -> Place:
        """Return the place behind a line."""
        memory = line.memory.used
        values: dict[str, Value | None] = {
            "queued": line.queued_at,
            "ended": line.finished_at,
            "wall": line.wall.used,
            "cpu": line.cpu.used,
            "memory": None if memory is None else memory * KB_IN_MB,
        }
        return cls(line.id, values.get(by.lstrip("-")))

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place that a link names, None if it names none."""
        number, _, value = text.partition(",")
        if not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
            return None
        with suppress(ValueError):
            if int(number) <= MAX_CLIENT_ID:
                return cls(int(number), _parse_value(value) if value else None)
        return None

    def __str__(self) -> str:
        if self.value is None:
            return str(self.pk)
        if isinstance(self.value, datetime):
            return f"{self.pk},{self.value.isoformat()}"
        return f"{self.pk},{self.value!r}"


def _parse_value(text: str) -> Value:
    with suppress(ValueError):
        number = float(text)
        if math.isfinite(number):
            return number
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not _FIRST_YEAR < moment.year < _LAST_YEAR:
        raise ValueError("no database has such a moment")
    # PostgreSQL knows no zone that is more than 16 hours off.
    return moment.astimezone(UTC)


def sort(folds: QuerySet[SubmissionFold], by: str) -> QuerySet[SubmissionFold]:
    """Order folds by the name of a column; "-" turns it, and what is no name is "-id".

    Those without a value are left out: who has not ended has used nothing in all.
    """
    name = by.lstrip("-")
    if name not in SORTS:
        return folds.order_by("-pk")
    if name == "ended":
        folds = folds.filter(finished_at__isnull=False)
    if name in MEASURES:
        column, measure = MEASURES[name]
        folds = folds.filter(is_measured(column)).alias(measure=measure)
    sign = "-" if by.startswith("-") else ""
    return folds.order_by(*dict.fromkeys((f"{sign}{SORTS[name]}", f"{sign}pk")))


def cut(folds: QuerySet[SubmissionFold], by: str, place: Place | None) -> QuerySet[SubmissionFold]:
    """Keep what comes behind a place in that order."""
    if place is None:
        return folds
    name = by.lstrip("-")
    turned = "gt" if name in SORTS and not by.startswith("-") else "lt"
    behind: dict[str, Any] = {f"pk__{turned}": place.pk}
    if not _is_of(place.value, name):
        return folds.filter(**behind)
    column = SORTS[name]
    # The first condition is one range of the index, the second cuts its edge.
    return folds.filter(
        Q(**{f"{column}__{turned}e": place.value})
        & (Q(**{f"{column}__{turned}": place.value}) | Q(**behind))
    )


def _is_of(value: Value | None, name: str) -> bool:
    """Tell whether a value is of the kind that is sorted by."""
    return (
        isinstance(value, float)
        if name in MEASURES
        else (isinstance(value, datetime) and SORTS.get(name, "pk") != "pk")
    )
