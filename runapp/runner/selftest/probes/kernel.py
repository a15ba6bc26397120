"""Tries what the kernel offers for building worlds of one's own and watching others'.

An error that comes of the arguments would mean that the call was made: only a refusal counts.
"""

import ctypes
import errno
import os
import threading
import time
from collections.abc import Callable

from .attempts import attempt, tell_end
from .system import call, check, libc

PROMISE = "kernel"
_REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS}
_NEWNS, _NEWUSER = 0x0002_0000, 0x1000_0000
_SIGCHLD = 17
_PTRACE_SEIZE = 0x4206
_USER_KEYRING = -4
_MNT_DETACH = 2


def try_all() -> None:
    # What changes a thread, or is ended with it, is tried in one that ends.
    thread = threading.Thread(target=_try_in_a_thread)
    thread.start()
    thread.join()
    attempt(PROMISE, "keyctl", _call("keyctl", 0, _USER_KEYRING, 1))
    attempt(PROMISE, "io_uring", _call("io_uring_setup", 1, ctypes.create_string_buffer(120)))
    attempt(PROMISE, "bpf", _call("bpf", 0, _describe_map(), 16))
    attempt(PROMISE, "perf", _call("perf_event_open", _describe_clock(), 0, -1, -1, 0))
    attempt(PROMISE, "a child in a user namespace", _clone_into_namespace)
    # The last one: where it works, nothing that comes after it means what it says.
    attempt(PROMISE, "a user namespace", _enter_namespace)
    tell_end(PROMISE)


def _try_in_a_thread() -> None:
    attempt(PROMISE, "ptrace of the parent", _trace_parent)
    attempt(PROMISE, "the parent's memory", _read_parent)
    attempt(PROMISE, "a mount namespace", _only_refused(lambda: check(libc.unshare(_NEWNS))))
    attempt(PROMISE, "a mount", _only_refused(_mount))


def _only_refused(act: Callable[[], object]) -> Callable[[], str]:
    def act_or_tell() -> str:
        try:
            return f"it was done, with {act()}"
        except OSError as error:
            if error.errno in _REFUSALS:
                raise
            return f"it was not refused but failed: {error.strerror}"

    return act_or_tell


def _call(name: str, *arguments: object) -> Callable[[], str]:
    return _only_refused(lambda: call(name, *arguments))


def _trace_parent() -> str:
    check(libc.ptrace(_PTRACE_SEIZE, os.getppid(), None, None))
    return "the parent is traced"


def _read_parent() -> str:
    # ptrace(2): it asks for the same access as tracing does, and leaves no mark.
    target = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(target), 8)
    there = (ctypes.c_size_t * 2)(id(BaseException), 8)
    call("process_vm_readv", os.getppid(), vector, 1, there, 1, 0)
    return "the memory of the parent was read"


def _mount() -> str:
    folder = os.path.abspath("mount")
    os.makedirs(folder, exist_ok=True)
    check(libc.mount(b"none", folder.encode(), b"tmpfs", ctypes.c_ulong(0), None))
    libc.umount2(folder.encode(), _MNT_DETACH)
    return "a file system"


def _describe_map() -> ctypes.Array[ctypes.c_uint32]:
    # bpf(2), BPF_MAP_CREATE: an array of one key of 4 bytes and one value of 8
    return (ctypes.c_uint32 * 4)(2, 4, 8, 1)


def _describe_clock() -> ctypes.Array[ctypes.c_uint32]:
    # perf_event_open(2): PERF_TYPE_SOFTWARE and the first version's size, 64 bytes, all else 0
    return (ctypes.c_uint32 * 16)(1, 64)


def _clone_into_namespace() -> str:
    child = call("clone", _NEWUSER | _SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        libc._exit(0)
    os.waitpid(child, 0)
    return "a process was started in a user namespace"


def _enter_namespace() -> str:
    # unshare(2): only a process of one thread may, and a joined one may still be on its way out.
    deadline = time.monotonic() + 1
    while True:
        try:
            check(libc.unshare(_NEWUSER))
            return "a user namespace was entered"
        except OSError as error:
            if error.errno != errno.EINVAL or time.monotonic() > deadline:
                raise
        time.sleep(0.001)
