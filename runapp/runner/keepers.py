"""The worker's end of a keeper: start it clean, ask it for runs, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runapp.runner.contract import MAX_REQUEST_BYTES

START_SECONDS = 60.0
# Together with the time to end a keeper that does not answer, shorter than a fold's lease.
FORK_SECONDS = 10.0
STOP_SECONDS = 6.0

_PROJECT = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from runapp.runner.keeper import main; main(control_fd=int(sys.argv[2]))"
)


class KeeperFailed(Exception):
    """The keeper died, hung or answered nonsense: our fault, never the submission's."""


@dataclass(frozen=True)
class Forked:
    """A run's first process; `pidfd` names it for good, `pid` only while it lives."""

    pid: int
    pidfd: int


@dataclass(frozen=True)
class Exited:
    """The end of a run: its tree is dead and waited for.

    `status` is an exit status or, when negative, the signal that ended the first process;
    `cpu_seconds` is user plus system of everything reaped.
    """

    status: int
    cpu_seconds: float


class KeeperProcess:
    """One warm process.

    Raises
    ------
    KeeperFailed
        From the start on, when the keeper cannot do its part; it is of no use after that but to
        be closed.
    """

    def __init__(self) -> None:
        try:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise KeeperFailed(f"no keeper could be started: {error.strerror}") from error
        with theirs:
            try:
                self._process = _start(theirs)
            except OSError as error:
                self._socket.close()
                raise KeeperFailed(f"no keeper could be started: {error.strerror}") from error
        self._start_by = time.monotonic() + START_SECONDS
        self._is_ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the keeper has something to tell."""
        return self._socket.fileno()

    def is_ready(self, *, timeout: float) -> bool:
        """Wait some seconds at most for the imports to be done.

        Raises
        ------
        KeeperFailed
            When they take longer than `START_SECONDS` in all.
        """
        if not self._is_ready and self._is_readable(timeout):
            message, received = self._receive()
            _close_all(received)
            if message.get("event") != "ready":
                raise KeeperFailed("the keeper did not start as it should")
            self._is_ready = True
        if not self._is_ready and time.monotonic() > self._start_by:
            raise KeeperFailed(f"the keeper was not ready within {START_SECONDS:g} s")
        return self._is_ready

    def fork(self, *, action: str, scratch: Path, descriptors: Mapping[str, int]) -> Forked:
        """Start a run in a fresh child that gets the named descriptors; call it when ready."""
        request = {"action": action, "scratch": str(scratch), "descriptors": list(descriptors)}
        try:
            socket.send_fds(
                self._socket, [json.dumps(request).encode()], list(descriptors.values())
            )
        except OSError as error:
            raise KeeperFailed("the keeper died") from error
        if not self._is_readable(FORK_SECONDS):
            raise KeeperFailed(f"the keeper did not fork within {FORK_SECONDS:g} s")
        message, received = self._receive()
        match message, received:
            case {"event": "forked", "pid": int(pid)}, [pidfd]:
                return Forked(pid=pid, pidfd=pidfd)
        _close_all(received)
        raise KeeperFailed("the keeper did not answer a request as it should")

    def read_exit(self) -> Exited:
        """Read the end of the run; call it when the descriptor is readable."""
        message, received = self._receive()
        _close_all(received)
        match message:
            case {"event": "exited", "status": int(status), "cpu_seconds": float(cpu_seconds)}:
                return Exited(status=status, cpu_seconds=cpu_seconds)
        raise KeeperFailed("the keeper did not tell the end of a run as it should")

    def close(self) -> None:
        """End the keeper: it sees its socket close, kills what it runs and leaves."""
        self._socket.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            text, descriptors, _, _ = socket.recv_fds(self._socket, MAX_REQUEST_BYTES, 1)
        except OSError as error:
            raise KeeperFailed("the keeper died") from error
        if not text:
            raise KeeperFailed("the keeper died")
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        return message if isinstance(message, dict) else {}, descriptors


def _start(theirs: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -s -P: neither the user's packages nor the working directory are imported.
        [sys.executable, "-sP", "-c", _BOOTSTRAP, _PROJECT, str(theirs.fileno())],
        env=_make_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _make_environment() -> dict[str, str]:
    """Return all that a keeper, and so a submission, gets to see of the environment.

    The numerical libraries read their thread counts when they are loaded; one thread a fold, and
    passive waiting, keeps the slots of a machine from fighting over its processors. A fixed hash
    seed makes the order of sets, and so a fold's bits, the same at every run.
    """
    threads = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        **{f"{library}_NUM_THREADS": "1" for library in threads},
    }
