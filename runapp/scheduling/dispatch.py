"""The only place that puts hints on the queue.

A hint says "something waits" and nothing else. It is published after the transaction commits;
when that fails nothing is lost: every worker with idle slots rings again for what waits.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from amqp.exceptions import AMQPError
from django.db import transaction
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

TASK_NAME = "runapp.tasks.work"
HINT_SECONDS = 60
# With a dead broker every request would wait for it; after one failure the others go on at once.
PAUSE_AFTER_FAILURE_SECONDS = 5.0
# What brokers answer: kombu wraps the lost connection, not every refusal of a channel.
REFUSALS = (KombuError, AMQPError, RedisError, OSError)

_paused_until = 0.0
_held: ContextVar[str | None] = ContextVar("held", default=None)


def ring(*, task_id: str | None = None) -> str:
    """Tell the workers, once the transaction has committed, that something waits.

    Returns
    -------
    str
        The task id of the hint, also when it cannot be published.
    """
    task_id = task_id or str(uuid.uuid4())
    if (held := _held.get()) is not None:
        return held

    def publish_hint() -> None:
        publish(task_id=task_id)

    # A function with a name: Django's log line of a failed hook asks for it.
    transaction.on_commit(publish_hint, robust=True)
    return task_id


@contextmanager
def holding_hints() -> Iterator[str]:
    """Ring for nothing until the end of many posts, who then call `burst`; yield the task's id."""
    task_id = str(uuid.uuid4())
    token = _held.set(task_id)
    try:
        yield task_id
    finally:
        _held.reset(token)


def burst(*, task_id: str, count: int) -> None:
    """Put some hints on the queue now, the first of them under this id."""
    for number in range(count):
        if not publish(task_id=task_id if number == 0 else None):
            return


def publish(*, task_id: str | None = None) -> bool:
    """Put one hint on the queue now; False when the broker does not take it."""
    global _paused_until
    from datarun.celery import app

    if time.monotonic() < _paused_until:
        return False
    try:
        # Told to the worker (expires) and to a broker that can drop old messages (expiration).
        app.send_task(
            TASK_NAME,
            task_id=task_id,
            expires=HINT_SECONDS,
            expiration=HINT_SECONDS,
            retry=False,
        )
    except REFUSALS as error:
        _paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
        logger.warning("no hint published, the workers will ring again: %s", error)
        return False
    return True
