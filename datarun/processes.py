"""Keeps the parts of a service running as child processes; Linux only, and without threads.

Each part leads a session of its own. What a part leaves behind when it dies is killed with the rest
of its session before the part is started again, so that no orphan holds a port or a slot. A part
gets SIGTERM from the kernel when the supervisor dies, even by SIGKILL.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

logger = logging.getLogger(__name__)

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
WATCH_SECONDS = 0.05
# Signals that come sooner after the first are the same wish: Ctrl-C reaches a whole group.
SECOND_WISH_SECONDS = 1.0
KILLED_WITHIN_SECONDS = 5.0
PR_SET_PDEATHSIG = 1

# Loaded here, as little as possible should happen between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Part:
    """A command that has to run for as long as the service does."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class BackOff:
    """How long a part that died waits for its next try."""

    first_seconds: float = 0.2
    most_seconds: float = 5.0
    forgiven_after_seconds: float = 10.0

    def next_delay(self, *, last_delay: float, lived_seconds: float) -> float:
        """Return the delay after a life of `lived_seconds`; `last_delay` is 0 before any."""
        if not last_delay or lived_seconds >= self.forgiven_after_seconds:
            return self.first_seconds
        return min(last_delay * 2, self.most_seconds)


def supervise(
    *,
    parts: Sequence[Part],
    folder: Path,
    grace_seconds: float,
    margin_seconds: float,
    watch: Callable[[], bool] = lambda: True,
    back_off: BackOff | None = None,
) -> None:
    """Run the parts until SIGTERM, SIGINT or SIGHUP, then end them and everything they started.

    A second such signal, a second later or more, is passed on to the parts and ends the grace.

    Parameters
    ----------
    parts : sequence of Part
    folder : Path
        The working directory of the parts.
    grace_seconds : float
        How long parts let their work go on after SIGTERM.
    margin_seconds : float
        How long a part may take to its end beyond that, or after a second signal, before its
        session is killed.
    watch : callable
        Called every 50 ms until it returns True; it must not block.
    back_off : BackOff, optional

    Notes
    -----
    Call it from the main thread: signal handlers are set there, and PR_SET_PDEATHSIG acts at the
    end of the *thread* that started the child (prctl(2)).
    """
    runs = [_Run(part, folder, back_off or BackOff()) for part in parts]
    with _caught_signals() as signals:
        try:
            _keep_running(runs, signals, watch)
            _stop(runs, signals, grace_seconds, margin_seconds)
        finally:  # whatever went wrong here, no part stays behind
            for run in runs:
                run.kill()


