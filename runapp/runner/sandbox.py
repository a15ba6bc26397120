"""What a child gives up before it runs participant code: so far, rlimits and privileges to gain.

Namespaces, an own root, an own uid, seccomp and cgroups belong here too; until they are built
the README says plainly what is not protected.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, so that none escapes the kill."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(*, parent: int) -> None:
    """Be killed when the process `parent` dies; also when it has died before the call."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def close_descriptors(*, keep: set[int]) -> None:
    """Close every descriptor above stderr but those to keep."""
    start = 3
    for descriptor in sorted(keep):
        os.closerange(start, descriptor)
        start = max(start, descriptor + 1)
    os.closerange(start, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def enter(*, memory_bytes: int) -> None:
    """Give up what a fold does not need.

    Parameters
    ----------
    memory_bytes : int
        How much private memory may be reserved on top of what is mapped now. It is the net under
        the worker's sampling: an allocation beyond it raises MemoryError in the submission.
    """
    os.umask(0o077)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = _read_data_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))


def _read_data_bytes() -> int:
    # RLIMIT_DATA counts private writable mappings, the kernel's VmData: setrlimit(2), proc(5).
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmData:"):
                return int(line.split()[1]) * 1024
    return 0
