"""The warm process: imports the scientific stack once and forks a fresh child per run.

It runs nothing in parallel: a parent that has run one parallel region leaves OpenMP in a state
that crashes or hangs its forked children. It holds no dataset and no secret. It is started by exec
with a clean environment (`handle.py`, `launch.py`) and speaks over one sequenced-packet socket:
asked for a child it answers `spare`, with the descriptors by which the worker gives the child its
run and watches it, and at the child's end `exited`.

The worker asks ahead of time: the fork of so many pages and the child's own namespaces and mounts
take milliseconds, which pass while the run before it goes on.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from runapp.runner.child import child
from runapp.runner.contract import MAX_DESCRIPTORS, MAX_REQUEST_BYTES
from runapp.runner.keeper.warm_up import rehearse
from runapp.runner.sandbox import enter as sandbox
from runapp.runner.sandbox import libc
from runapp.runner.sandbox.levels import Seal
from runapp.runner.sandbox.mounts import FOLD, RUNNER

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


class Keeper:
    """Forks children when it is asked to, and tells of their end.

    Parameters
    ----------
    control : socket
        The worker at its other end.
    seal : Seal
        How the children are sealed.
    """

    def __init__(self, *, control: socket.socket, seal: Seal) -> None:
        self._control = control
        self._seal = seal
        # The namespace that this process is in: after each fork it goes back to forking into it.
        self._namespace = _open_pid_namespace() if seal.level.has_namespaces else None
        # The run's number and the process's, by the descriptor that names the process.
        self._children: dict[int, tuple[int, int]] = {}

    def serve(self) -> NoReturn:
        """Fork and wait until the other end of the control socket closes."""
        while True:
            for descriptor in self._wait():
                if descriptor in self._children:
                    self._bury(descriptor)
                else:
                    self._obey()

    def _wait(self) -> list[int]:
        poll = select.poll()
        # Where a run cannot be told from its neighbour, a child is forked when the last has gone.
        # The end of the socket is seen in any case.
        listens = not self._children or self._seal.may_overlap
        poll.register(self._control, select.POLLIN if listens else 0)
        for descriptor in self._children:
            poll.register(descriptor, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll()]

    def _obey(self) -> None:
        message, groups = _receive(self._control)
        if not message:
            self._leave()
        number = json.loads(message)["number"]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = self._fork(theirs, groups)
        pidfd = os.pidfd_open(pid)
        theirs.close()
        for descriptor in groups:
            os.close(descriptor)
        self._children[pidfd] = (number, pid)
        # The descriptor goes along: a number may be reused, the descriptor never is.
        self._tell({"event": "spare", "number": number}, [pidfd, ours.fileno()])
        ours.close()

    def _fork(self, channel: socket.socket, groups: list[int]) -> int:
        try:
            if self._namespace is not None:
                # What is forked next is the first process of a new one: pid_namespaces(7).
                libc.unshare(libc.CLONE_NEWPID)
            pid = os.fork()
        except OSError as error:
            # No memory or no process is left; the worker tries again with another keeper.
            print(f"keeper: no child could be forked: {error.strerror}", file=sys.stderr)
            os._exit(1)
        if pid == 0:
            _become_child(self._seal, channel, groups)
        if self._namespace is not None:
            libc.set_namespace(self._namespace, libc.CLONE_NEWPID)
        return pid

    def _bury(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        os.close(pidfd)
        status, cpu_seconds = _reap(self._seal, pid)
        self._tell(
            {"event": "exited", "number": number, "status": status, "cpu_seconds": cpu_seconds}
        )

    def _leave(self) -> NoReturn:
        """End what still runs, and go."""
        for _, pid in self._children.values():
            _reap(self._seal, pid)
        os._exit(0)

    def _tell(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        try:
            if descriptors:
                socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
            else:
                self._control.send(json.dumps(message).encode())
        except OSError:
            self._leave()  # without a word: the worker has gone

    def announce(self, *, view: int) -> None:
        """Say that the imports are done.

        Parameters
        ----------
        view : int
            A descriptor of the read-only view of the inputs, -1 without.
        """
        # A descriptor names this process to the worker, which may know it by another number.
        descriptors = [os.pidfd_open(os.getpid()), *([view] if view >= 0 else [])]
        self._tell({"event": "ready"}, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def main(arguments: list[str]) -> NoReturn:
    """Serve until the other end of the control socket closes.

    Parameters
    ----------
    arguments : list of str
        The number of the control socket, a `Seal` as JSON and the number of the read-only view
        of the inputs, -1 without.
    """
    control_fd, seal_text, view_fd = arguments
    seal = Seal.from_json(seal_text)
    keeper = Keeper(control=socket.socket(fileno=int(control_fd)), seal=seal)
    if not seal.level.has_namespaces:
        libc.adopt_orphans()
    _reset_signals()
    _warm_up(seal)
    keeper.announce(view=int(view_fd))
    keeper.serve()


def _open_pid_namespace() -> int:
    return os.open("/proc/self/ns/pid", os.O_RDONLY)


def _reset_signals() -> None:
    # Both outlive an exec: the worker's own may have been anything.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # The worker decides when a keeper ends: it closes the socket.
        signal.signal(signal_number, signal.SIG_IGN)


def _warm_up(seal: Seal) -> None:
    for name in WARM_MODULES:
        importlib.import_module(name)
    rehearse()
    if seal.has_seccomp and seal.level.has_namespaces:
        sandbox.make_filter(seal=seal, pid=1)
    _hide_project(seal)
    n_threads = len(os.listdir("/proc/self/task"))
    if n_threads > 1:
        raise RuntimeError(f"the keeper has {n_threads} threads, a fork keeps only one of them")
    # What is frozen is never traversed, so the children's collections do not copy its pages.
    gc.collect()
    gc.freeze()
    libc.collapse_memory()


def _hide_project(seal: Seal) -> None:
    """Make the project unknown to `import`; what is loaded of it goes on without."""
    root = str(Path(__file__).resolve().parents[3])
    sys.path[:] = [entry for entry in sys.path if entry != root]
    for name in [name for name in sys.modules if name.partition(".")[0] == "runapp"]:
        del sys.modules[name]
    if seal.level.has_namespaces:
        libc.detach(RUNNER)
        libc.detach(FOLD)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and its descriptors; no message when the other end is closed."""
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST_BYTES, MAX_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []  # closed by a worker that had not read all it was told
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return message, descriptors


