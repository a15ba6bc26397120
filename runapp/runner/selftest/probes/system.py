"""System calls that Python has no function for, by their numbers; each raises OSError."""

import ctypes
import os
import platform

# asm/unistd_64.h and asm-generic/unistd.h
_NUMBERS = {
    "x86_64": {
        "add_key": 248,
        "bpf": 321,
        "clone": 56,
        "exit_group": 231,
        "io_uring_setup": 425,
        "keyctl": 250,
        "perf_event_open": 298,
        "process_vm_readv": 310,
    },
    "aarch64": {
        "add_key": 217,
        "bpf": 280,
        "clone": 220,
        "exit_group": 94,
        "io_uring_setup": 425,
        "keyctl": 219,
        "perf_event_open": 241,
        "process_vm_readv": 270,
    },
}

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def call(name: str, *arguments: object) -> int:
    """Make a system call; whole numbers are passed as longs."""
    number = _NUMBERS[platform.machine()][name]
    # Without a type ctypes passes 32 bits, and the upper half is whatever was there.
    longs = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return check(libc.syscall(ctypes.c_long(number), *longs))


def check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
