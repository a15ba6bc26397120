"""Connections to PostgreSQL that a fork must not carry into the child.

A worker may fork a new slot at any moment, while the thread that ticks in the main process talks to
the database. Django's connections belong to threads, so the child never uses that one, but its copy
of the socket would keep the session alive, locks and all, when the parent is killed.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from typing import Any


def cut_off_in_children(*, database: dict[str, Any]) -> None:
    """Have every child that this process forks let go of its parent's connections.

    Parameters
    ----------
    database : dict
        Django's settings of the database; of another than PostgreSQL nothing is cut off.
    """
    if database["ENGINE"].endswith("postgresql"):
        ports = frozenset(str(database["PORT"] or 5432).split(","))
        os.register_at_fork(after_in_child=partial(_cut_off, ports))


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
