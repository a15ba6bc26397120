"""The system calls of the sandbox that Python does not have; each raises OSError.

Numbers and flags are those of the kernel's own headers, which never change. Nothing here decides
anything: `root_filesystem.py`, `enter.py` and `keeper/launch.py` say which call is made when,
and why.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal

# clone(2), unshare(2), setns(2)
CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21

# umount2(2)
MNT_DETACH = 2

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# capget(2): version 3 takes two blocks of 32 capabilities.
_CAPABILITY_VERSION = 0x2008_0522
_MOST_CAPABILITIES = 64

# madvise(2); the size is that of both machines with pages of 4 kB.
_MADV_COLLAPSE = 25
_HUGE_PAGE = 2 * 2**20

# pivot_root(2) has no wrapper in the C library.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "arm64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones: unshare(2); for CLONE_NEWPID only what is forked moves."""
    _check(_libc.unshare(flags), "unshare")


def set_namespace(descriptor: int, kind: int) -> None:
    """Enter the namespace that the descriptor names: setns(2)."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(
    source: str, target: str, *, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """Mount a file system, or change a mount: mount(2)."""
    _check(
        _libc.mount(
            source.encode(),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() or None,
        ),
        f"mount {target}",
    )


def detach(target: str) -> None:
    """Take a mount out of the tree; what is open in it stays usable: umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Make a mounted folder the root and detach the old one: pivot_root(2), its NOTES."""
    os.chdir(new_root)
    number = _PIVOT_ROOT[platform.machine()]
    _check(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    detach(".")
    os.chdir("/")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, so that none escapes the kill."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stay_readable() -> None:
    """Let this process's own /proc files belong to it although it changed its user: proc(5)."""
    _prctl(_PR_SET_DUMPABLE, 1)


def forbid_new_privileges() -> None:
    """Make set-uid programs and file capabilities give nothing any more."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def collapse_memory() -> None:
    """Put this process's private memory on huge pages where it can be, which a fork copies faster.

    Notes
    -----
    madvise(2), MADV_COLLAPSE, since Linux 6.1; an older kernel changes nothing. A child that writes
    to such a page gets a copy of 4 kB of it alone.
    """
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        fields = [line.split() for line in file]
    for field in fields:
        if field[1] != "rw-p" or any("/" in word for word in field[5:]):
            continue
        start, end = (int(word, 16) for word in field[0].split("-"))
        start = -(-start // _HUGE_PAGE) * _HUGE_PAGE
        for page in range(start, end - _HUGE_PAGE + 1, _HUGE_PAGE):
            _libc.madvise(ctypes.c_void_p(page), ctypes.c_size_t(_HUGE_PAGE), _MADV_COLLAPSE)


def drop_bounding_set() -> None:
    """Give up every capability for whatever is executed from here on: capabilities(7)."""
    for capability in range(_MOST_CAPABILITIES):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            return  # above the last one that the kernel knows, or without the right to drop


def drop_capabilities() -> None:
    """Give up every capability that this thread has: capset(2)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing), "capset")


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
