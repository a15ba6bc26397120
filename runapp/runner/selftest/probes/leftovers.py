"""Leaves things behind, and looks for them in the next run."""

import ctypes
import errno
import glob
import os
import signal
from functools import partial
from pathlib import Path

from .attempts import BAIT, attempt, prepare, tell_end
from .system import call, check, libc

PROMISE = "neighbours"
# What a process that outlives everything would outlive: it ends by itself.
LIFE_SECONDS = 30
_FOLDERS = (".", "..", "/", "/tmp", "/dev/shm")  # noqa: S108 (where others would look too)
_USER_KEYRING = -4
_KEYCTL_SEARCH, _KEYCTL_SET_TIMEOUT = 10, 15
_IPC_CREAT = 0o1000
_PR_SET_NAME = 15
_NOT_THERE = {errno.ENOENT, getattr(errno, "ENOKEY", 126)}


def leave_all() -> None:
    for folder in (".", "/tmp", "/dev/shm"):  # noqa: S108
        prepare(PROMISE, f"leaving a file in {folder}", partial(_leave_file, folder))
    prepare(PROMISE, "leaving shared memory", _leave_shared_memory)
    prepare(PROMISE, "leaving a key", _leave_key)
    prepare(PROMISE, "leaving a process", _leave_process)
    tell_end(PROMISE)


def find_all() -> None:
    for folder in _FOLDERS:
        attempt(PROMISE, f"a file in {folder}", partial(_find_file, folder))
    attempt(PROMISE, "shared memory", _find_shared_memory)
    attempt(PROMISE, "a key", _find_key)
    attempt(PROMISE, "a process", _find_process)
    tell_end(PROMISE)


def _leave_file(folder: str) -> None:
    Path(folder, BAIT["token"]).write_text("left")


def _find_file(folder: str) -> str:
    path = os.path.join(folder, BAIT["token"])
    return f"{path} is there" if os.path.exists(path) else ""


def _leave_shared_memory() -> None:
    check(libc.shmget(BAIT["shared_memory"], 4096, _IPC_CREAT | 0o666))


def _find_shared_memory() -> str:
    check(libc.shmget(BAIT["shared_memory"], 0, 0))
    return "the segment is there"


def _leave_key() -> None:
    # process-keyring(7): what hangs on the user's keyring stays when the process is gone.
    key = call("add_key", b"user", BAIT["token"].encode(), b"left", 4, _USER_KEYRING)
    call("keyctl", _KEYCTL_SET_TIMEOUT, key, LIFE_SECONDS)


def _find_key() -> str:
    call("keyctl", _KEYCTL_SEARCH, _USER_KEYRING, b"user", BAIT["token"].encode(), 0)
    return "the key is there"


def _leave_process() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _daemonise(writing)
    os.close(writing)
    os.waitpid(child, 0)
    started = os.read(reading, 1)
    os.close(reading)
    if not started:
        raise RuntimeError("the process did not start")


def _daemonise(writing: int) -> None:
    try:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            check(libc.prctl(_PR_SET_NAME, ctypes.c_char_p(BAIT["token"].encode()), 0, 0, 0))
            signal.alarm(LIFE_SECONDS)
            os.write(writing, b".")
            while True:
                signal.pause()
    finally:
        os._exit(0)


def _find_process() -> str:
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if file.read().strip() == BAIT["token"]:
                    return f"{path} is there"
        except OSError:
            continue
    return ""
