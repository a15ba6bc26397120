"""The profiles in which datarun is tested: which database and which broker."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from kombu import Connection, Queue

from tests.effort import miss

POSTGRES = os.environ.get("DATARUN_TEST_POSTGRES") or "postgres://postgres@127.0.0.1:5432"
RABBITMQ = os.environ.get("DATARUN_TEST_RABBITMQ") or "amqp://guest:guest@127.0.0.1:5672//"
REDIS = os.environ.get("DATARUN_TEST_REDIS") or "redis://127.0.0.1:6379/15"
CONNECT_SECONDS = 3
QUEUE = "datarun"


@contextmanager
def production() -> Iterator[dict[str, str]]:
    """Yield the environment of PostgreSQL, in a database for this time, and RabbitMQ."""
    _need("PostgreSQL", POSTGRES, _check_postgres)
    _need("RabbitMQ", RABBITMQ, _remove_queue)
    with _temporary_database() as url:
        yield {"DATABASE_URL": url, "CELERY_BROKER_URL": RABBITMQ}
    _remove_queue(RABBITMQ)


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """Yield the environment of PostgreSQL alone, in a database for this time."""
    _need("PostgreSQL", POSTGRES, _check_postgres)
    with _temporary_database() as url:
        yield {"DATABASE_URL": url}


@contextmanager
def redis() -> Iterator[dict[str, str]]:
    """Yield the environment of SQLite and Redis."""
    _need("Redis", REDIS, _remove_queue)
    yield {"CELERY_BROKER_URL": REDIS}
    _remove_queue(REDIS)


def need_redis() -> None:
    """Skip the test, or fail where services are insisted on, when Redis does not answer."""
    _need("Redis", REDIS, _remove_queue)


def _need(name: str, url: str, check: Callable[[str], None]) -> None:
    """Skip the test, or fail where services are insisted on, when one does not answer."""
    try:
        check(url)
    except Exception as error:
        miss(f"{name} does not answer at {url.rpartition('@')[2]}: {error}".strip())


def _check_postgres(url: str) -> None:
    psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()


def _remove_queue(url: str) -> None:
    """Remove the hints' queue: what another run left there is nothing to this one."""
    with Connection(url, connect_timeout=CONNECT_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
        # Neither missing nor used by another service is an error: hints are shared without harm.
        with suppress(*connection.channel_errors), connection.channel() as channel:
            Queue(QUEUE, channel=channel).delete(if_unused=True)


@contextmanager
def _temporary_database() -> Iterator[str]:
    name = f"datarun_test_{secrets.token_hex(6)}"
    _execute(f"create database {name}")
    try:
        yield f"{POSTGRES.rstrip('/')}/{name}"
    finally:
        _execute(f"drop database {name} with (force)")


def _execute(statement: str) -> None:
    with psycopg.connect(POSTGRES, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        connection.execute(statement)
