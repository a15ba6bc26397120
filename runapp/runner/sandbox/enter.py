"""What a child gives up before it runs participant code, step by step.

`prepare` takes the steps that do not depend on the run, while the child waits as a spare. When the
run comes, `become_nobody` takes those that need a capability and drops them, and `enter` closes the
rest; the filter of system calls comes last.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from functools import lru_cache

from runapp.runner.contract import Limits
from runapp.runner.sandbox import landlock, libc, seccomp
from runapp.runner.sandbox.levels import Level, Seal
from runapp.runner.sandbox.mounts import DEVICES, FOLD, SHM, TMP, WORK

# A submission's open files: enough for joblib, too few to fill the kernel's tables.
_MOST_DESCRIPTORS = 1024
# One for every 4 kB of scratch would be a tmpfs's own default; a file costs about 1 kB of kernel
# memory, which the run's memory limit counts.
_MOST_FILES = 65_536
# Above the limit that the worker watches, as the net under it: setrlimit(2), RLIMIT_CPU.
_CPU_GRACE_SECONDS = 2
_FLAGS = libc.MS_NOSUID | libc.MS_NODEV


def prepare(*, seal: Seal, groups: Iterable[int]) -> None:
    """Take the steps that every run has in common.

    Parameters
    ----------
    seal : Seal
        How this child is to be sealed.
    groups : iterable of int
        Descriptors of the `cgroup.procs` of the run's groups; closed here.
    """
    for descriptor in groups:
        os.write(descriptor, b"0")  # the one who writes: cgroups(7)
        os.close(descriptor)
    if not seal.level.has_namespaces:
        return
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount(
        "proc",
        "/proc",
        kind="proc",
        flags=_FLAGS | libc.MS_NOEXEC | libc.MS_RDONLY,
    )
    libc.mount("fold", FOLD, kind="tmpfs", flags=_FLAGS, data=f"mode=700{_name_owner(seal)}")


def become_nobody(*, seal: Seal, limits: Limits) -> None:
    """Give up the user and the capabilities; from here on the child may only do what anyone may.

    Parameters
    ----------
    seal : Seal
        How this child is to be sealed.
    limits : Limits
        `scratch_mb` becomes the size of the run's own file system.
    """
    if seal.level is Level.PROCESS:
        return
    if seal.level.has_namespaces:
        size = f"size={int(limits.scratch_mb * 1024)}k,nr_inodes={_MOST_FILES}"
        libc.mount("fold", FOLD, flags=libc.MS_REMOUNT | _FLAGS, data=size)
    libc.drop_bounding_set()
    if seal.uid is not None:
        os.setgroups([])
        os.setresgid(seal.uid, seal.uid, seal.uid)
        os.setresuid(seal.uid, seal.uid, seal.uid)
        libc.stay_readable()
    libc.drop_capabilities()
    if seal.level.has_namespaces:
        for folder in (WORK, TMP, SHM):
            os.mkdir(folder)


def enter(*, seal: Seal, limits: Limits, memory_bytes: int, scratch: str) -> None:
    """Close the doors behind; participant code runs next.

    Parameters
    ----------
    seal : Seal
        How this child is to be sealed.
    limits : Limits
        Of the run.
    memory_bytes : int
        How much private memory may be reserved on top of what is mapped now. It is the net under
        the worker's measuring: an allocation beyond it raises MemoryError in the submission.
    scratch : str
        The one folder that may be written to where there is no root of its own.
    """
    os.umask(0o077)
    libc.forbid_new_privileges()
    _limit_resources(seal, limits, memory_bytes=memory_bytes)
    if seal.landlock_abi:
        _restrict_paths(seal, scratch=scratch)
    if seal.has_seccomp:
        seccomp.install(make_filter(seal=seal, pid=os.getpid()))


@lru_cache
def make_filter(*, seal: Seal, pid: int) -> bytes:
    """Return the filter of system calls of a child; made ahead where it is always the same.

    Parameters
    ----------
    seal : Seal
        How the child is to be sealed.
    pid : int
        The number that the child knows itself by; in a PID namespace of its own it is 1.
    """
    has_namespaces = seal.level.has_namespaces
    policy = seccomp.Policy(
        # Without a PID namespace nothing ends all that was forked, and signals reach others.
        may_fork=has_namespaces,
        may_use_unix_sockets=has_namespaces,
        may_use_memfd=seal.counts_memory,
        signals_only_to=None if has_namespaces else pid,
        # Without a root of its own the run's user owns what lies outside, its input to begin with.
        may_change_attributes=has_namespaces,
    )
    return seccomp.make_program(policy)


def _name_owner(seal: Seal) -> str:
    return "" if seal.uid is None else f",uid={seal.uid},gid={seal.uid}"


def _limit_resources(seal: Seal, limits: Limits, *, memory_bytes: int) -> None:
    cpu = int(limits.cpu_seconds) + _CPU_GRACE_SECONDS
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_DATA, _read_data_bytes() + memory_bytes),
        (resource.RLIMIT_FSIZE, int(limits.scratch_mb * 2**20)),
        (resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS),
    ):
        _lower(kind, most)
    if seal.uid is not None or seal.level is Level.USER:
        # Counts the user's processes and threads: in a user namespace since Linux 5.14 those
        # inside alone, of which the keeper is one and the next run's child may be another.
        others = 1 + seal.may_overlap if seal.level is Level.USER else 0
        # Where a cgroup counts too, it is to be met first: it tells of it.
        others += seal.counts_processes
        _lower(resource.RLIMIT_NPROC, limits.processes + others)
    if hasattr(resource, "RLIMIT_MSGQUEUE"):  # Linux only, as the seals are
        _lower(resource.RLIMIT_MSGQUEUE, 0)


def _lower(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (value, value))


def _read_data_bytes() -> int:
    # RLIMIT_DATA counts private writable mappings, the kernel's VmData: setrlimit(2), proc(5).
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def _restrict_paths(seal: Seal, *, scratch: str) -> None:
    devices = [f"/dev/{name}" for name in DEVICES]
    if seal.level.has_namespaces:
        # The second wall: the root holds nothing foreign and is read-only.
        landlock.restrict(readable=["/"], writable=[FOLD], devices=devices)
    else:
        landlock.restrict(readable=seal.readable, writable=[scratch], devices=devices)
