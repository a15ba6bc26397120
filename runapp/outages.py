"""Which errors of a database mean that it is away, full, read-only or locked for now."""

from __future__ import annotations

import logging
from http import HTTPStatus

from django.db import InterfaceError, InternalError, OperationalError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
# Those that PostgreSQL calls an internal error:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_READ_ONLY = "25006"
_IDLE_TOO_LONG = "25P03"


def is_outage(error: BaseException | None) -> bool:
    """Tell whether the same request may succeed later, with nothing changed about it."""
    # OperationalError has most: no connection, none free in the pool, a full disk, a lock.
    if isinstance(error, (OperationalError, InterfaceError)):
        return True
    return isinstance(error, InternalError) and _read_state(error) in (_READ_ONLY, _IDLE_TOO_LONG)


def is_read_only(error: BaseException) -> bool:
    """Tell whether the database answers, but takes no changes."""
    # SQLite's sentence, https://www.sqlite.org/rescode.html#readonly
    return _read_state(error) == _READ_ONLY or "readonly database" in str(error)


def is_locked(error: BaseException) -> bool:
    """Tell whether SQLite waited in vain for another writer."""
    return isinstance(error, OperationalError) and "is locked" in str(error)


def describe_outage(error: BaseException) -> str:
    """Log an outage in one line, and return what a client is told of it."""
    logger.warning("the database refused: %s", " ".join(str(error).split()))
    if is_read_only(error):
        return "The database is read-only at the moment; try again later."
    return "The database is busy or unavailable; try again later."


class OutageFilter(logging.Filter):
    """Drops what Django says of a 503, traceback and all: the outage has a line of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE


def _read_state(error: BaseException) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)
