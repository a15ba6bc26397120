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
from typing import Any, BinaryIO

from runapp.runner.contract import MAX_REQUEST_BYTES, Limits
from runapp.runner.metering.cgroup import Group
from runapp.runner.metering.cgroups import Cgroups
from runapp.runner.sandbox.levels import Seal
from runapp.runner.sandbox.mounts import Places

START_SECONDS = 60.0
# Together with the time to end a keeper that does not answer, shorter than a fold's lease.
FORK_SECONDS = 10.0
STOP_SECONDS = 6.0
# Which code the numerical libraries choose for the processor, and so the last bits of a fold: an
# operator of unlike machines sets them for all alike.
_KERNEL_CHOICES = (
    "MKL_CBWR",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
# After so many runs, or when its own memory has grown by so much, a keeper is replaced.
MOST_RUNS = 5000
MOST_GROWTH_BYTES = 64 * 2**20
_MOST_DEAD_SPARES = 3
# What a child may touch before participant code runs; the limit is set anew when it does.
_SETUP_BYTES = 64 * 2**20

_PROJECT = str(Path(__file__).resolve().parents[3])
# -I -S: nothing but the standard library, which is all that a launcher needs.
_LAUNCHER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from runapp.runner.keeper.launch import main; main(sys.argv[2:])"
)
# What the keeper itself executes; tests give it another.
_BOOTSTRAP: str | None = None


class KeeperFailed(Exception):
    """The keeper died, hung or answered nonsense: our fault, never the submission's."""


@dataclass(frozen=True)
class Child:
    """A run's first process; `pidfd` names it for good, `pid` only while it lives.

    `number` is the run's; `pid` is its number where the worker is, inside it is another. `group`
    holds it and all that it starts.
    """

    number: int
    pid: int
    pidfd: int
    channel: socket.socket
    group: Group


@dataclass(frozen=True)
class Exited:
    """The end of a run: its tree is dead and waited for.

    `status` is an exit status or, when negative, the signal that ended the first process;
    `cpu_seconds` is user plus system of everything reaped.
    """

    status: int
    cpu_seconds: float


