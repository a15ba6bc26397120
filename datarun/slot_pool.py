"""The pool of a worker's slots, whichever of them is killed.

Where the broker is not asynchronous, which that of files is not, Celery's slots take tasks from one
pipe under one lock. The stock lock is a semaphore: a slot that is killed while it waits for a task
takes it along, and no other slot gets a task ever again. Here the kernel gives the lock back.
"""

from __future__ import annotations

import fcntl
import os
from types import TracebackType
from typing import Any

from celery.concurrency import prefork


class ProcessLock:
    """A lock among the processes that fork from this one, freed when its holder ends.

    Notes
    -----
    A record lock of fcntl(2): unlike one of flock(2) it belongs to the process and not to the open
    file, which all of them share. Threads of one process do not exclude each other by it; a slot
    talks to its pool in one thread.
    """

    def __init__(self) -> None:
        # It is nowhere on a disk, and is gone with the last process that has it open.
        self._file = os.fdopen(os.memfd_create("lock"), "r+b")

    def acquire(self) -> bool:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up this process's share in it."""
        self._file.close()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class BlockingPool(prefork.BlockingPool):  # type: ignore[name-defined,misc]
    """Celery's pool for brokers that are not asynchronous, with locks that outlive nobody."""

    def _setup_queues(self) -> None:
        super()._setup_queues()
        queues: tuple[Any, Any] = (self._inqueue, self._outqueue)
        for queue in queues:
            queue._rlock, queue._wlock = ProcessLock(), ProcessLock()


class TaskPool(prefork.TaskPool):
    """Celery's prefork pool with the pool above."""

    BlockingPool = BlockingPool
