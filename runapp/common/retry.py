"""Waiting for a database, or a storage, that is away, and how long to leave it alone."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import connections

from runapp.common.outages import is_outage

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
FIRST_SECONDS = 1.0
MOST_SECONDS = 5.0


def insist(
    action: Callable[[], Answer],
    *,
    what: str,
    should_stop: Callable[[], bool],
    is_away: Callable[[Exception], bool] = is_outage,
) -> Answer:
    """Do what needs the database or the storage, again and again while it is away.

    Parameters
    ----------
    action : callable
        May be called again after it has failed, even when its last commit did succeed.
    what : str
        What is waited with, for the log.
    should_stop : callable
        True when nothing is worth waiting for any more.
    is_away : callable, optional
        Tells the errors that pass from those that do not; by default the database's outages.

    Raises
    ------
    Exception
        One that does not pass, or the last one when `should_stop` says so.
    """
    absence = Absence()
    while True:
        try:
            return action()
        except Exception as error:
            if not is_away(error) or should_stop():
                raise
            logger.warning("%s waits: %s", what, " ".join(str(error).split()))
        forget_broken_connections()
        time.sleep(absence.lengthen())


def forget_broken_connections() -> None:
    """Close connections that have failed, so that the next query makes new ones."""
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()


class Absence:
    """The absence of a server: tries that get rarer, up to one in about five seconds.

    The waits are random, so that the workers of many machines do not all come back at one moment.
    """

    def __init__(self) -> None:
        self._tries = 0
        self._next_try_at = 0.0

    def is_over_or_due(self) -> bool:
        """Tell whether to try: it answered the last time, or the wait is over."""
        return time.monotonic() >= self._next_try_at

    def lengthen(self) -> float:
        """Count a try that failed; return how many seconds to wait until the next."""
        most = min(FIRST_SECONDS * 2**self._tries, MOST_SECONDS)
        self._tries = min(self._tries + 1, 10)
        seconds = random.uniform(most / 2, most)  # noqa: S311 - nothing to guess here
        self._next_try_at = time.monotonic() + seconds
        return seconds

    def end(self) -> bool:
        """Count an answer; tell whether it was missed before."""
        was_missed = self._tries > 0
        self._tries, self._next_try_at = 0, 0.0
        return was_missed
