"""Folds that ended, counted under the ten minutes in which they did.

What stands under a moment is one row of `Tally` for each outcome and shard, however many folds end.
Labels begin with the moment, so a range of the table's unique index is a range of time, in any
collation, as what differs between two of them are digits at the same places.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from django.db import connection
from django.db.models import QuerySet

from runapp.models import Tally

# No metric has such a name.
NAME = "folds_ended"
SPAN = timedelta(minutes=10)
# Stands in labels for the moment that only the database knows.
NOW = "now"
_FORM = "%Y-%m-%dT%H:%M"
_MINUTE = {
    "sqlite": "strftime('%%Y-%%m-%%dT%%H:%%M', 'now')",
    "postgresql": "to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI')",
}
_TO_THE_TENS = len("2026-01-31T12:3")


class Outcome(StrEnum):
    """How a fold ended."""

    TESTED = "tested"
    ERROR = "error"


def make_labels(at: str, outcome: Outcome) -> str:
    """Return labels as they are kept, of ten minutes or of `NOW`."""
    return json.dumps({"at": at, "outcome": outcome}, separators=(",", ":"))


def express_now() -> str:
    """Return SQL that makes of a parameter, labels of `NOW`, those of the ten minutes that it is.

    By the clock of the database, which also tells when a fold has finished.
    """
    minute = _MINUTE[connection.vendor]
    return f"replace(%s, '\"{NOW}\"', '\"' || substr({minute}, 1, {_TO_THE_TENS}) || '0\"')"


def begin_span(moment: datetime) -> datetime:
    """Return when the ten minutes began that a moment is in."""
    at = moment.astimezone(UTC)
    return at.replace(minute=at.minute - at.minute % 10, second=0, microsecond=0)


def tell_span(began_at: datetime) -> str:
    """Return ten minutes as labels name them."""
    return f"{began_at.astimezone(UTC):{_FORM}}"


def list_since(began_at: datetime) -> QuerySet[Tally]:
    """Return the rows of ten minutes and of those that followed."""
    return Tally.objects.filter(name=NAME, labels__gte=_begin_labels(began_at))


def list_before(began_at: datetime) -> QuerySet[Tally]:
    """Return the rows of what was before ten minutes."""
    return Tally.objects.filter(name=NAME, labels__lt=_begin_labels(began_at))


def _begin_labels(began_at: datetime) -> str:
    return f'{{"at":"{tell_span(began_at)}"'
