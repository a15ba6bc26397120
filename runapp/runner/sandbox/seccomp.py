"""The system calls that participant code may make: an allow-list for the kernel's seccomp filter.

A call that is not on the list answers an errno and never kills, so that a library which only
probes for a feature goes on without it: EPERM for a call that is refused, ENOSYS for one that
this module does not know, as an older kernel would say.

A filter sees numbers, not what a pointer points at: paths, addresses and structures are left to
the mounts, the namespaces and Landlock.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from runapp.runner.sandbox.syscalls import ARM64, X86_64

_MACHINE = platform.machine()

# The AUDIT_ARCH_* of linux/audit.h and the numbers. Both machines are little-endian.
_MACHINES = {
    "x86_64": (0xC000_003E, X86_64),
    "aarch64": (0xC000_00B7, ARM64),
    "arm64": (0xC000_00B7, ARM64),
}


def _list_names(*groups: str) -> list[str]:
    return " ".join(groups).split()


# What changes a file without opening it, and so is out of Landlock's sight.
_ATTRIBUTES = _list_names(
    "chmod chown fchmod fchmodat fchmodat2 fchown fchownat futimesat lchown utime utimensat utimes"
)

# Calls that are harmless whatever their arguments are.
_ALLOWED = _list_names(
    # Files. Extended attributes may be read, but not written.
    """
    access chdir close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fallocate fchdir fdatasync fgetxattr file_getattr flistxattr fstat fstatfs fsync
    ftruncate getcwd getdents getdents64 getxattr getxattrat lgetxattr link linkat listxattr
    listxattrat llistxattr lseek lstat mkdir mkdirat newfstatat open openat openat2 pipe pipe2
    pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    rename renameat renameat2 rmdir sendfile splice stat statfs statx symlink symlinkat
    sync_file_range tee truncate umask unlink unlinkat vmsplice write writev
    """,
    # Memory.
    """
    brk get_mempolicy madvise map_shadow_stack mbind mincore mlock mlock2 mlockall mmap mprotect
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect set_mempolicy
    set_mempolicy_home_node
    """,
    # Processes, threads and what they know of themselves.
    """
    arch_prctl capget execve execveat exit exit_group getcpu getegid geteuid getgid getgroups
    getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid
    gettid getuid ioprio_get pidfd_open restart_syscall rseq sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_yield set_robust_list set_tid_address setpgid
    setrlimit setsid sysinfo times uname wait4 waitid
    """,
    # Waiting, clocks and signals received.
    """
    alarm clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl
    epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue futex_wait
    futex_waitv futex_wake getitimer getrandom gettimeofday membarrier nanosleep pause poll ppoll
    pselect6 rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait
    select setitimer sigaltstack signalfd signalfd4 time timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
    """,
    # Sockets that there are.
    """
    getpeername getsockname getsockopt recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto
    setsockopt shutdown
    """,
    # Restricting oneself further.
    """
    landlock_add_rule landlock_create_ruleset landlock_restrict_self
    """,
)

# What a library tries first and does without when the kernel is too old. The flags of clone3 lie
# behind a pointer, where no filter sees them; the C library then falls back to clone.
_UNKNOWN = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")

# clone(2). CLONE_PARENT would make a sibling, which is out of the run's tree of processes.
_CLONE_PARENT = 0x0000_8000
_CLONE_THREAD = 0x0001_0000
_CLONE_NEW = 0x7E02_0000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET

# fcntl(2): all but locks, leases, notices, hints for the inode, and who gets the signals of a
# descriptor; these reach another fold through a shared file, or another process.
# DUPFD, GETFD, SETFD, GETFL, SETFL, GETLK, GETOWN, GETSIG, GETOWN_EX, OFD_GETLK, GETLEASE,
# DUPFD_QUERY, CREATED_QUERY, DUPFD_CLOEXEC, SETPIPE_SZ, GETPIPE_SZ, ADD_SEALS, GET_SEALS
_FCNTL = (0, 1, 2, 3, 4, 5, 9, 11, 16, 36, 1025, 1027, 1028, 1030, 1031, 1032, 1033, 1034)

# ioctl(2) has no list of what is harmless, so these are those that are not: typing into a
# terminal or its selection (TIOCSTI, TIOCLINUX), line disciplines (TIOCSETD), whom a descriptor's
# signals go to (FIOSETOWN, SIOCSPGRP), and marks on files (FS_IOC_SETFLAGS and its 32-bit form,
# FS_IOC_SETVERSION and its 32-bit form, FS_IOC_FSSETXATTR).
_IOCTL = (
    *(0x5412, 0x541C, 0x5423, 0x8901, 0x8902),
    *(0x4008_6602, 0x4004_6602, 0x4008_7602, 0x4004_7602, 0x401C_5820),
)

# prctl(2): PR_SET_SECCOMP, PR_SET_MM, PR_SCHED_CORE, PR_SET_PTRACER.
_PRCTL = (22, 35, 62, 0x5961_6D61)
_PR_SET_PDEATHSIG = 1

# socket(2)
_AF_UNIX = 1
_SOCK_TYPE = 0xF
_SOCK_STREAM = 1
_SOCK_SEQPACKET = 5

# mknod(2)
_S_IFMT = 0o170_000
_S_IFCHR = 0o020_000
_S_IFBLK = 0o060_000

# ioprio_set(2); PRIO_PROCESS of setpriority(2) is 0.
_IOPRIO_WHO_PROCESS = 1

# personality(2): the query, which changes nothing.
_QUERY = 0xFFFF_FFFF

# seccomp(2)
_SET_MODE_FILTER = 1
_FLAG_TSYNC = 1
_RET_ALLOW = 0x7FFF_0000
_RET_ERRNO = 0x0005_0000

# The few instructions of linux/bpf_common.h that are needed, on 32-bit words.
_LOAD = 0x20  # from struct seccomp_data: nr at 0, arch at 4, args of 8 bytes from 16
_AND = 0x54
_JUMP_EQUAL = 0x15
_JUMP_GREATER = 0x25
_RETURN = 0x06
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jt, jf, k

_libc = ctypes.CDLL(None, use_errno=True)


class UnsupportedMachine(ValueError):
    """There is no table of system calls for this kind of machine."""


@dataclass(frozen=True)
class Policy:
    """What differs from one kind of isolation to another.

    Parameters
    ----------
    may_fork : bool
        Whether processes may be started; threads always may. Without an own pid namespace or a
        cgroup a fork bomb cannot be contained.
    may_use_unix_sockets : bool
        Whether sockets of AF_UNIX may be made, bound and connected. Pairs of connected ones may
        be made in any case.
    may_use_memfd : bool
        Whether memory files may be made: without a cgroup no limit counts them.
    may_change_attributes : bool
        Whether owner, mode and times of files may be changed: where the files of others are in
        reach, only their owner's rights keep them.
    signals_only_to : int or None
        The only process that signals may be sent to; None when there is an own pid namespace,
        where nobody else can be reached.
    """

    may_fork: bool
    may_use_unix_sockets: bool
    may_use_memfd: bool
    signals_only_to: int | None
    may_change_attributes: bool = True


@dataclass(frozen=True)
class _Test:
    """Whether the masked low half of an argument is one of the values, or is none of them.

    The low half is what the kernel looks at: everything tested here is an int, an unsigned int
    or shorter, and clone(2) drops the upper half of its flags.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    expected: bool = True


