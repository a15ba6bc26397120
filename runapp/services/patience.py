"""Waiting for a database, or a storage, that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import connections

from runapp.absence import Absence
from runapp.outages import is_outage

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


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
