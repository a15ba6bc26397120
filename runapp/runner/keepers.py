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
FORK_SECONDS = 20.0
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
        From every method, when the keeper cannot do its part; it is of no use after that.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                # -s -P: neither the user's packages nor the working directory are imported.
                [sys.executable, "-sP", "-c", _BOOTSTRAP, _PROJECT, str(theirs.fileno())],
                env=_make_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._is_ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the keeper has something to tell."""
        return self._socket.fileno()

    def wait_until_ready(self) -> None:
        """Wait for the imports, once."""
        if not self._is_ready:
            self._receive(expected="ready", timeout=START_SECONDS)
            self._is_ready = True

    def fork(self, *, action: str, scratch: Path, descriptors: Mapping[str, int]) -> Forked:
        """Start a run in a fresh child that gets the named descriptors."""
        self.wait_until_ready()
        request = {"action": action, "scratch": str(scratch), "descriptors": list(descriptors)}
        try:
            socket.send_fds(
                self._socket, [json.dumps(request).encode()], list(descriptors.values())
            )
        except OSError as error:
            raise KeeperFailed("the keeper takes no request") from error
        message, received = self._receive(expected="forked", timeout=FORK_SECONDS)
        return Forked(pid=int(message["pid"]), pidfd=received[0])

    def read_exit(self) -> Exited:
        """Read the end of the run; call it when the descriptor is readable."""
        message, _ = self._receive(expected="exited", timeout=STOP_SECONDS)
        return Exited(status=int(message["status"]), cpu_seconds=float(message["cpu_seconds"]))

    def close(self) -> None:
        """End the keeper: it sees its socket close, kills what it runs and leaves."""
        self._socket.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self, *, expected: str, timeout: float) -> tuple[dict[str, Any], list[int]]:
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise KeeperFailed(f"the keeper did not say {expected!r} within {timeout} s")
        try:
            text, descriptors, _, _ = socket.recv_fds(self._socket, MAX_REQUEST_BYTES, 2)
            message = json.loads(text)
        except (OSError, ValueError) as error:
            raise KeeperFailed("the keeper died") from error
        if message.get("event") != expected:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            raise KeeperFailed(f"the keeper said {message.get('event')!r}, not {expected!r}")
        return message, descriptors


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
