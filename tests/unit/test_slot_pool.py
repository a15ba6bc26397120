"""Locks among a worker's slots that no killed slot takes along."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest
from celery.concurrency import get_implementation

from datarun.celery import app
from datarun.slot_pool import BlockingPool, ProcessLock, TaskPool

DEADLINE_SECONDS = 20

fork = multiprocessing.get_context("fork")


def hold(lock: ProcessLock, telling: Connection) -> None:
    """Take the lock and keep it; runs in a process of its own."""
    with lock:
        telling.send("held")
        telling.recv()


@pytest.fixture
def lock() -> Iterator[ProcessLock]:
    lock = ProcessLock()
    yield lock
    lock.close()


def test_lock_of_a_killed_process_is_free(lock: ProcessLock) -> None:
    ours, theirs = fork.Pipe()
    holder = fork.Process(target=hold, args=(lock, theirs))
    holder.start()
    assert ours.poll(DEADLINE_SECONDS)

    with ThreadPoolExecutor(max_workers=1) as pool:
        taking = pool.submit(lock.acquire)
        was_taken_before = taking.done()
        holder.kill()
        is_taken = taking.result(DEADLINE_SECONDS)
    holder.join()

    assert not was_taken_before
    assert is_taken


def test_lock_is_held_against_another_process_until_it_is_released(lock: ProcessLock) -> None:
    ours, theirs = fork.Pipe()

    with lock:
        waiting = fork.Process(target=hold, args=(lock, theirs))
        waiting.start()
        is_held_by_both = ours.poll(0.2)

    assert not is_held_by_both
    assert ours.poll(DEADLINE_SECONDS)
    ours.send("go")
    waiting.join()


def test_workers_use_the_pool_with_these_locks() -> None:
    pool = get_implementation(app.conf.worker_pool)

    assert pool is TaskPool
    assert pool.BlockingPool is BlockingPool
