"""What a sealed run cannot reach, at each level that a host may offer."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runapp.runner.sandbox.levels import Level
from runapp.runner.sandbox.syscalls import ARM64, X86_64
from tests.unit.runner_attempts import (
    DONE,
    LEVELS,
    find_done,
    is_refusal,
    need_level,
    try_all,
)
from tests.unit.runner_folds import LIGHT_BOOTSTRAP, Iris, plain_host, serving, write_classifier

ROOT = Path(__file__).resolve().parents[2]
SYSCALLS = X86_64 if platform.machine() == "x86_64" else ARM64


@pytest.fixture(scope="module", params=LEVELS, ids=lambda level: level.name)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), need_level(request.param)
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


@pytest.fixture(scope="module")
def plain_iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iris]:
    """Return one without any seal: what is refused elsewhere must work here."""
    folder = tmp_path_factory.mktemp("iris")
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=plain_host()) as iris:
        yield iris


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Return a file that everybody may read and write, and everybody may get to."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = tmp_path / "canary"
    path.write_text("untouched")
    path.chmod(0o666)
    return path


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[list[socket.socket]]:
    tcp = socket.create_server(("127.0.0.1", 0))
    abstract, named = (socket.socket(socket.AF_UNIX) for _ in range(2))
    abstract.bind(f"\0datarun-test-{os.getpid()}")
    named.bind(str(tmp_path / "socket"))
    for listener in (abstract, named):
        listener.listen()
    yield [tcp, abstract, named]
    for listener in (tcp, abstract, named):
        listener.close()


def list_network(listeners: list[socket.socket]) -> dict[str, str]:
    tcp, abstract, named = (listener.getsockname() for listener in listeners)
    if isinstance(abstract, bytes):
        abstract = abstract.decode()
    return {
        "a TCP socket": "socket.socket(socket.AF_INET).close()",
        "a UDP socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()",
        "a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()",
        "a listener": f"socket.create_connection({tcp}, 5).close()",
        "an abstract socket": f"socket.socket(socket.AF_UNIX).connect({abstract!r})",
        "a socket with a name": f"socket.socket(socket.AF_UNIX).connect({named!r})",
    }


def test_network_is_out_of_reach(iris: Iris, listeners: list[socket.socket]) -> None:
    answers = try_all(iris, list_network(listeners))

    assert find_done(answers) == []
    for listener in listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_network_is_there_without_a_seal(plain_iris: Iris, listeners: list[socket.socket]) -> None:
    answers = try_all(plain_iris, list_network(listeners))

    assert set(answers.values()) == {DONE}


def list_reads(canary: Path) -> dict[str, str]:
    home = canary.parent / "home"
    home.mkdir(exist_ok=True)
    (home / "labels").write_text("secret")
    paths = [canary, home / "labels", ROOT / "manage.py", ROOT / "runapp" / "runner" / "run.py"]
    return {
        **{f"reading {path.name}": f"open({str(path)!r}).read(1)" for path in paths},
        **{
            f"listing {folder.name}": f"os.listdir({str(folder)!r})"
            for folder in (home, canary.parent, ROOT)
        },
    }


def list_changes(canary: Path) -> dict[str, str]:
    path, other = str(canary), str(canary) + ".new"
    return {
        "changing its mode": f"os.chmod({path!r}, 0o600)",
        "changing its times": f"os.utime({path!r}, (1, 1))",
        "an attribute": f"os.setxattr({path!r}, 'user.mark', b'1')",
        "writing": f"open({path!r}, 'a').write('!')",
        "truncating": f"os.truncate({path!r}, 1)",
        "a link": f"os.link({path!r}, 'link')",
        "renaming": f"os.rename({path!r}, {other!r})",
        "making a file beside it": f"open({other!r}, 'w').close()",
        "making a folder beside it": f"os.mkdir({other + '.d'!r})",
        "removing": f"os.unlink({other!r})",
    }


def describe(path: Path) -> tuple[object, ...]:
    status = path.stat()
    xattrs = os.listxattr(path)
    return (status.st_mode, status.st_mtime_ns, status.st_uid, path.read_bytes(), xattrs)


def test_foreign_files_cannot_be_read(iris: Iris, canary: Path) -> None:
    answers = try_all(iris, list_reads(canary))

    assert find_done(answers) == []


def test_foreign_files_can_be_read_without_a_seal(plain_iris: Iris, canary: Path) -> None:
    answers = try_all(plain_iris, list_reads(canary))

    assert set(answers.values()) == {DONE}


def test_foreign_files_cannot_be_changed(iris: Iris, canary: Path) -> None:
    before, folder = describe(canary), sorted(canary.parent.iterdir())

    answers = try_all(iris, list_changes(canary))

    assert find_done(answers) == []
    assert describe(canary) == before
    assert sorted(canary.parent.iterdir()) == folder


def test_foreign_files_can_be_changed_without_a_seal(plain_iris: Iris, canary: Path) -> None:
    answers = try_all(plain_iris, list_changes(canary))

    # The scratch folder may be on another file system than the canary.
    assert set(answers) - set(find_done(answers)) <= {"a link"}


def test_nothing_can_be_made_outside_of_scratch(iris: Iris) -> None:
    folders = ["/", "/etc", "/usr", "/usr/lib", "/proc", "/dev", sys.prefix, sys.base_prefix]
    if not iris.supervisor.host.seal.level.has_namespaces:
        folders += ["/tmp", "/var/tmp", "/dev/shm", str(iris.folder)]

    answers = try_all(
        iris, {folder: f"open({folder!r} + '/made-by-a-run', 'w').close()" for folder in folders}
    )

    assert find_done(answers) == []


DESCRIPTOR = """
def reopen(fd, flags):
    os.close(os.open(f"/proc/self/fd/{fd}", flags))
