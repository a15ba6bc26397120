"""How many requests an account may make in a minute.

A window of a minute has one number in the cache, so that a request costs one question to it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.cache import cache
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from runapp.absence import Absence
from runapp.exceptions import TooMany

if TYPE_CHECKING:  # DRF's views import what the settings name, which is this module
    from rest_framework.views import APIView

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
_LOG_EVERY_SECONDS = 60.0


class AccountThrottle(BaseThrottle):
    """Refuses the requests of an account beyond so many a minute (DATARUN_REQUESTS_PER_MINUTE)."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        most: int = settings.REQUESTS_PER_MINUTE
        # What is tried once more for a busy database is one request.
        if not most or request.user.pk is None or getattr(view, "is_retried", False):
            return True
        window, seconds_left = find_window(time.time())
        if COUNTER.count(account_id=request.user.pk, window=window) > most:
            raise refuse(most=most, seconds_left=seconds_left)
        return True


def find_window(now: float) -> tuple[int, int]:
    """Return the number of the window that a moment lies in, and its seconds that are left.

    Parameters
    ----------
    now : float
        Seconds since the epoch.

    Returns
    -------
    int, int
        The second lies in 1 to 60.
    """
    window = int(now // WINDOW_SECONDS)
    return window, WINDOW_SECONDS - int(now % WINDOW_SECONDS)


def refuse(*, most: int, seconds_left: int) -> TooMany:
    """Return the error for whoever has made too many requests."""
    return TooMany(
        f"An account may make at most {most} requests per minute; "
        f"try again in {seconds_left} seconds.",
        retry_after_seconds=seconds_left,
        headers={
            "RateLimit-Policy": f'"requests";q={most};w={WINDOW_SECONDS}',
            "RateLimit": f'"requests";r=0;t={seconds_left}',
        },
    )


class Counter:
    """Counts requests in the cache; while that does not answer, every request is the first."""

    def __init__(self) -> None:
        self._absence = Absence()
        self._logged_at: float | None = None

    def count(self, *, account_id: int, window: int) -> int:
        """Count a request; return which of the account's in this window it is."""
        if not self._absence.is_over_or_due():
            return 1
        try:
            number = _raise_count(f"requests:{account_id}:{window}")
        except RedisError as error:
            self._absence.lengthen()
            self._log(error)
            return 1
        self._absence.end()
        return number

    def _log(self, error: RedisError) -> None:
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            logger.warning("requests are not counted, the cache does not answer: %s", error)


def _raise_count(key: str) -> int:
    try:
        return cache.incr(key)
    except ValueError:  # the first of its window
        # Of two that are first at once, one makes the key.
        if cache.add(key, 1, timeout=2 * WINDOW_SECONDS):
            return 1
        return cache.incr(key)


COUNTER = Counter()