def _reap(seal: Seal, pid: int) -> tuple[int, float]:
    """End a run whose first process is dead or to be killed; return its status and CPU seconds."""
    if not seal.level.has_namespaces:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        status = _reap_tree(pid)
        _remove_semaphores(pid)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return status, _sum_cpu(after) - _sum_cpu(before)
    # With it, the first of its PID namespace, ends every process there: pid_namespaces(7).
    os.kill(pid, signal.SIGKILL)
    _, raw, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(raw), _sum_cpu(usage)


def _sum_cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


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


def _become_child(seal: Seal, channel: socket.socket, groups: list[int]) -> NoReturn:
    try:
        _arrange_child(channel, keep=groups)
        sandbox.prepare(seal=seal, groups=groups)
        request, descriptors = _receive(channel)
        channel.close()
        if request:
            fields = json.loads(request)
            _run(fields, descriptors, place=child.Place(seal, fields["scratch"]))
    except BaseException:
        # Before the child's own report begins, a failure is ours; the worker logs what it printed.
        traceback.print_exc()
    finally:
        os._exit(70)


def _arrange_child(channel: socket.socket, *, keep: list[int]) -> None:
    os.setsid()
    # A worker that leaves closes the socket, so a keeper that died before this is seen too.
    libc.die_with_parent()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    close_descriptors(keep={channel.fileno(), *keep})
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_DFL)


def close_descriptors(*, keep: set[int]) -> None:
    """Close every descriptor above stderr but those to keep."""
    start = 3
    for descriptor in sorted(keep):
        if start < descriptor:
            os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _run(request: dict[str, Any], descriptors: list[int], *, place: child.Place) -> NoReturn:
    given = dict(zip(request["descriptors"], descriptors, strict=True))
    log = given.pop("log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    job, channel = given.pop("job"), given.pop("channel")
    if request["action"] == "split":
        child.run_split(job_fd=job, file_fds=given, channel_fd=channel, place=place)
    child.run_fold(job_fd=job, x_train_fd=given["x_train"], channel_fd=channel, place=place)