"""


def list_descriptor_changes(name: str) -> dict[str, str]:
    fd = f"find_descriptor({name!r})"
    return {
        "writing": f"os.write({fd}, b'!')",
        "truncating": f"os.ftruncate({fd}, 1)",
        "changing its mode": f"os.fchmod({fd}, 0o777)",
        "changing its mode by a path": f"os.chmod('/proc/self/fd/' + str({fd}), 0o777)",
        "changing its times": f"os.utime({fd}, (1, 1))",
        "changing its owner": f"os.fchown({fd}, 1, 1)",
        "an attribute": f"os.setxattr({fd}, 'user.mark', b'1')",
        "reopening to read and write": f"reopen({fd}, os.O_RDWR)",
        "reopening to write": f"reopen({fd}, os.O_WRONLY)",
        "reopening to truncate": f"reopen({fd}, os.O_RDONLY | os.O_TRUNC)",
        "mapping to write": f"mmap.mmap({fd}, 0, mmap.MAP_SHARED, mmap.PROT_WRITE)",
        "a link": f"os.link('/proc/self/fd/' + str({fd}), 'link', follow_symlinks=True)",
        "a lock": f"fcntl.flock({fd}, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    }


@pytest.mark.parametrize("name", ["X_train", "X_test"])
def test_X_cannot_be_changed_through_its_descriptor(name: str, iris: Iris) -> None:
    path = iris.folder / name
    before = describe(path)
    attempts = {"finding it": f"os.fstat(find_descriptor({name!r}))"}
    attempts |= list_descriptor_changes(name)

    answers = try_all(iris, attempts, top=DESCRIPTOR, at_test=name == "X_test")

    assert find_done(answers) == ["finding it"]
    assert describe(path) == before
    assert iris.run(write_classifier()).outcome == "tested"


def test_X_can_be_reopened_without_a_seal(plain_iris: Iris) -> None:
    fd = "find_descriptor('X_train')"

    answers = try_all(plain_iris, {"it": f"reopen({fd}, os.O_RDWR)"}, top=DESCRIPTOR)

    assert answers == {"it": DONE}


# Like that of no other process on the machine, whatever else runs there.
CANARY = f"canary-{secrets.token_hex(8)}"
READ_ENVIRONMENTS = f"""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline") if os.getpid() != int(number) else ():
            try:
                with open(f"/proc/{{number}}/{{name}}", "rb") as file:
                    found += [number] * (b"{CANARY}" in file.read())
            except OSError:
                pass
    print(*found)
