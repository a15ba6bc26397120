"""Waiting for a database, or a storage, that is away."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connections

logger = logging.getLogger(__name__)

FIRST_SECONDS = 0.2
MOST_SECONDS = 5.0

Answer = TypeVar("Answer")


def insist(
    action: Callable[[], Answer],
    *,
    what: str,
    should_stop: Callable[[], bool],
    away: tuple[type[Exception], ...] = (OperationalError, InterfaceError),
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
    away : tuple of exception types, optional
        What says that it is away; by default the errors of the database.

    Raises
    ------
    One of `away`
        The last one, when `should_stop` says so.
    """
    seconds = FIRST_SECONDS
    while True:
        try:
            return action()
        except away as error:
            if should_stop():
                raise
            logger.warning("%s waits: %s", what, error)
        forget_broken_connections()
        # Jitter, so that the slots do not all come back at the same moment.
        time.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311 - no secret
        seconds = min(2 * seconds, MOST_SECONDS)


def forget_broken_connections() -> None:
    """Close connections that have failed, so that the next query makes new ones."""
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
