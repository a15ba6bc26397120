"""The processes of a run, seen from the worker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

KILL_SECONDS = 2.0
LOOK_SECONDS = 0.002


class ProcessTree:
    """Everything that a run has started.

    Parameters
    ----------
    keeper : int
        The keeper's process number; orphans of the run become its children.
    pid : int
        The run's first process.
    is_alone : bool, optional
        Whether that is the first process of a PID namespace: nothing of the run leaves it, and
        what else the keeper has is not the run's.
    """

    def __init__(self, *, keeper: int, pid: int, is_alone: bool = False) -> None:
        self.pid = pid
        self.keeper = keeper
        self._is_alone = is_alone
        # With its start, because a number alone may be another process's later.
        self._seen: dict[int, bytes] = {}
        self._remember([pid])

    def list_pids(self) -> list[int]:
        """Return the numbers of the processes there are, those not yet waited for included."""
        pids = [self.pid, *_walk(self.pid)] if self._is_alone else list(_walk(self.keeper))
        self._remember(pids)
        return pids

    def kill(self) -> None:
        """Kill what a keeper that died or hangs has left of its run.

        Notes
        -----
        The orphans of a dead keeper belong to init and are found by having been seen before: one
        that was started since the last look and has outlived its parents escapes.
        """
        deadline = time.monotonic() + KILL_SECONDS
        self.list_pids()
        while (living := self._find_living()) and time.monotonic() < deadline:
            for pid in living:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)

    def _find_living(self) -> list[int]:
        living = [pid for pid, start in self._seen.items() if _read_start(pid) == start]
        for pid in living:
            self._remember(list(_walk(pid)))
        return living

    def _remember(self, pids: list[int]) -> None:
        for pid in pids:
            if pid not in self._seen and (start := _read_start(pid)) is not None:
                self._seen[pid] = start


def _walk(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        for child in _list_children(waiting.pop()):
            yield child
            waiting.append(child)


def _list_children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        # A child stands under the thread that forked it.
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += map(int, file.read().split())
    except OSError:
        pass  # ended meanwhile
    return children


def _read_start(pid: int) -> bytes | None:
    """Return when a process was started; None when it is dead, waited for or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    # state and starttime, fields 3 and 22 of proc(5); the list starts at field 3.
    return None if fields[0] in b"ZX" else fields[19]