"""


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process of the worker's user that has a secret in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-ISc", "import os; os.write(1, b'.'); os.read(0, 1)"],
        env={"SECRET": CANARY},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.read(1)
        yield process
        process.kill()


def test_environment_of_other_processes_cannot_be_read(
    iris: Iris, neighbour: subprocess.Popen[bytes]
) -> None:
    reads = {
        f"{pid}": f"open('/proc/{pid}/environ').read()" for pid in (neighbour.pid, os.getpid())
    }

    ran = iris.run(write_classifier(fit=READ_ENVIRONMENTS))
    answers = try_all(iris, reads)

    assert ran.outcome == "tested"
    assert ran.printed == []
    assert find_done(answers) == []


def test_environment_of_other_processes_can_be_read_without_a_seal(
    plain_iris: Iris, neighbour: subprocess.Popen[bytes]
) -> None:
    ran = plain_iris.run(write_classifier(fit=READ_ENVIRONMENTS))

    assert ran.printed == [str(neighbour.pid)]


def test_processes_of_others_cannot_be_signalled(
    iris: Iris, neighbour: subprocess.Popen[bytes]
) -> None:
    assert neighbour.poll() is None

    answers = try_all(
        iris,
        {
            "a neighbour": f"os.kill({neighbour.pid}, signal.SIGKILL)",
            "the worker": f"os.kill({os.getpid()}, 0)",
            "a neighbour by descriptor": f"os.pidfd_open({neighbour.pid})",
        },
    )

    # To look at a process is no harm where there is no namespace; to send it a signal is.
    assert {"a neighbour", "the worker"}.isdisjoint(find_done(answers))
    assert neighbour.poll() is None


def read_status(iris: Iris) -> dict[str, str]:
    ran = iris.run(write_classifier(fit="print(open('/proc/self/status').read())"))
    lines = (line.partition(":") for line in ran.result.output.splitlines())
    return {name: value.strip() for name, _, value in lines}


def test_no_privilege_is_left(iris: Iris) -> None:
    status = read_status(iris)

    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(status[name], 16) for name in sets} == dict.fromkeys(sets, 0)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Groups"] == "" or iris.supervisor.host.seal.level is not Level.ROOT


REFUSED = [
    *("unshare", "mount", "umount2", "setns", "ptrace", "keyctl", "add_key", "request_key"),
    *("io_uring_setup", "io_uring_enter", "bpf", "perf_event_open", "userfaultfd", "chroot"),
    *("pivot_root", "init_module", "finit_module", "delete_module", "open_by_handle_at"),
    *("process_vm_readv", "process_vm_writev", "syslog", "reboot", "swapon", "acct", "quotactl"),
    *("kexec_load", "settimeofday", "clock_settime", "adjtimex", "sethostname", "clone3"),
    *("shmget", "msgget", "semget", "mq_open", "fsopen", "open_tree", "move_mount", "pidfd_getfd"),
    *("kcmp", "seccomp", "fanotify_init", "setuid", "setgid", "setgroups", "capset", "ioperm"),
]


def test_system_calls_for_other_worlds_are_refused(iris: Iris) -> None:
    known = {name: SYSCALLS[name] for name in REFUSED if name in SYSCALLS}

    answers = try_all(iris, {name: f"call({n}, 0, 0, 0, 0, 0)" for name, n in known.items()})

    assert {"unshare", "mount", "setns", "ptrace", "keyctl", "io_uring_setup"} <= known.keys()
    assert {name: answer for name, answer in answers.items() if not is_refusal(answer)} == {}


SHOWN = {
    *("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "dev", "proc", "var", "tmp"),
    *("datarun", "env", "fold", "python"),
}


def test_root_shows_the_system_and_nothing_else(iris: Iris) -> None:
    if not iris.supervisor.host.seal.level.has_namespaces:
        answers = try_all(iris, {"the root": "os.listdir('/')", "a home": "os.listdir('/root')"})
        assert find_done(answers) == []
        return

    ran = iris.run(
        write_classifier(
            fit="""
                print(*os.listdir("/"))
                print(*os.listdir("/tmp"), *os.listdir("/dev/shm"), *os.listdir("/var/tmp"))
                print(*os.listdir("/datarun/runapp/runner"))
                print(*filter(str.isdigit, os.listdir("/proc")))
            """
        )
    )

    root, *folders, processes = ran.result.output.splitlines()
    assert set(root.split()) <= SHOWN
    assert folders == ["", ""]
    assert processes == "1"