# A call is allowed when its tests pass, so with no tests always.
_Rules = dict[str, tuple[_Test, ...]]


def make_program(policy: Policy, *, machine: str = _MACHINE) -> bytes:
    """Assemble the filter of a policy.

    Parameters
    ----------
    policy : Policy
        What is allowed beyond the list that holds for all.
    machine : str
        The kind of machine as uname(2) names it: x86_64, aarch64 or arm64.

    Returns
    -------
    bytes
        An array of `struct sock_filter`, classic BPF.

    Raises
    ------
    UnsupportedMachine
        For any other kind of machine.

    Notes
    -----
    seccomp(2) and the kernel's Documentation/userspace-api/seccomp_filter.rst. The numbers are
    cut into ranges of equal verdict, in rising order: two instructions a range. The kernel works
    out by itself which calls are allowed whatever their arguments are and runs no filter for
    them (Linux 5.11), so that the length costs nothing there.
    """
    arch, numbers = _find_machine(machine)
    unknown = _answer(errno.ENOSYS)
    program = [_load(4), _jump(_JUMP_EQUAL, arch, then=1), unknown, _load(0)]
    for last, block in _cut_ranges(_decide(policy, numbers)):
        program += [_jump(_JUMP_GREATER, last, then=_count(block)), block]
    # Numbers above the table get here, those of x32 too: they have bit 30 set.
    program.append(unknown)
    return b"".join(program)


