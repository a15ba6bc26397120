"""The filter of system calls: for real on this machine, interpreted for both kinds of machine."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runapp.runner.sandbox import seccomp
from runapp.runner.sandbox.seccomp import Policy, UnsupportedMachine, install, make_program
from runapp.runner.sandbox.syscalls import ARM64, X86_64

MACHINES = {"x86_64": (0xC000_003E, X86_64), "aarch64": (0xC000_00B7, ARM64)}
NUMBERS = MACHINES[platform.machine()][1]
OPEN = Policy(may_fork=True, may_use_unix_sockets=True, may_use_memfd=True, signals_only_to=None)
# The number is nobody's: above PID_MAX_LIMIT of proc(5).
TIGHT = Policy(
    may_fork=False, may_use_unix_sockets=False, may_use_memfd=False, signals_only_to=2**22 + 7
)
PERM, NOSYS = errno.EPERM, errno.ENOSYS

_libc = ctypes.CDLL(None, use_errno=True)


def make_call(number: int, *arguments: int) -> int:
    """Make a system call; the errno it ends with, 0 for none."""
    result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return ctypes.get_errno() if result == -1 else 0


def forbid_new_privileges() -> None:
    assert _libc.prctl(38, 1, 0, 0, 0) == 0


def fork(policy: Policy | None, action: Callable[[], object]) -> tuple[str, int]:
    """Return what a forked child says under the policy's filter, and how it ends."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            if policy is not None:
                forbid_new_privileges()
                install(make_program(policy))
            os.write(writing, json.dumps(action()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading) as told:
        said = told.read()
    return said, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_in_child(policy: Policy | None, action: Callable[[], object]) -> Any:
    """Return what the action does in a forked child under the policy's filter."""
    said, status = fork(policy, action)
    assert status == 0
    return json.loads(said)


def run_python(policy: Policy, code: str) -> str:
    """Return what a fresh interpreter prints that is started under the policy's filter."""
    said, status = fork(policy, lambda: os.execv(sys.executable, [sys.executable, "-c", code]))
    assert status == 0
    return said.strip()


def interpret(program: bytes, *, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """Return the errno that a classic BPF program gives a call, 0 when it is allowed."""
    padded = [*arguments, *[0] * 6][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *(value % 2**64 for value in padded))
    code = list(struct.iter_unpack("<HBBI", program))
    register, position = 0, 0
    while True:
        operation, then, otherwise, value = code[position]
        position += 1
        match operation:
            case 0x20:
                assert value % 4 == 0
                (register,) = struct.unpack_from("<I", data, value)
            case 0x54:
                register &= value
            case 0x15:
                position += then if register == value else otherwise
            case 0x25:
                position += then if register > value else otherwise
            case 0x06:
                return decode(value)
            case _:
                raise AssertionError(f"an instruction that nobody needs: {operation:#x}")


def decode(verdict: int) -> int:
    if verdict == 0x7FFF_0000:
        return 0
    assert verdict >> 16 == 0x0005, "refusing must not kill"
    return verdict & 0xFFFF


def judge(machine: str, policy: Policy, name: str, *arguments: int) -> int:
    arch, numbers = MACHINES[machine]
    program = make_program(policy, machine=machine)
    return interpret(program, number=numbers[name], arch=arch, arguments=arguments)


REFUSED = """
    unshare setns mount umount2 open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
    open_tree_attr statmount listmount listns pivot_root chroot ptrace process_vm_readv
    process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd keyctl add_key request_key
    userfaultfd bpf perf_event_open init_module finit_module delete_module kexec_load
    kexec_file_load reboot swapon swapoff quotactl quotactl_fd acct clock_settime clock_adjtime
    adjtimex settimeofday sethostname setdomainname iopl ioperm modify_ldt open_by_handle_at
    name_to_handle_at fanotify_init fanotify_mark inotify_init inotify_init1 inotify_add_watch
    inotify_rm_watch shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv
    msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr setxattr
    lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    file_setattr flock setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid
    setgroups capset seccomp memfd_secret vhangup syslog uselib lookup_dcookie io_setup io_submit
    lsm_set_self_attr sync
""".split()  # noqa: SIM905
WORKING = """
    read write openat close mmap munmap mprotect brk futex futex_waitv execve execveat exit
    exit_group wait4 waitid pipe2 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2
    timerfd_create signalfd4 getrandom rseq membarrier sched_yield sched_setaffinity
    sched_getaffinity statx copy_file_range landlock_create_ruleset landlock_add_rule
    landlock_restrict_self set_robust_list rt_sigaction rt_sigprocmask rt_sigreturn
    rt_sigtimedwait pidfd_open getrusage sysinfo uname times vmsplice tee splice sendfile mbind
    set_mempolicy mlock recvmsg sendmsg getxattr listxattrat clock_gettime nanosleep
    open fork vfork poll epoll_wait arch_prctl rename readlink
""".split()  # noqa: SIM905

FLAGS = {
    "NEWNS": 0x20000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
    "PARENT": 0x8000,
}
THREAD = 0x3D0F00  # what the C library makes a thread with
FORK = 0x01200011  # and a process
SPAWN = 0x4111  # posix_spawn: VM, VFORK, SIGCHLD


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", REFUSED)
def test_verdict_is_eperm_for_a_refused_call(machine: str, name: str) -> None:
    if name in MACHINES[machine][1]:
        assert judge(machine, OPEN, name) == PERM
    else:
        assert name in X86_64


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", WORKING)
def test_verdict_is_to_allow_what_libraries_need(machine: str, name: str) -> None:
    if name in MACHINES[machine][1]:
        assert judge(machine, OPEN, name, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF) == 0
    else:
        assert name in X86_64


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("policy", [OPEN, TIGHT], ids=["open", "tight"])
def test_verdict_is_enosys_for_what_is_not_known(machine: str, policy: Policy) -> None:
    arch, numbers = MACHINES[machine]
    program = make_program(policy, machine=machine)
    last = max(numbers.values())
    unknown = {numbers["clone3"], *(n for name, n in numbers.items() if name[:8] == "io_uring")}
    unknown |= set(range(last + 1)) - set(numbers.values())

    found = {n for n in range(last + 1) if interpret(program, number=n, arch=arch) == NOSYS}

    assert found == unknown
    for number in (last + 1, 5000, 0x4000_0000, 0x4000_0000 + 59, 0x4000_0208, 2**32 - 1):
        assert interpret(program, number=number, arch=arch) == NOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_verdict_is_enosys_for_a_foreign_architecture(machine: str) -> None:
    arch, _ = MACHINES[machine]
    program = make_program(OPEN, machine=machine)
    # i386, ARM, big-endian ARM64, and each other's.
    foreign = {0x4000_0003, 0x4000_0028, 0x8000_00B7, *(a for a, _ in MACHINES.values())} - {arch}

    for other in foreign:
        assert {interpret(program, number=n, arch=other) for n in range(500)} == {NOSYS}


U64 = 1 << 32  # a bit that the kernel drops
# call, arguments, whether it is allowed whatever the policy is
BY_ARGUMENT: list[tuple[str, tuple[int, ...], bool]] = [
    *(("fcntl", (3, command), True) for command in (0, 1, 2, 3, 4, 1030, 1031, 1033)),
    # SETLK, SETLKW, SETLK64, SETLKW64, OFD_SETLK, OFD_SETLKW, SETLEASE, NOTIFY, SETSIG, SETOWN,
    # SETOWN_EX, SET_RW_HINT, SET_FILE_RW_HINT, SETDELEG, and one with a bit that is dropped
    *(("fcntl", (3, n), False) for n in (6, 7, 13, 14, 37, 38, 1024, 1026, 10, 8, 15)),
    *(("fcntl", (3, n), False) for n in (1036, 1038, 1040, 6 | U64)),
    *(("ioctl", (0, command), True) for command in (0x5401, 0x5413, 0x541B, 0x5421, 0x5451)),
    *(("ioctl", (0, n), False) for n in (0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820)),
    *(("ioctl", (0, n), False) for n in (0x5412 | U64, 0x541C | U64, 0x40086602 | U64)),
    *(("ioctl", (0, n), False) for n in (0x5423, 0x8901, 0x8902, 0x40087602, 0x40047602)),
    *(("socket", (family, 1), False) for family in (0, 2, 10, 16, 17, 38, 40, 2 | 1 << 32)),
    *(("socketpair", (1, kind), True) for kind in (1, 5, 1 | 0x80000, 5 | 0x800)),
    *(("socketpair", (family, 1), False) for family in (0, 2, 30)),
    ("personality", (0xFFFF_FFFF,), True),
    *(("personality", (n,), False) for n in (0, 0x40000, 0x0400000, 0xFFFF_FFFE)),
    *(("prctl", (option,), True) for option in (3, 4, 15, 38, 0x53564D41)),
    *(("prctl", (option,), False) for option in (22, 35, 62, 0x59616D61, 22 | U64)),
    ("prlimit64", (0, 7), True),
    *(("prlimit64", (pid, 7), False) for pid in (1, 2**32 - 1)),
    ("setpriority", (0, 0, 5), True),
    *(("setpriority", (which, who, 5), False) for which, who in ((0, 1), (1, 0), (2, 0))),
    ("ioprio_set", (1, 0), True),
    *(("ioprio_set", (which, who), False) for which, who in ((1, 1), (2, 0), (3, 0))),
    *((f"sched_set{what}", (0,), True) for what in ("attr", "param", "scheduler")),
    *((f"sched_set{what}", (1,), False) for what in ("attr", "param", "scheduler")),
    *(("mknodat", (-100, 0, mode), True) for mode in (0o10600, 0o100600, 0o600)),
    *(("mknodat", (-100, 0, mode), False) for mode in (0o20600, 0o60600, 0o20600 | U64)),
    *(("mknodat", (-100, 0, mode), False) for mode in (0x10000 | 0o20600,)),
    *(("mknod", (0, mode), mode == 0o10600) for mode in (0o10600, 0o20600, 0o60600)),
    ("clone", (THREAD,), True),
    ("clone", (THREAD | U64,), True),
    *(("clone", (THREAD | flag,), False) for flag in FLAGS.values()),
    *(("clone", (FORK | flag,), False) for flag in FLAGS.values()),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("policy", [OPEN, TIGHT], ids=["open", "tight"])
def test_verdict_by_argument(machine: str, policy: Policy) -> None:
    for name, arguments, is_allowed in BY_ARGUMENT:
        if name in MACHINES[machine][1]:
            verdict = judge(machine, policy, name, *arguments)

            assert verdict == (0 if is_allowed else PERM), (name, arguments)


BY_POLICY: list[tuple[Policy, str, tuple[int, ...], int]] = [
    (OPEN, "clone", (FORK,), 0),
    (OPEN, "clone", (SPAWN,), 0),
    (OPEN, "prctl", (1,), 0),
    (TIGHT, "clone", (FORK,), PERM),
    (TIGHT, "clone", (SPAWN,), PERM),
    (TIGHT, "fork", (), PERM),
    (TIGHT, "vfork", (), PERM),
    (TIGHT, "prctl", (1,), PERM),
    (OPEN, "socket", (1, 1), 0),
    (OPEN, "socket", (1 | U64, 1), 0),
    (OPEN, "socketpair", (1, 2), 0),
    *((OPEN, name, (3,), 0) for name in ("bind", "connect", "listen", "accept", "accept4")),
    (TIGHT, "socket", (1, 1), PERM),
    (TIGHT, "socketpair", (1, 2), PERM),
    (TIGHT, "socketpair", (1, 3 | 0x80000), PERM),
    *((TIGHT, name, (3,), PERM) for name in ("bind", "connect", "listen", "accept", "accept4")),
    (OPEN, "memfd_create", (), 0),
    (TIGHT, "memfd_create", (), PERM),
    *((OPEN, name, (-1, 9, 9), 0) for name in ("kill", "tgkill", "tkill", "pidfd_send_signal")),
    *((OPEN, name, (-1, 9, 9), 0) for name in ("rt_sigqueueinfo", "rt_tgsigqueueinfo")),
    *(
        (TIGHT, name, (target, 9, 9), 0 if target % U64 == 2**22 + 7 else PERM)
        for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
        for target in (2**22 + 7, (2**22 + 7) | U64, 0, 1, -1, -(2**22 + 7))
    ),
    (TIGHT, "tkill", (2**22 + 7, 9), PERM),
    (TIGHT, "pidfd_send_signal", (2**22 + 7, 9), PERM),
]


@pytest.mark.parametrize("machine", MACHINES)
def test_verdict_by_policy(machine: str) -> None:
    for policy, name, arguments, expected in BY_POLICY:
        if name in MACHINES[machine][1]:
            assert judge(machine, policy, name, *arguments) == expected, (name, arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_jump_never_leaves_the_program(machine: str) -> None:
    code = list(struct.iter_unpack("<HBBI", make_program(TIGHT, machine=machine)))

    assert len(code) <= 4096  # BPF_MAXINSNS
    for position, (operation, then, otherwise, _) in enumerate(code):
        if operation & 0x07 == 0x05:
            assert position + 1 + max(then, otherwise) < len(code)
    assert code[-1][0] == 0x06


def test_program_for_an_unknown_machine_is_refused() -> None:
    with pytest.raises(UnsupportedMachine, match=r"riscv64.*x86_64"):
        make_program(OPEN, machine="riscv64")


def test_two_names_of_one_machine_give_one_program() -> None:
    assert make_program(OPEN, machine="arm64") == make_program(OPEN, machine="aarch64")


@pytest.mark.parametrize("numbers", [X86_64, ARM64], ids=["x86_64", "arm64"])
def test_table_gives_each_call_its_own_number(numbers: dict[str, int]) -> None:
    assert len(set(numbers.values())) == len(numbers)
    assert min(numbers.values()) == 0
    assert max(numbers, key=numbers.__getitem__) == "listns"


def test_table_has_the_numbers_of_the_headers() -> None:
    # The ends of the runs without a gap: one name too many or too few shifts them.
    x86 = {"read": 0, "prctl": 157, "statx": 332, "rseq": 334, "uprobe": 336}
    arm = {"io_setup": 0, "accept4": 242, "recvmmsg": 243, "wait4": 260, "kexec_file_load": 294}
    both = {"pidfd_send_signal": 424, "clone3": 435, "futex_waitv": 449, "mseal": 462}

    assert x86.items() <= X86_64.items()
    assert arm.items() <= ARM64.items()
    assert both.items() <= X86_64.items() & ARM64.items()
    assert {name for name in ARM64 if name not in X86_64} == set()


def test_allowed_names_are_system_calls() -> None:
    rules = seccomp._list_rules(OPEN)

    assert rules.keys() <= X86_64.keys()
    assert len(seccomp._ALLOWED) == len(set(seccomp._ALLOWED))


# Arguments with which the call does no harm, nor ends with EPERM, should the filter let it by.
REAL_REFUSALS: list[tuple[str, tuple[int, ...], int]] = [
    *((name, (), PERM) for name in ("mount", "umount2", "pivot_root", "chroot", "fsopen")),
    *((name, (-1,), PERM) for name in ("open_tree", "fsmount", "setns", "flock", "shmdt")),
    *((name, (0, -1), PERM) for name in ("ptrace", "process_vm_readv", "kcmp", "pidfd_getfd")),
    *((name, (), PERM) for name in ("keyctl", "add_key", "request_key", "userfaultfd", "bpf")),
    *((name, (), PERM) for name in ("perf_event_open", "finit_module", "swapoff", "msgget")),
    *((name, (), PERM) for name in ("open_by_handle_at", "name_to_handle_at", "inotify_init1")),
    *((name, (), PERM) for name in ("fanotify_init", "semget", "shmget", "mq_open", "setxattr")),
    *((name, (), PERM) for name in ("removexattr", "setxattrat", "removexattrat", "seccomp")),
    ("unshare", (FLAGS["NEWUSER"],), PERM),
    ("fcntl", (-1, 6), PERM),
    ("fcntl", (-1, 37), PERM),
    ("fcntl", (-1, 1024), PERM),
    ("ioctl", (-1, 0x5412), PERM),
    ("ioctl", (-1, 0x5412 | U64), PERM),
    ("ioctl", (-1, 0x541C), PERM),
    ("ioctl", (-1, 0x40086602), PERM),
    ("socket", (2, 1, 0), PERM),
    ("socket", (10, 2, 0), PERM),
    ("socket", (40, 1, 0), PERM),
    ("personality", (0x0040000,), PERM),
    ("memfd_secret", (0,), PERM),
    ("setuid", (-1,), PERM),
    ("capset", (), PERM),
    ("clone", (FLAGS["NEWUSER"] | 17,), PERM),
    ("clone3", (), NOSYS),
    ("io_uring_setup", (), NOSYS),
]


@pytest.mark.parametrize("policy", [OPEN, TIGHT], ids=["open", "tight"])
def test_refused_calls_answer_their_errno(policy: Policy) -> None:
    expected = [[name, code] for name, _, code in REAL_REFUSALS]

    answers = run_in_child(
        policy, lambda: [[name, make_call(NUMBERS[name], *args)] for name, args, _ in REAL_REFUSALS]
    )

    assert answers == expected


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 belongs to x86-64")
def test_call_with_the_x32_bit_is_unknown() -> None:
    assert run_in_child(OPEN, lambda: make_call(0x4000_0000 + X86_64["getpid"])) == NOSYS


def test_allowed_calls_go_through() -> None:
    def act() -> list[int]:
        numbers = NUMBERS
        return [
            make_call(numbers["getpid"]),
            make_call(numbers["personality"], 0xFFFF_FFFF),
            make_call(numbers["prlimit64"], 0, 7, 0, 0),
            make_call(numbers["eventfd2"], 0, 0),
            make_call(numbers["pidfd_open"], os.getpid(), 0),
            make_call(numbers["fcntl"], 1, 3),
            make_call(numbers["fcntl"], -1, 3),
            make_call(numbers["read"], -1, 0, 0),
        ]

    assert run_in_child(TIGHT, act) == [0, 0, 0, 0, 0, 0, errno.EBADF, errno.EBADF]


@pytest.mark.parametrize("policy", [OPEN, TIGHT], ids=["open", "tight"])
def test_threads_run_under_each_policy(policy: Policy) -> None:
    def act() -> int:
        results: list[int] = []
        threads = [threading.Thread(target=results.append, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(results)

    assert run_in_child(policy, act) == 6


def test_thread_started_before_comes_under_the_filter_too() -> None:
    def act() -> list[int]:
        answers: list[int] = []
        is_set = threading.Event()

        def ask() -> None:
            is_set.wait(30)
            answers.append(make_call(NUMBERS["mount"]))

        thread = threading.Thread(target=ask)
        thread.start()
        forbid_new_privileges()
        install(make_program(TIGHT))
        is_set.set()
        thread.join()
        return answers

    assert run_in_child(None, act) == [PERM]


def start_true() -> int:
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def catch(action: Callable[[], object]) -> int | None:
    """Return the errno of the OSError that the action raises, 0 for none."""
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


def spawn_true() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    assert os.waitpid(pid, 0)[1] == 0


def test_processes_start_where_the_policy_lets_them() -> None:
    assert run_in_child(OPEN, start_true) == 0
    assert run_in_child(OPEN, lambda: catch(spawn_true)) == 0


def test_no_process_starts_where_the_policy_forbids_it() -> None:
    tight = replace(OPEN, may_fork=False)

    assert run_in_child(tight, lambda: catch(start_true)) == PERM
    assert run_in_child(tight, lambda: catch(spawn_true)) == PERM


def test_sockets_follow_the_policy() -> None:
    def act() -> list[int | None]:
        left, right = socket.socketpair()
        left.sendall(b"x")
        assert right.recv(1) == b"x"
        return [
            catch(lambda: socket.socket(socket.AF_UNIX).close()),
            catch(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].close()),
            catch(lambda: socket.socket(socket.AF_INET).close()),
        ]

    assert run_in_child(OPEN, act) == [0, 0, PERM]
    assert run_in_child(TIGHT, act) == [PERM, PERM, PERM]


def test_datagram_pair_would_reach_any_address() -> None:
    # Why the tight policy has none; should this ever fail, it may have them.
    def act() -> str:
        name = f"\0datarun-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(name)
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with left, right:
                left.sendto(b"out", name)
            return listening.recv(10).decode()

    assert run_in_child(None, act) == "out"


def test_stream_pair_reaches_no_address() -> None:
    name = f"\0datarun-{os.getpid()}"

    def act() -> list[int | None]:
        codes = []
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            left, right = socket.socketpair(socket.AF_UNIX, kind)
            with left, right:
                codes.append(catch(lambda left=left: left.connect(name)))  # type: ignore[misc]
                # The address is refused, or passed over: the pair's other end gets the message.
                catch(lambda left=left: left.sendto(b"out", name))  # type: ignore[misc]
        return codes

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.setblocking(False)
        assert run_in_child(TIGHT, act) == [PERM, PERM]
        with pytest.raises(BlockingIOError):
            listening.recv(10)


def test_descriptors_pass_over_an_inherited_pair() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs, open(os.devnull) as passed:
        socket.send_fds(mine, [b"x"], [passed.fileno()])

        device = run_in_child(TIGHT, lambda: os.fstat(socket.recv_fds(theirs, 1, 1)[1][0]).st_rdev)

        assert device == os.fstat(passed.fileno()).st_rdev


def test_memory_file_follows_the_policy() -> None:
    def act() -> int | None:
        return catch(lambda: os.close(os.memfd_create("x")))

    assert run_in_child(OPEN, act) == 0
    assert run_in_child(TIGHT, act) == PERM


def test_signals_reach_only_the_process_named() -> None:
    parent = os.getpid()

    def act() -> list[int | None]:
        forbid_new_privileges()
        install(make_program(replace(TIGHT, signals_only_to=os.getpid())))
        return [
            catch(lambda: os.kill(os.getpid(), 0)),
            catch(lambda: signal.pthread_kill(threading.get_ident(), 0)),
            catch(lambda: os.kill(parent, 0)),
            catch(lambda: os.kill(0, 0)),
            catch(lambda: os.kill(-1, 0)),
            catch(lambda: signal.pidfd_send_signal(os.pidfd_open(parent), 0)),
            make_call(NUMBERS["tkill"], parent, 0),
            make_call(NUMBERS["tgkill"], parent, parent, 0),
        ]

    assert run_in_child(None, act) == [0, 0, PERM, PERM, PERM, PERM, PERM, PERM]
    assert run_in_child(OPEN, lambda: catch(lambda: os.kill(parent, 0))) == 0


def test_owner_of_a_descriptors_signals_cannot_be_set() -> None:
    # O_ASYNC would send any signal, F_SETSIG, to any process of the same user.
    parent = os.getpid()

    def act() -> list[int | None]:
        reading, _ = os.pipe()
        return [
            catch(lambda: fcntl.fcntl(reading, fcntl.F_SETOWN, parent)),
            catch(lambda: fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGUSR1)),
            catch(lambda: fcntl.ioctl(reading, 0x8901, struct.pack("i", parent))),
            catch(lambda: fcntl.fcntl(reading, fcntl.F_GETFL)),
        ]

    assert run_in_child(OPEN, act) == [PERM, PERM, PERM, 0]


def test_limit_of_another_process_cannot_be_set() -> None:
    parent = os.getpid()

    def act() -> list[int | None]:
        return [
            catch(lambda: resource.prlimit(parent, resource.RLIMIT_CORE)),
            catch(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
            catch(lambda: os.setpriority(os.PRIO_USER, 0, 5)),
            catch(lambda: os.nice(1)),
        ]

    assert run_in_child(OPEN, act) == [PERM, 0, PERM, 0]


def test_filter_is_inherited_over_an_exec() -> None:
    code = "import os\ntry: os.chroot('/')\nexcept OSError as error: print(error.errno)"

    assert run_python(OPEN, code) == str(PERM)


def test_install_of_nonsense_raises() -> None:
    def act() -> int | None:
        forbid_new_privileges()
        # Its only instruction jumps out of the program.
        return catch(lambda: install(struct.pack("=HBBI", 0x15, 9, 9, 0)))

    assert run_in_child(None, act) == errno.EINVAL


def test_install_without_no_new_privileges_raises() -> None:
    def act() -> int | None:
        if os.geteuid() == 0:
            os.setuid(65534)  # root would be let
        return catch(lambda: install(make_program(OPEN)))

    assert run_in_child(None, act) == errno.EACCES


# What a submission may do, in a fresh interpreter under the filter.
MATRIX = "import numpy; print(int((numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum()))"
FOREST = """
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
X, y = load_iris(return_X_y=True)
forest = RandomForestClassifier(10, n_jobs=2).fit(X, y)
boosting = HistGradientBoostingClassifier(max_iter=3).fit(X, y)
print(forest.score(X, y) > 0.9 and boosting.score(X, y) > 0.9)
"""
FRAME = """
import sqlite3, pandas
frame = pandas.DataFrame({"a": ["x", "y", "x"], "b": [1, 2, 3]})
with sqlite3.connect(":memory:") as base:
    frame.to_sql("t", base, index=False)
    print(pandas.read_sql("select a, sum(b) b from t group by a", base).b.sum())
"""
POOL = """
import multiprocessing, sys
for method in ("fork", "spawn"):
    with multiprocessing.get_context(method).Pool(2) as pool:
        print(sum(pool.map(abs, [-1, -2, -3])), end=" ")
"""
LOKY = """
from math import sqrt
from joblib import Parallel, delayed
print(sum(Parallel(n_jobs=2, backend="loky")(delayed(sqrt)(n) for n in (1, 4, 9))))
"""
COMMAND = """
import subprocess
print(subprocess.run(["/bin/echo", "hello"], capture_output=True, text=True).stdout)
"""
LOOP = """
import asyncio, concurrent.futures
async def wait():
    await asyncio.sleep(0.001)
    return await asyncio.to_thread(abs, -7)
print(asyncio.run(wait()))
"""


@pytest.mark.parametrize("policy", [OPEN, TIGHT], ids=["open", "tight"])
@pytest.mark.parametrize(
    ("code", "printed"),
    [(MATRIX, "27000000"), (FOREST, "True"), (FRAME, "6"), (LOOP, "7")],
    ids=["matrix", "forest", "frame", "loop"],
)
def test_computation_works_under_each_policy(policy: Policy, code: str, printed: str) -> None:
    assert run_python(policy, code) == printed


@pytest.mark.parametrize(
    ("code", "printed"),
    [(POOL, "6 6"), (LOKY, "6.0"), (COMMAND, "hello")],
    ids=["pool", "loky", "command"],
)
def test_processes_work_where_forking_is_allowed(code: str, printed: str) -> None:
    sockets = replace(OPEN, may_use_unix_sockets=False, may_use_memfd=False)

    assert run_python(sockets, code) == printed


def test_shared_memory_between_parent_and_child_works() -> None:
    def act() -> int:
        shared = mmap.mmap(-1, 4096)
        pid = os.fork()
        if pid == 0:
            shared[0] = 7
            os._exit(0)
        os.waitpid(pid, 0)
        return shared[0]

    assert run_in_child(OPEN, act) == 7
