"""Starts a keeper inside its seal, stays as its parent and ends with it.

It is executed by a bare interpreter that has imported next to nothing. The keeper becomes the
first process of a PID namespace of its own, so that whatever ends it, or this process, ends every
process of its run as well: pid_namespaces(7).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from typing import NoReturn

from runapp.runner.sandbox import libc
from runapp.runner.sandbox.levels import Level, Seal
from runapp.runner.sandbox.mounts import RUNNER, Places
from runapp.runner.sandbox.root_filesystem import enter_root

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from runapp.runner.keeper.process import main; main(sys.argv[2:])"
)
_NAMESPACES = (
    libc.CLONE_NEWNS | libc.CLONE_NEWPID | libc.CLONE_NEWNET | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS
)
FAILED_STATUS = 71


def main(arguments: list[str]) -> NoReturn:
    """Start the keeper.

    Parameters
    ----------
    arguments : list of str
        The number of the control socket, a `Seal` and the `Places` as JSON, and the keeper's
        bootstrap code if it is to be another than the usual.
    """
    control, seal_text, places_text, *bootstrap = arguments
    seal, places = Seal.from_json(seal_text), Places.from_json(places_text)
    code = bootstrap[0] if bootstrap else _BOOTSTRAP
    try:
        if not seal.level.has_namespaces:
            _execute(places, [code, os.path.dirname(os.path.dirname(places.runner))], control, seal)
        _leave_namespaces(seal.level)
        worker = os.pidfd_open(os.getppid())
        keeper = os.fork()
        if keeper == 0:
            _become_keeper(seal, places, code, control)
    except OSError as error:
        _fail(error)
    if int(control) >= 0:
        os.close(int(control))  # or the keeper's end would outlive the keeper
    _stay(keeper, worker)


def _leave_namespaces(level: Level) -> None:
    uid, gid = os.getuid(), os.getgid()
    if level is Level.USER:
        # The first process in a new user namespace has every capability in it, and none outside.
        libc.unshare(libc.CLONE_NEWUSER | _NAMESPACES)
        # user_namespaces(7): one line that maps oneself, and no groups, is all one may write.
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    else:
        libc.unshare(_NAMESPACES)
    socket.sethostname("datarun")


def _become_keeper(seal: Seal, places: Places, code: str, control: str) -> NoReturn:
    try:
        libc.die_with_parent()
        view = enter_root(places=places, uid=seal.uid)
        root = os.path.dirname(os.path.dirname(RUNNER))
        _execute(places, [code, root], control, seal, view)
    except OSError as error:
        _fail(error)


def _execute(
    places: Places, code: list[str], control: str, seal: Seal, view: int | None = None
) -> NoReturn:
    executable = places.executable if seal.level.has_namespaces else sys.executable
    if seal.level.has_namespaces and not places.is_base_shown:
        # A shared libpython is looked for where the interpreter was installed, which is not
        # there inside; the system's own, of another version, must not take its place.
        os.environ["LD_LIBRARY_PATH"] = places.libraries
    if seal.level is Level.LANDLOCK:
        os.environ["JOBLIB_MULTIPROCESSING"] = "0"  # no process can be forked: use threads
    if view is not None:
        os.set_inheritable(view, True)
    # -s -P: neither the user's packages nor the working directory are imported.
    options = ["-sP", "-c", *code, control, seal.to_json(), str(-1 if view is None else view)]
    os.execv(executable, [executable, *options])  # noqa: S606 (no shell is wanted)


def _fail(error: OSError) -> NoReturn:
    print(f"seal: {error.strerror or error}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(FAILED_STATUS)


def _stay(keeper: int, worker: int) -> NoReturn:
    """Wait for the keeper's end, or end it with the worker."""
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # The worker decides when a keeper ends: it closes the socket.
        signal.signal(signal_number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    poll.register(os.pidfd_open(keeper), select.POLLIN)
    ready = [descriptor for descriptor, _ in poll.poll()]
    if worker in ready:
        os._exit(1)  # and the keeper is killed: it dies with its parent
    _, status = os.waitpid(keeper, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