def install(program: bytes) -> None:
    """Put all threads of this process, and what they start, under a filter for good.

    Parameters
    ----------
    program : bytes
        What `make_program` returned for this machine. The caller has set no_new_privs.

    Raises
    ------
    OSError
        EACCES without no_new_privs, EINVAL for a program that the kernel does not take, ESRCH
        when a thread has a filter of its own already.
    UnsupportedMachine
        When there is no table for this kind of machine.

    Notes
    -----
    seccomp(2). Without SECCOMP_FILTER_FLAG_TSYNC, threads that there are would stay free.
    """
    _, numbers = _find_machine(_MACHINE)
    filters = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    header = struct.pack("@HP", _count(program), ctypes.addressof(filters))
    call = ctypes.c_long(numbers["seccomp"])
    result = _libc.syscall(call, _SET_MODE_FILTER, _FLAG_TSYNC, header)
    if result != 0:
        # Above 0 it is the thread that could not be brought under the filter.
        number = ctypes.get_errno() if result < 0 else errno.ESRCH
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _find_machine(machine: str) -> tuple[int, dict[str, int]]:
    if machine not in _MACHINES:
        known = ", ".join(_MACHINES)
        raise UnsupportedMachine(f"no system call filter for {machine}; there is one for {known}")
    return _MACHINES[machine]


def _list_rules(policy: Policy) -> _Rules:
    rules: _Rules = dict.fromkeys(_ALLOWED, ())
    rules |= _list_file_rules() | _list_socket_rules(policy) | _list_process_rules(policy)
    rules |= _list_signal_rules(policy)
    if policy.may_use_memfd:
        rules["memfd_create"] = ()
    if policy.may_change_attributes:
        rules |= dict.fromkeys(_ATTRIBUTES, ())
    return rules


def _list_file_rules() -> _Rules:
    devices = (_S_IFCHR, _S_IFBLK)
    return {
        "fcntl": (_Test(1, _FCNTL),),
        "ioctl": (_Test(1, _IOCTL, expected=False),),
        "mknod": (_Test(1, devices, mask=_S_IFMT, expected=False),),
        "mknodat": (_Test(2, devices, mask=_S_IFMT, expected=False),),
    }


def _list_socket_rules(policy: Policy) -> _Rules:
    unix = _Test(0, (_AF_UNIX,))
    if policy.may_use_unix_sockets:
        free = dict.fromkeys(("accept", "accept4", "bind", "connect", "listen"), ())
        return {"socket": (unix,), "socketpair": (unix,), **free}
    # A datagram socket reaches any address although it is one of a pair.
    paired = _Test(1, (_SOCK_STREAM, _SOCK_SEQPACKET), mask=_SOCK_TYPE)
    return {"socketpair": (unix, paired)}


