"""Which workers live, and how many folds they run at once."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce, Now

from runapp.models import Worker

# A worker that has not been heard of for so long, or has missed so many beats, is not live.
_LEAST_LIVE_SECONDS = 15
_LIVE_BEATS = 3


def list_live_workers() -> QuerySet[Worker]:
    """Return the workers that have been heard of lately."""
    return Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=get_live_seconds()))


def get_live_seconds() -> int:
    """Return how long after it was last heard of a worker counts as live."""
    return max(_LEAST_LIVE_SECONDS, _LIVE_BEATS * settings.HEARTBEAT_SECONDS)


def count_live_slots() -> int:
    """Return how many folds all live workers run at once."""
    return list_live_workers().aggregate(n=Coalesce(Sum("slots"), 0))["n"] or 0
