"""The warm process: imports the scientific stack once and forks a fresh child per run.

It runs nothing in parallel: a parent that has run one parallel region leaves OpenMP in a state
that crashes or hangs its forked children. It holds no dataset and no secret, and does one run at
a time. It is started by exec with a clean environment (`keepers.py`) and speaks over one
sequenced-packet socket: a request with descriptors in, `forked` and `exited` out.

The child for the next run is forked ahead and waits as a spare: a fork of so many pages takes
milliseconds, which pass while the worker records the last run and claims the next.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from runapp.runner import child, sandbox
from runapp.runner.contract import MAX_REQUEST_BYTES
from runapp.runner.rehearsal import rehearse

WARM_MODULES = (
    "joblib",
    "numpy",
    "pandas",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "scipy.sparse.linalg",
    "scipy.spatial",
    "scipy.special",
    "scipy.stats",
    "sklearn.calibration",
    "sklearn.cluster",
    "sklearn.compose",
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.feature_extraction.text",
    "sklearn.feature_selection",
    "sklearn.gaussian_process",
    "sklearn.impute",
    "sklearn.isotonic",
    "sklearn.kernel_approximation",
    "sklearn.kernel_ridge",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.mixture",
    "sklearn.model_selection",
    "sklearn.multiclass",
    "sklearn.multioutput",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.random_projection",
    "sklearn.svm",
    "sklearn.tree",
)
REAP_SECONDS = 5.0
_MAX_DESCRIPTORS = 8


@dataclass(frozen=True)
class Spare:
    """A forked child that waits for its request at the other end of the socket."""

    pid: int
    pidfd: int
    socket: socket.socket

    def close(self) -> None:
        os.close(self.pidfd)
        self.socket.close()


def main(*, control_fd: int) -> NoReturn:
    """Serve requests until the other end of the control socket closes."""
    control = socket.socket(fileno=control_fd)
    sandbox.adopt_orphans()
    _reset_signals()
    _warm_up()
    _tell(control, {"event": "ready"})
    while True:
        spare = _fork_spare()
        request, descriptors = _receive(control)
        if not request:
            os._exit(0)  # the spare dies with its parent
        _serve(control, spare, request, descriptors)


def _reset_signals() -> None:
    # Both outlive an exec: the worker's own may have been anything.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # The worker decides when a keeper ends: it closes the socket.
        signal.signal(signal_number, signal.SIG_IGN)


def _warm_up() -> None:
    for name in WARM_MODULES:
        importlib.import_module(name)
    rehearse()
    _hide_project()
    n_threads = len(os.listdir("/proc/self/task"))
    if n_threads > 1:
        raise RuntimeError(f"the keeper has {n_threads} threads, a fork keeps only one of them")
    # What is frozen is never traversed, so the children's collections do not copy its pages.
    gc.collect()
    gc.freeze()


def _hide_project() -> None:
    """Make the project unknown to `import`; what is loaded of it goes on without."""
    root = str(Path(__file__).resolve().parents[2])
    sys.path[:] = [entry for entry in sys.path if entry != root]
    for name in [name for name in sys.modules if name.partition(".")[0] == "runapp"]:
        del sys.modules[name]


def _fork_spare() -> Spare:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        # No memory or no process is left; the worker tries again with another keeper.
        print(f"keeper: no child could be forked: {error.strerror}", file=sys.stderr)
        os._exit(1)
    if pid == 0:
        _become_child(theirs, keeper=keeper)
    theirs.close()
    return Spare(pid=pid, pidfd=os.pidfd_open(pid), socket=ours)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and its descriptors; no message when the other end is closed."""
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST_BYTES, _MAX_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []  # closed by a worker that had not read all it was told
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return message, descriptors


def _serve(control: socket.socket, spare: Spare, request: bytes, descriptors: list[int]) -> None:
    spare = _hand_over(spare, request, descriptors)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with contextlib.suppress(OSError):  # the worker has gone: the wait sees it and ends the run
        # The descriptor goes along: a number may be reused, the descriptor never is.
        socket.send_fds(control, [_pack({"event": "forked", "pid": spare.pid})], [spare.pidfd])
    is_watched = _wait(control, spare.pidfd)
    status = _reap_tree(spare.pid)
    _remove_semaphores(spare.pid)
    spare.close()
    if not is_watched:
        os._exit(0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    _tell(control, {"event": "exited", "status": status, "cpu_seconds": cpu_seconds})


def _hand_over(spare: Spare, request: bytes, descriptors: list[int]) -> Spare:
    """Give the request to the spare, or to another when it has died while it waited."""
    try:
        socket.send_fds(spare.socket, [request], descriptors)
    except OSError:
        _reap_tree(spare.pid)
        spare.close()
        spare = _fork_spare()
        socket.send_fds(spare.socket, [request], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return spare


def _wait(control: socket.socket, pidfd: int) -> bool:
    """Wait for the child's end; False when the worker went away first."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    # Nothing is asked while a run is under way: what can come is the end of the socket.
    poll.register(control, select.POLLIN | select.POLLHUP)
    ready = [descriptor for descriptor, _ in poll.poll()]
    return pidfd in ready


def _reap_tree(pid: int) -> int:
    """Kill what is left of a run, orphans included, and return its first process's status.

    The keeper is the subreaper of everything below it, so whatever loses its parent becomes its
    child and is found here.
    """
    status = 0
    deadline = time.monotonic() + REAP_SECONDS
    while time.monotonic() < deadline:
        for descendant in _list_children():
            # Not yet waited for, so the number still means the same process.
            os.kill(descendant, signal.SIGKILL)
        try:
            reaped, raw = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if reaped == pid:
            status = os.waitstatus_to_exitcode(raw)
    # A tree that cannot be emptied ends with its keeper; the worker starts another.
    os._exit(1)


def _remove_semaphores(pid: int) -> None:
    """Remove what joblib's workers share: who would have done so was killed with the run."""
    with contextlib.suppress(OSError):  # not every machine has the folder
        for name in os.listdir("/dev/shm"):  # noqa: S108 (where sem_open(3) keeps them)
            if name.startswith(f"sem.loky-{pid}-"):
                os.unlink(f"/dev/shm/{name}")  # noqa: S108


def _list_children() -> list[int]:
    # proc(5), /proc/pid/task/tid/children
    me = os.getpid()
    with open(f"/proc/{me}/task/{me}/children", "rb") as file:
        return [int(number) for number in file.read().split()]


def _become_child(channel: socket.socket, *, keeper: int) -> NoReturn:
    try:
        _arrange_child(channel, keeper=keeper)
        request, descriptors = _receive(channel)
        channel.close()
        if request:
            _run(json.loads(request), descriptors)
    except BaseException:
        # Before the child's own report begins, a failure is ours; the worker logs what it printed.
        traceback.print_exc()
    finally:
        os._exit(70)


def _arrange_child(channel: socket.socket, *, keeper: int) -> None:
    os.setsid()
    sandbox.die_with_parent(parent=keeper)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sandbox.close_descriptors(keep={channel.fileno()})
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_DFL)


def _run(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    given = dict(zip(request["descriptors"], descriptors, strict=True))
    log = given.pop("log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if request["action"] == "split":
        child.run_split(
            job_fd=given["job"], channel_fd=given["channel"], scratch=request["scratch"]
        )
    child.run_fold(
        job_fd=given["job"],
        x_train_fd=given["x_train"],
        channel_fd=given["channel"],
        scratch=request["scratch"],
    )


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(_pack(message))
    except OSError:
        # The worker has gone, and nothing runs: leave without a word, and the spare with it.
        os._exit(0)


def _pack(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
