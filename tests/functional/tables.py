"""What the database itself says, whatever the service answers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg

CONNECT_SECONDS = 3
BUSY_SECONDS = 20

Row = tuple[Any, ...]


def read_rows(database: str, query: str) -> list[Row]:
    """Return the rows of a query; the database is a URL of PostgreSQL or a path of SQLite."""
    if database.startswith("postgres"):
        with psycopg.connect(database, connect_timeout=CONNECT_SECONDS) as connection:
            return connection.execute(query).fetchall()
    address = f"file:{database}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as lite:
        return lite.execute(query).fetchall()


def to_seconds(moment: datetime | str) -> float:
    """Return a moment of either database in seconds since 1970."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return moment.timestamp()