def _list_process_rules(policy: Policy) -> _Rules:
    # A priority, a limit or a memory node is for the caller: 0 is itself.
    self_only = (_Test(0, (0,)),)
    limited = ("migrate_pages", "move_pages", "prlimit64")
    scheduled = ("sched_setattr", "sched_setparam", "sched_setscheduler")
    # Others than the caller are there only where it has no PID namespace of its own.
    pids = () if policy.signals_only_to is None else (0, policy.signals_only_to)
    return {
        **dict.fromkeys((*limited, *scheduled), self_only),
        "sched_setaffinity": (_Test(0, pids),) if pids else (),
        "setpriority": (_Test(0, (0,)), _Test(1, (0,))),
        "ioprio_set": (_Test(0, (_IOPRIO_WHO_PROCESS,)), _Test(1, (0,))),
        "personality": (_Test(0, (_QUERY,)),),
        **_list_fork_rules(policy),
    }


def _list_fork_rules(policy: Policy) -> _Rules:
    never = _CLONE_NEW | _CLONE_PARENT
    if policy.may_fork:
        clone = _Test(0, (0,), mask=never)
        prctl = _Test(0, _PRCTL, expected=False)
        return {"clone": (clone,), "prctl": (prctl,), "fork": (), "vfork": ()}
    # The only process there is must not outlive its parent; a forked one could anyway, as the
    # death signal is not inherited.
    prctl = _Test(0, (*_PRCTL, _PR_SET_PDEATHSIG), expected=False)
    return {
        "clone": (_Test(0, (_CLONE_THREAD,), mask=never | _CLONE_THREAD),),
        "prctl": (prctl,),
    }


def _list_signal_rules(policy: Policy) -> _Rules:
    names = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
    if policy.signals_only_to is None:
        return dict.fromkeys((*names, "tkill", "pidfd_send_signal"), ())
    # tkill names only a thread, which may be any process's.
    return dict.fromkeys(names, (_Test(0, (policy.signals_only_to,)),))


def _decide(policy: Policy, numbers: dict[str, int]) -> list[bytes]:
    blocks = [_answer(errno.ENOSYS)] * (max(numbers.values()) + 1)
    rules = _list_rules(policy)
    for name, number in numbers.items():
        if name in rules:
            blocks[number] = _assemble(rules[name])
        elif name not in _UNKNOWN:
            blocks[number] = _answer(errno.EPERM)
    return blocks


def _cut_ranges(blocks: list[bytes]) -> Iterator[tuple[int, bytes]]:
    last = -1
    for block, equal in groupby(blocks):
        last += len(list(equal))
        yield last, block


def _assemble(tests: tuple[_Test, ...]) -> bytes:
    return b"".join(map(_assemble_test, tests)) + _instruct(_RETURN, _RET_ALLOW)


def _assemble_test(test: _Test) -> bytes:
    # Ends with the refusal, which a passed test jumps over.
    count = len(test.values)
    code = [_load(16 + 8 * test.argument), _instruct(_AND, test.mask)]
    for after, value in zip(range(count - 1, -1, -1), test.values, strict=True):
        if test.expected:
            code.append(_jump(_JUMP_EQUAL, value, then=after + 1))
        else:
            code.append(_jump(_JUMP_EQUAL, value, then=after, otherwise=0 if after else 1))
    return b"".join([*code, _answer(errno.EPERM)])


def _load(offset: int) -> bytes:
    return _instruct(_LOAD, offset)


def _answer(number: int) -> bytes:
    return _instruct(_RETURN, _RET_ERRNO | number)


def _jump(code: int, value: int, *, then: int, otherwise: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, then, otherwise, value)


def _instruct(code: int, value: int) -> bytes:
    return _INSTRUCTION.pack(code, 0, 0, value)


def _count(program: bytes) -> int:
    return len(program) // _INSTRUCTION.size
