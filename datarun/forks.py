"""Connections to the database that a fork must not carry into the child.

A worker may fork a new slot at any moment, while the thread that ticks in the main process talks to
the database. Django's connections belong to threads, so the child never uses that one, but

* its copy of a socket to PostgreSQL would keep the session alive, locks and all, when the parent is
  killed: it is cut off in the child;
* SQLite keeps a table of the locks that a process holds, and the child's own connections to the
  same file believe its copy. If the other thread had the write lock, it would stay locked in the
  child forever, because that thread does not exist there. So the fork waits until it is done.
  (https://sqlite.org/howtocorrupt.html, on connections and fork)
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

_in_use = threading.RLock()


@contextmanager
def holding_up_forks() -> Iterator[None]:
    """Keep this process from forking while a thread of it uses SQLite inside the block."""
    with _in_use:
        yield


def cut_off_in_children(*, database: dict[str, Any]) -> None:
    """Have every child that this process forks let go of its parent's connections.

    Parameters
    ----------
    database : dict
        Django's settings of the database.
    """
    if database["ENGINE"].endswith("postgresql"):
        ports = frozenset(str(database["PORT"] or 5432).split(","))
        os.register_at_fork(after_in_child=partial(_cut_off, ports))
    else:
        # The thread that forks is the one there is in the child, under the same number.
        os.register_at_fork(
            before=_in_use.acquire,
            after_in_parent=_in_use.release,
            after_in_child=_in_use.release,
        )


def _cut_off(ports: frozenset[str]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        if _is_database(int(name), ports):
            # The number stays taken: nobody else gets it while libpq believes that it is its own.
            os.dup2(nothing, int(name), inheritable=False)
    os.close(nothing)


def _is_database(descriptor: int, ports: frozenset[str]) -> bool:
    """Tell by its other end whether a descriptor is a connection to the database."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        peer = copy.getpeername()
        if copy.family == socket.AF_UNIX:
            return any(str(peer).endswith(f"/.s.PGSQL.{port}") for port in ports)
        return len(peer) > 1 and str(peer[1]) in ports
    return False
