"""Comes with every hostile submission: tries something and prints what came of it."""

import ctypes
import errno
import os
import platform

import bait

libc = ctypes.CDLL(None, use_errno=True)

# Refused as such; any other error would mean that the call was let through to its arguments.
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS}

_X86_64 = {
    "add_key": 248,
    "bpf": 321,
    "clone": 56,
    "finit_module": 313,
    "fsopen": 430,
    "init_module": 175,
    "io_uring_setup": 425,
    "iopl": 172,
    "ioprio_set": 251,
    "kcmp": 312,
    "kexec_load": 246,
    "keyctl": 250,
    "modify_ldt": 154,
    "mq_open": 240,
    "open_by_handle_at": 304,
    "open_tree": 428,
    "perf_event_open": 298,
    "pidfd_getfd": 438,
    "pivot_root": 155,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "reboot": 169,
    "shmget": 29,
    "syslog": 103,
    "userfaultfd": 323,
}
_ARM64 = {
    "add_key": 217,
    "bpf": 280,
    "clone": 220,
    "finit_module": 273,
    "fsopen": 430,
    "init_module": 105,
    "io_uring_setup": 425,
    "ioprio_set": 30,
    "kcmp": 272,
    "kexec_load": 104,
    "keyctl": 219,
    "mq_open": 180,
    "open_by_handle_at": 265,
    "open_tree": 428,
    "perf_event_open": 241,
    "pidfd_getfd": 438,
    "pivot_root": 41,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "reboot": 142,
    "shmget": 194,
    "syslog": 116,
    "userfaultfd": 282,
}
_NUMBERS = _X86_64 if platform.machine() == "x86_64" else _ARM64


def attempt(what, act):
    """Tell whether something that no fold may do was refused."""
    try:
        answer = act()
    except (OSError, ValueError) as error:
        print(f"refused: {what}: {getattr(error, 'strerror', None) or error}", flush=True)
    else:
        print(f"done: {what}: {answer}", flush=True)


def attempt_call(what, act):
    """Tell whether a system call was refused as such, whatever it was called with."""
    try:
        answer = act()
    except OSError as error:
        word = "refused" if error.errno in REFUSALS else "let through"
        print(f"{word}: {what}: {error.strerror}", flush=True)
    else:
        print(f"done: {what}: {answer}", flush=True)


def call(name, *arguments):
    """Make a system call by its number; what a machine does not have, it refuses."""
    if name not in _NUMBERS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    numbers = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return check(libc.syscall(ctypes.c_long(_NUMBERS[name]), *numbers))


def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def name_process():
    """Give this process the name that the tests look for on the host: PR_SET_NAME."""
    check(libc.prctl(15, bait.MARK.encode(), 0, 0, 0))


def fork(act):
    """Run something in a process of its own, wait for it and return its status."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]
