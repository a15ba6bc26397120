"""What a process may still reach in the file system, without any privilege: Landlock.

The rights are taken from the calling thread and whatever it starts, for good. What was opened
before stays usable, and so do stat, chmod, chown and the times of files: a filter of system calls
and the file's owner have to see to these.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# The same on every machine.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

# landlock_create_ruleset(2), landlock_add_rule(2)
_VERSION = 1
_PATH_BENEATH = 1
_RULESET = struct.Struct("=QQQ")  # handled_access_fs, handled_access_net, scoped
_BENEATH = struct.Struct("=Qi")  # allowed_access, parent_fd; packed

# LANDLOCK_ACCESS_FS_*; what has no name here removes and makes entries of a folder.
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR = 1 << 6
_MAKE_BLOCK = 1 << 11
_FIRST = (1 << 13) - 1  # all that the first ABI had
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_RESOLVE_UNIX = 1 << 16
_SINCE = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV, 9: _RESOLVE_UNIX}

_READABLE = _EXECUTE | _READ_FILE | _READ_DIR
_UNWRITABLE = _MAKE_CHAR | _MAKE_BLOCK
_DEVICE = _READ_FILE | _WRITE_FILE
# A rule for a path that is no folder may hold only these, or is EINVAL.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV | _RESOLVE_UNIX

# LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP
_NETWORK_ABI = 4
_NETWORK = 0b11
# LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL
_SCOPE_ABI = 6
_SCOPES = 0b11

_libc = ctypes.CDLL(None, use_errno=True)


def read_abi() -> int:
    """Return the version of Landlock that the running kernel offers.

    Returns
    -------
    int
        From 1 on; 0 when the kernel has none, does not enable it or does not let us ask.

    Notes
    -----
    landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION.
    """
    version: int = _libc.syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)
    )
    return max(version, 0)


def restrict(
    *,
    readable: Sequence[str | Path],
    writable: Sequence[str | Path],
    devices: Sequence[str | Path],
) -> None:
    """Take from this thread all rights to files but those listed, and the network.

    Parameters
    ----------
    readable : sequence of str or Path
        Folders, with all below them, and files to read and execute.
    writable : sequence of str or Path
        Folders, with all below them, and files to do everything with but make device nodes.
    devices : sequence of str or Path
        Files to read and write, such as `/dev/null`.

    Raises
    ------
    OSError
        ENOENT and its like for a path that cannot be opened, ENOSYS where there is no Landlock,
        EPERM without no_new_privs, which the caller sets.

    Notes
    -----
    landlock(7) and the kernel's Documentation/userspace-api/landlock.rst. Every right to files
    that the kernel can take is taken; to bind and connect TCP sockets from ABI 4 on; abstract
    sockets of, and signals to, processes that are not restricted along from ABI 6 on. A path may
    be listed more than once, its rights add up. Call it before a second thread is started: the
    others keep their rights. Drop capabilities too: one with CAP_PERFMON still reads the
    environment of a process outside through /proc.
    """
    abi = read_abi()
    if abi == 0:
        raise OSError(errno.ENOSYS, "the kernel offers no Landlock")
    files = _list_file_rights(abi)
    allowed = (
        (readable, _READABLE),
        (writable, files & ~_UNWRITABLE),
        (devices, _DEVICE),
    )
    with _creating_ruleset(abi=abi, files=files) as ruleset:
        for paths, rights in allowed:
            for path in paths:
                _allow(ruleset, path=path, rights=rights)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0), what="restrict_self")


def _list_file_rights(abi: int) -> int:
    rights = _FIRST
    for since, right in _SINCE.items():
        if abi >= since:
            rights |= right
    return rights


@contextmanager
def _creating_ruleset(*, abi: int, files: int) -> Iterator[int]:
    # An older kernel takes the longer structure as long as what it does not know is 0.
    network = _NETWORK if abi >= _NETWORK_ABI else 0
    scopes = _SCOPES if abi >= _SCOPE_ABI else 0
    attributes = _RULESET.pack(files, network, scopes)
    size = ctypes.c_size_t(len(attributes))
    ruleset = _call(_CREATE_RULESET, attributes, size, ctypes.c_uint(0), what="create_ruleset")
    try:
        yield ruleset
    finally:
        os.close(ruleset)


def _allow(ruleset: int, *, path: str | Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _BENEATH.pack(rights, descriptor)
        kind, flags = ctypes.c_int(_PATH_BENEATH), ctypes.c_uint(0)
        _call(_ADD_RULE, ctypes.c_int(ruleset), kind, rule, flags, what=f"add_rule {path}")
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object, what: str) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock_{what}: {os.strerror(code)}")
    return result