class _Run:
    """One part: its process while it has one, and otherwise the time of its next try."""

    def __init__(self, part: Part, folder: Path, back_off: BackOff) -> None:
        self.part = part
        self.folder = folder
        self.back_off = back_off
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.delay = 0.0
        self.next_try_at = 0.0

    def keep(self) -> None:
        """Start the part when it is due; notice when it died."""
        if self.process is not None:
            self._notice_death()
        elif time.monotonic() >= self.next_try_at:
            self._start()

    def _start(self) -> None:
        self.started_at = time.monotonic()
        try:
            self.process = subprocess.Popen(
                self.part.command,
                cwd=self.folder,
                env=self.part.environment,
                stdin=subprocess.DEVNULL,
                stdout=2,  # ours is for what the service announces
                start_new_session=True,
                # Safe here: this process runs no other Python thread.
                preexec_fn=partial(die_with, os.getpid()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._schedule(f"could not start: {error}")
        else:
            logger.info("%s runs as process %d", self.part.name, self.process.pid)

    def _notice_death(self) -> None:
        status = self.collect()
        if status is not None:
            self._schedule(describe_status(status=status))

    def _schedule(self, cause: str) -> None:
        now = time.monotonic()
        self.delay = self.back_off.next_delay(
            last_delay=self.delay, lived_seconds=now - self.started_at
        )
        self.next_try_at = now + self.delay
        logger.warning("%s %s; next try in %.1f s", self.part.name, cause, self.delay)

    def collect(self) -> int | None:
        """Return the status of a process that ended, after the rest of its session did."""
        if self.process is None:
            return None
        # The dead leader is reaped last: while it is a zombie, its number names this session and
        # no other.
        if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        _kill_session(self.process.pid)
        status = self.process.wait()
        self.process = None
        return status

    def terminate(self) -> None:
        if self.process is not None:
            # Not Popen.terminate(): it would reap one that has just died, before its session.
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.process is None:
            return
        logger.warning("%s did not end in time and is killed", self.part.name)
        _kill_session(self.process.pid)
        self.process.poll()
        self.process = None


def _keep_running(runs: list[_Run], signals: int, watch: Callable[[], bool]) -> None:
    watching = True
    while True:
        for run in runs:
            run.keep()
        watching = watching and not watch()
        # Without a deadline it sleeps until a signal: a death is one too, SIGCHLD.
        deadlines = [run.next_try_at for run in runs if run.process is None]
        if watching:
            deadlines.append(time.monotonic() + WATCH_SECONDS)
        if _wait_for_signals(signals, min(deadlines, default=None)) & STOP_SIGNALS:
            return


def _stop(runs: list[_Run], signals: int, grace_seconds: float, margin_seconds: float) -> None:
    logger.info("stopping")
    stopped_at = time.monotonic()
    deadline = stopped_at + grace_seconds + margin_seconds
    for run in runs:
        run.terminate()
    while True:
        for run in runs:
            run.collect()
        if not any(run.process for run in runs) or time.monotonic() >= deadline:
            return
        is_asked_again = _wait_for_signals(signals, deadline) & STOP_SIGNALS
        now = time.monotonic()
        if is_asked_again and now - stopped_at >= SECOND_WISH_SECONDS:
            logger.info("stopping at once")
            deadline = min(deadline, now + margin_seconds)
            for run in runs:
                run.terminate()


@contextmanager
def _caught_signals() -> Iterator[int]:
    """Yield a descriptor from which the numbers of caught signals can be read.

    Not signal.sigtimedwait: a library's native threads were started before we could block anything
    in them, so the kernel could hand SIGTERM to one of those, and it would end the process.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # Who was started by nohup stays when the terminal closes.
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    numbers = (STOP_SIGNALS | {signal.SIGCHLD}) - ignored
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _wait_for_signals(descriptor: int, deadline: float | None) -> frozenset[int]:
    timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
    ready, _, _ = select.select([descriptor], [], [], timeout)
    return frozenset(os.read(descriptor, 4096)) if ready else frozenset()


def die_with(supervisor: int) -> None:
    """Ask for SIGTERM at the supervisor's end; runs in the child, between fork and exec."""
    # The handlers and the pipe are still the supervisor's: a signal that comes now would be
    # swallowed here, or reported there.
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS - {signal.SIGHUP}:
        signal.signal(number, signal.SIG_DFL)
    if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # It may have died before the request counted.
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGTERM)


def _kill_session(session: int) -> None:
    """Kill the members of a session and wait until the last is dead.

    The caller has not reaped the session's leader, so that no other session can have its number.
    """
    deadline = time.monotonic() + KILLED_WITHIN_SECONDS
    groups = {session}
    while groups and time.monotonic() < deadline:
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.005)  # no SIGCHLD tells us of the death of others' children
        groups = _list_live_groups(session)
    if groups:  # in the kernel, waiting for a dead disk for example
        logger.error("processes of session %d survive SIGKILL", session)


def _list_live_groups(session: int) -> set[int]:
    """Return the process groups of a session that have a member which is not a zombie."""
    groups = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            content = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it just ended
        # proc_pid_stat(5): the name is in parentheses and may hold anything.
        state, _, group, its_session = content.rpartition(b")")[2].split()[:4]
        if int(its_session) == session and state not in (b"Z", b"X"):
            groups.add(int(group))
    return groups


def describe_status(*, status: int) -> str:
    """Tell in words how a process ended, from its `returncode`."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"
