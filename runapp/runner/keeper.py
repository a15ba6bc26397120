"""The warm process: imports the scientific stack once and forks a fresh child per run.

It computes nothing: a parent that has run one parallel region leaves OpenMP in a state that
crashes or hangs its forked children. It holds no dataset and no secret, and does one run at a
time. It is started by exec with a clean environment (`supervisor.py`) and speaks over one
sequenced-packet socket: a request with descriptors in, `forked` and `exited` out.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Request:
    """One run: what to do, where, and the descriptors it gets."""

    action: str
    scratch: str
    descriptors: dict[str, int]


def main(*, control_fd: int) -> NoReturn:
    """Serve requests until the other end of the control socket closes."""
    control = socket.socket(fileno=control_fd)
    sandbox.adopt_orphans()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # The worker decides when a keeper ends: it closes the socket.
        signal.signal(signal_number, signal.SIG_IGN)
    _warm_up()
    _tell(control, {"event": "ready"})
    while True:
        request = _receive(control)
        if request is None:
            os._exit(0)
        _serve(control, request)


def _warm_up() -> None:
    for name in WARM_MODULES:
        importlib.import_module(name)
    root = str(Path(__file__).resolve().parents[2])
    sys.path[:] = [entry for entry in sys.path if entry != root]
    # What is frozen is never traversed, so the children's collections do not copy its pages.
    gc.collect()
    gc.freeze()


def _receive(control: socket.socket) -> Request | None:
    message, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 8)
    if not message:
        return None
    content = json.loads(message)
    names = content["descriptors"]
    return Request(
        action=content["action"],
        scratch=content["scratch"],
        descriptors=dict(zip(names, descriptors, strict=True)),
    )


def _serve(control: socket.socket, request: Request) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_child(request, keeper=keeper)
    for descriptor in request.descriptors.values():
        os.close(descriptor)
    pidfd = os.pidfd_open(pid)
    try:
        # The descriptor goes along: a number may be reused, the descriptor never is.
        socket.send_fds(control, [_pack({"event": "forked", "pid": pid})], [pidfd])
        is_watched = _wait(control, pidfd)
        status = _reap_tree(pid)
    finally:
        os.close(pidfd)
    if not is_watched:
        os._exit(0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    _tell(control, {"event": "exited", "status": status, "cpu_seconds": cpu_seconds})


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


def _list_children() -> list[int]:
    # proc(5), /proc/pid/task/tid/children
    me = os.getpid()
    with open(f"/proc/{me}/task/{me}/children", "rb") as file:
        return [int(number) for number in file.read().split()]


def _become_child(request: Request, *, keeper: int) -> NoReturn:
    try:
        _arrange_child(request, keeper=keeper)
        given = request.descriptors
        if request.action == "split":
            child.run_split(
                job_fd=given["job"], channel_fd=given["channel"], scratch=request.scratch
            )
        child.run_fold(
            job_fd=given["job"],
            x_train_fd=given["x_train"],
            channel_fd=given["channel"],
            scratch=request.scratch,
        )
    except BaseException:
        # Before the child's own report begins, a failure is ours; the worker logs what it printed.
        traceback.print_exc()
    finally:
        os._exit(70)


def _arrange_child(request: Request, *, keeper: int) -> None:
    os.setsid()
    sandbox.die_with_parent(parent=keeper)
    given = request.descriptors
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(given["log"], 1)
    os.dup2(given["log"], 2)
    sandbox.close_descriptors(keep=set(given.values()) - {given["log"]})
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_DFL)


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(_pack(message))


def _pack(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
