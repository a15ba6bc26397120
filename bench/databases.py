"""Empty databases in temporary homes: SQLite, and PostgreSQL where it answers."""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg

POSTGRES = os.environ.get("DATARUN_TEST_POSTGRES") or "postgres://postgres@127.0.0.1:5432"
DATABASES = ("sqlite", "postgresql")


@contextmanager
def make_database(name: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a home with an empty database; both are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="datarun-bench-") as home:
        if name == "sqlite":
            yield {"DATARUN_HOME": home, "DATABASE_URL": f"sqlite:///{home}/datarun.sqlite3"}
            return
        database = f"datarun_bench_{secrets.token_hex(6)}"
        _execute_outside(f"create database {database}")
        try:
            yield {"DATARUN_HOME": home, "DATABASE_URL": f"{POSTGRES.rstrip('/')}/{database}"}
        finally:
            _execute_outside(f"drop database {database} with (force)")


def _execute_outside(statement: str) -> None:
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(statement.encode())


def execute(environment: Mapping[str, str], *statements: str) -> tuple[Any, ...]:
    """Execute statements in one transaction; return the first row of the last one."""
    url = environment["DATABASE_URL"]
    connection: Any
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
    else:
        connection = psycopg.connect(url)
    with closing(connection):
        for statement in statements:
            cursor = connection.execute(statement)
        row: tuple[Any, ...] = cursor.fetchone()
        connection.commit()
    return row