class KeeperProcess:
    """One warm process, its launcher included.

    Parameters
    ----------
    seal : Seal
        How the keeper and its children are sealed.
    places : Places
        Where the host keeps what they need.
    cgroups : Cgroups
        Where a group is made for every run.

    Raises
    ------
    KeeperFailed
        From the start on, when the keeper cannot do its part; it is of no use after that but to
        be closed.
    """

    def __init__(self, *, seal: Seal, places: Places, cgroups: Cgroups) -> None:
        self.seal = seal
        self._cgroups = cgroups
        self._inputs = places.inputs if seal.level.has_namespaces else None
        self._n_runs = 0
        self._fresh_bytes = 0
        self._n_asked = 0
        # Of every child that is asked for, waits, runs or is dying; what is dead, and what nobody
        # looks at any more.
        self._groups: dict[int, Group] = {}
        self._dead: set[int] = set()
        self._released: set[int] = set()
        self._is_asked = False
        self._spare: Child | None = None
        self._is_ready = False
        self.pid = 0
        self._view: int | None = None
        try:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise KeeperFailed(f"no keeper could be started: {error.strerror}") from error
        with theirs:
            try:
                self._process = start_launcher(
                    control=theirs, seal=seal, places=places, bootstrap=_BOOTSTRAP
                )
            except OSError as error:
                self._socket.close()
                raise KeeperFailed(f"no keeper could be started: {error.strerror}") from error
        self._start_by = time.monotonic() + START_SECONDS

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
            match self._receive():
                case {"event": "ready"}, [pidfd, *views]:
                    self._view = views[0] if views else None
                    try:
                        self.pid = _read_pid(pidfd)
                    finally:
                        os.close(pidfd)
                case _, received:
                    _close_all(received)
                    raise KeeperFailed("the keeper did not start as it should")
            self._is_ready = True
            self._fresh_bytes = self._read_own_bytes()
            self.prepare()
        if not self._is_ready and time.monotonic() > self._start_by:
            raise KeeperFailed(f"the keeper was not ready within {START_SECONDS:g} s")
        return self._is_ready

    def prepare(self) -> None:
        """Ask for the child of the next run, unless one waits; it will be in a group of its own.

        Nothing is waited for: the keeper makes it as soon as it may.
        """
        if self._is_asked:
            return
        try:
            group = self._cgroups.make_group()
            try:
                self._ask_for_child(group)
            except OSError:
                group.remove()  # the request did not leave, so nobody is in it or will join it
                raise
        except OSError as error:
            raise KeeperFailed(f"no child could be asked for: {error.strerror}") from error

    def _ask_for_child(self, group: Group) -> None:
        number = self._n_asked + 1
        descriptors = group.open_procs()
        try:
            _send(self._socket, {"event": "prepare", "number": number}, descriptors)
        finally:
            _close_all(descriptors)
        self._n_asked, self._is_asked = number, True
        self._groups[number] = group

    def start(
        self, *, action: str, scratch: str, descriptors: Mapping[str, int], limits: Limits
    ) -> Child:
        """Give a run to the child that waits, with the named descriptors; call it when ready.

        The child is the caller's to release.
        """
        request = {"action": action, "scratch": scratch, "descriptors": list(descriptors)}
        for _ in range(_MOST_DEAD_SPARES):
            child = self._take_spare()
            try:
                child.group.limit_memory(limits.memory_bytes + _SETUP_BYTES)
                child.group.limit_processes(limits.processes)
                _send(child.channel, request, list(descriptors.values()))
            except OSError:
                self.release(child)  # killed by somebody while it waited; another will do
                continue
            self._n_runs += 1
            return child
        raise KeeperFailed("every child that the keeper prepared died while it waited")

    def _take_spare(self) -> Child:
        self.prepare()
        deadline = time.monotonic() + FORK_SECONDS
        while self._spare is None:
            if not self._is_readable(deadline - time.monotonic()):
                raise KeeperFailed(f"the keeper did not fork within {FORK_SECONDS:g} s")
            self._take_event()
        spare, self._spare = self._spare, None
        self._is_asked = False
        return spare

    def open_input(self, file: BinaryIO) -> int:
        """Return a descriptor of a file for a run, by which it can be read and nothing else.

        Raises
        ------
        KeeperFailed
            When the file does not lie where inputs do.
        """
        if self._view is None or self._inputs is None:
            return os.dup(file.fileno())
        path = os.path.relpath(os.path.realpath(file.name), self._inputs)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, dir_fd=self._view)
        except OSError as error:
            raise KeeperFailed(f"an input cannot be opened: {error.strerror}") from error

    def is_worn(self) -> bool:
        """Tell whether another keeper should take over, to be on the safe side."""
        grown = self._read_own_bytes() - self._fresh_bytes
        return self._n_runs >= MOST_RUNS or grown > MOST_GROWTH_BYTES

    def serve_on(self) -> None:
        """Count wear from here on: there was none to take over."""
        self._n_runs, self._fresh_bytes = 0, self._read_own_bytes()

    def _read_own_bytes(self) -> int:
        try:
            with open(f"/proc/{self.pid}/status", "rb") as file:
                sizes = [line for line in file if line.startswith(b"RssAnon:")]
        except OSError:
            return 0  # it has just died, which is found out elsewhere
        return int(sizes[0].split()[1]) * 1024 if sizes else 0

    def read_exit(self, child: Child) -> Exited | None:
        """Take what the keeper has to tell; call it when the descriptor is readable.

        Returns
        -------
        Exited or None
            The end of that child's run; None when something else was told.
        """
        return self._take_event().get(child.number)

    def _take_event(self) -> dict[int, Exited]:
        match self._receive():
            case {"event": "spare", "number": int(number)}, [pidfd, channel]:
                self._spare = self._take_child(number, pidfd, channel)
                return {}
            case {
                "event": "exited",
                "number": int(number),
                "status": int(status),
                "cpu_seconds": float(cpu_seconds),
            }, []:
                self._bury(number)
                return {number: Exited(status=status, cpu_seconds=cpu_seconds)}
            case _, received:
                _close_all(received)
        raise KeeperFailed("the keeper did not tell of a child as it should")

    def _take_child(self, number: int, pidfd: int, channel: int) -> Child:
        try:
            if self._spare is not None or number not in self._groups:
                raise KeeperFailed("the keeper told of a child that was not asked for")
            pid = _read_pid(pidfd)
            return Child(number, pid, pidfd, socket.socket(fileno=channel), self._groups[number])
        except (KeeperFailed, OSError) as error:
            _close_all([pidfd, channel])
            raise KeeperFailed(str(error)) from error

    def _bury(self, number: int) -> None:
        if number not in self._groups or number in self._dead:
            raise KeeperFailed("the keeper told of the end of a child that nobody knows")
        self._dead.add(number)
        self._drop_if_over(number)

    def release(self, child: Child) -> None:
        """Give a child back whose run is over; what is left of it is seen to when it is dead."""
        os.close(child.pidfd)
        child.channel.close()
        self._released.add(child.number)
        self._drop_if_over(child.number)

    def _drop_if_over(self, number: int) -> None:
        if number in self._dead & self._released:
            self._groups.pop(number).remove()
            self._dead.discard(number)
            self._released.discard(number)

    def close(self) -> None:
        """End the keeper: it sees its socket close, kills what it runs and leaves."""
        self._socket.close()
        if self._view is not None:
            os.close(self._view)
            self._view = None
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._spare is not None:
            self.release(self._spare)
            self._spare = None
        for number, group in list(self._groups.items()):
            group.kill()
            self._dead.add(number)
            if number == self._n_asked and self._is_asked:
                self._released.add(number)  # nobody was given it
            self._drop_if_over(number)

    def _is_readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(timeout, 0) * 1000))

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            text, descriptors, _, _ = socket.recv_fds(self._socket, MAX_REQUEST_BYTES, 2)
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


def start_launcher(
    *,
    control: socket.socket | None,
    seal: Seal,
    places: Places,
    bootstrap: str | None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Execute a launcher, which seals itself and becomes or starts what it is told to.

    Parameters
    ----------
    control : socket or None
        The keeper's end of its socket.
    seal, places : Seal, Places
        What is to be sealed how.
    bootstrap : str or None
        Python code to execute in there; None is a keeper's.
    stderr : int, optional
        As `subprocess.Popen` takes it.
    """
    number = -1 if control is None else control.fileno()
    arguments = [str(number), seal.to_json(), places.to_json()]
    return subprocess.Popen(
        [
            sys.executable,
            "-ISP",
            "-c",
            _LAUNCHER,
            _PROJECT,
            *arguments,
            *([bootstrap] if bootstrap else []),
        ],
        env=_make_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=[] if control is None else [number],
        start_new_session=True,
    )


def _send(channel: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
    text = json.dumps(message).encode()
    if descriptors:
        socket.send_fds(channel, [text], descriptors)
    else:
        channel.send(text)


def _read_pid(pidfd: int) -> int:
    """Return a process's number where we are: pidfd_open(2), /proc/pid/fdinfo."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
        for line in file:
            if line.startswith(b"Pid:"):
                return int(line.split()[1])
    raise KeeperFailed("the system does not tell a process's number")


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
        **{name: os.environ[name] for name in _KERNEL_CHOICES if name in os.environ},
    }
