"""What Landlock leaves of the file system, the network and the other processes."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runapp.runner.sandbox import landlock
from runapp.runner.sandbox.landlock import read_abi, restrict

ABI = read_abi()
ACCES, PERM = errno.EACCES, errno.EPERM

_libc = ctypes.CDLL(None, use_errno=True)

needs_landlock = pytest.mark.skipif(ABI == 0, reason="the kernel offers no Landlock")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Make a folder to write in; what stands beside it is foreign."""
    (tmp_path / "foreign").write_text("secret")
    scratch = tmp_path / "scratch"
    (scratch / "left").mkdir(parents=True)
    (scratch / "right").mkdir()
    return scratch


def run_in_child(action: Callable[[], object]) -> Any:
    """Return what the action returns in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(action()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading) as told:
        said = told.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return json.loads(said)


def run_restricted(
    action: Callable[[], object],
    *,
    readable: Sequence[str | Path] = (),
    writable: Sequence[str | Path] = (),
    devices: Sequence[str | Path] = (),
) -> Any:
    """Return what the action returns in a child that keeps only what is listed."""

    def act() -> object:
        assert _libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        restrict(readable=readable, writable=writable, devices=devices)
        return action()

    return run_in_child(act)


def catch(action: Callable[[], object]) -> int | None:
    """Return the errno of the OSError that the action raises, 0 for none."""
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


def test_abi_is_what_the_kernel_says() -> None:
    said = _libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1))

    assert read_abi() == max(said, 0)


def test_abi_is_0_where_the_call_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_CREATE_RULESET", 5000)

    assert read_abi() == 0


@needs_landlock
def test_file_that_is_not_listed_cannot_be_read(scratch: Path) -> None:
    foreign = scratch.parent / "foreign"

    def act() -> list[int | None]:
        return [
            catch(foreign.read_bytes),
            catch(lambda: foreign.write_text("x")),
            catch(lambda: os.listdir(scratch.parent)),
            catch(foreign.unlink),
            catch(lambda: foreign.rename(scratch / "mine")),
            catch(lambda: os.link(foreign, scratch / "mine")),
            catch(lambda: (scratch / ".." / "foreign").read_bytes()),
        ]

    # A link from where no right was given to another folder is as between file systems.
    expected = [ACCES, ACCES, ACCES, ACCES, ACCES, errno.EXDEV, ACCES]
    assert run_restricted(act, writable=[scratch]) == expected
    assert foreign.read_text() == "secret"


@needs_landlock
def test_link_to_a_foreign_file_leads_nowhere(scratch: Path) -> None:
    (scratch / "link").symlink_to(scratch.parent / "foreign")

    answer = run_restricted(
        lambda: catch((scratch / "link").read_bytes), readable=[scratch], writable=[scratch]
    )

    assert answer == ACCES


@needs_landlock
def test_readable_folder_can_be_read_but_not_changed(scratch: Path) -> None:
    (scratch / "left" / "file").write_text("text")
    file = scratch / "left" / "file"

    def act() -> list[int | None]:
        assert file.read_text() == "text"
        assert os.listdir(scratch) != []
        return [
            catch(lambda: file.write_text("x")),
            catch(lambda: os.truncate(file, 0)),
            catch(lambda: (scratch / "new").touch()),
            catch(lambda: (scratch / "new").mkdir()),
            catch(lambda: (scratch / "new").symlink_to("x")),
            catch(lambda: os.mkfifo(scratch / "new")),
            catch(file.unlink),
            catch((scratch / "right").rmdir),
            catch(lambda: file.rename(scratch / "left" / "other")),
        ]

    truncated = ACCES if ABI >= 3 else 0
    expected = [ACCES, truncated, *[ACCES] * 7]
    assert run_restricted(act, readable=[scratch]) == expected


@needs_landlock
def test_single_file_can_be_readable(scratch: Path) -> None:
    foreign = scratch.parent / "foreign"

    def act() -> list[object]:
        return [foreign.read_text(), catch(lambda: foreign.write_text("x"))]

    assert run_restricted(act, readable=[foreign]) == ["secret", ACCES]


@needs_landlock
def test_single_file_can_be_writable(scratch: Path) -> None:
    foreign = scratch.parent / "foreign"

    def act() -> list[object]:
        return [foreign.write_text("own"), foreign.read_text(), catch(foreign.unlink)]

    assert run_restricted(act, writable=[foreign]) == [3, "own", ACCES]


@needs_landlock
def test_writable_folder_takes_all_but_device_nodes(scratch: Path) -> None:
    def act() -> list[int | None]:
        file = scratch / "left" / "file"
        file.write_text("text")
        file.write_text("shorter")
        os.truncate(file, 2)
        assert file.read_text() == "sh"
        (scratch / "folder").mkdir()
        (scratch / "folder").rmdir()
        (scratch / "link").symlink_to(file)
        (scratch / "link").unlink()
        os.mkfifo(scratch / "pipe")
        return [
            catch(lambda: os.mknod(scratch / "null", 0o20600, os.makedev(1, 3))),
            catch(lambda: os.mknod(scratch / "disk", 0o60600, os.makedev(8, 0))),
        ]

    assert run_restricted(act, writable=[scratch]) == [ACCES, ACCES]


@needs_landlock
def test_rename_and_link_between_folders_of_the_writable_one_work(scratch: Path) -> None:
    def act() -> list[int | None]:
        (scratch / "left" / "file").write_text("text")
        return [
            catch(lambda: (scratch / "left" / "file").rename(scratch / "right" / "file")),
            catch(lambda: os.link(scratch / "right" / "file", scratch / "left" / "same")),
        ]

    expected = [0, 0] if ABI >= 2 else [errno.EXDEV, errno.EXDEV]
    assert run_restricted(act, writable=[scratch])[: len(expected)] == expected


@needs_landlock
def test_program_runs_only_from_where_it_is_readable() -> None:
    def act() -> int | None:
        return catch(lambda: subprocess.run(["/bin/true"], check=True))

    system = [path for path in ("/usr", "/bin", "/lib", "/lib64") if os.path.exists(path)]
    assert run_restricted(act, readable=system) == 0
    assert run_restricted(act, readable=["/etc"]) == ACCES


@needs_landlock
def test_interpreter_computes_from_read_only_folders(scratch: Path) -> None:
    code = "import tempfile, numpy; tempfile.TemporaryFile('w'); print(int(numpy.ones(3).sum()))"

    def act() -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={"TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    system = [path for path in ("/usr", "/bin", "/lib", "/lib64", "/etc") if os.path.exists(path)]
    readable = [*system, "/proc", sys.prefix, sys.base_prefix]
    told = run_restricted(act, readable=readable, writable=[scratch], devices=["/dev/null"])

    assert told == "3\n"


@needs_landlock
def test_device_can_be_read_and_written_and_nothing_more() -> None:
    def act() -> list[int | None]:
        with open("/dev/null", "w") as null:
            null.write("x")
        with open("/dev/null", "rb") as null:
            assert null.read() == b""
        return [
            catch(lambda: open("/dev/zero", "rb").close()),
            catch(lambda: os.listdir("/dev")),
        ]

    assert run_restricted(act, devices=["/dev/null"]) == [ACCES, ACCES]


@needs_landlock
@pytest.mark.parametrize("argument", ["readable", "writable", "devices"])
def test_path_that_does_not_exist_raises(scratch: Path, argument: str) -> None:
    paths = {argument: [scratch, scratch / "missing"]}

    answer = run_in_child(
        lambda: catch(lambda: restrict(**{"readable": [], "writable": [], "devices": [], **paths}))
    )

    assert answer == errno.ENOENT


@needs_landlock
def test_no_descriptor_stays_open(scratch: Path) -> None:
    def act() -> list[int]:
        catch(lambda: restrict(readable=[scratch / "missing"], writable=[], devices=[]))
        failed = len(os.listdir("/proc/self/fd"))
        _libc.prctl(38, 1, 0, 0, 0)
        restrict(readable=["/proc"], writable=[scratch], devices=["/dev/null"])
        return [failed, len(os.listdir("/proc/self/fd"))]

    inherited = run_in_child(lambda: len(os.listdir("/proc/self/fd")))
    assert run_in_child(act) == [inherited, inherited]


@needs_landlock
def test_restriction_cannot_be_widened(scratch: Path) -> None:
    foreign = scratch.parent / "foreign"

    def act() -> int | None:
        restrict(readable=["/"], writable=["/"], devices=[])
        return catch(foreign.read_bytes)

    assert run_restricted(act, readable=["/"], writable=[scratch]) == 0
    assert run_restricted(act, writable=["/dev", scratch]) == ACCES


def become_nobody() -> None:
    # On newer kernels who has CAP_PERFMON may look into any process whatever Landlock says:
    # may_access_mm of kernel/fork.c.
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    assert _libc.prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE: its own /proc stays readable


@needs_landlock
def test_environment_of_the_parent_cannot_be_read() -> None:
    def act() -> list[int | None]:
        # The path may be read; it is looking into a process outside that is refused.
        parent = os.getppid()
        return [
            catch(Path(f"/proc/{parent}/environ").read_bytes),
            catch(Path("/proc/self/environ").read_bytes),
            catch(lambda: os.readlink(f"/proc/{parent}/fd/0")),
        ]

    def compare() -> list[object]:
        become_nobody()
        return [run_in_child(act), run_restricted(act, readable=["/proc"])]

    assert run_in_child(compare) == [[0, 0, 0], [ACCES, 0, ACCES]]


@needs_landlock
def test_signal_to_the_parent_is_refused_from_abi_6_on() -> None:
    parent = os.getpid()

    def act() -> list[int | None]:
        return [catch(lambda: os.kill(parent, 0)), catch(lambda: os.kill(os.getpid(), 0))]

    assert run_in_child(act) == [0, 0]
    assert run_restricted(act) == [PERM if ABI >= 6 else 0, 0]


@needs_landlock
def test_signal_to_an_own_child_goes_through() -> None:
    def act() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run_restricted(act) == -signal.SIGKILL


@needs_landlock
def test_abstract_socket_of_the_parent_is_out_of_reach_from_abi_6_on() -> None:
    name = f"\0datarun-{os.getpid()}"

    def connect(name: str) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(name)

    def act() -> list[int | None]:
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(f"{name}-own")
            own.listen()
            return [catch(lambda: connect(name)), catch(lambda: connect(f"{name}-own"))]

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()

        assert run_in_child(act) == [0, 0]
        assert run_restricted(act) == [PERM if ABI >= 6 else 0, 0]


@needs_landlock
def test_tcp_is_refused_from_abi_4_on() -> None:
    def connect(address: tuple[str, int]) -> None:
        with socket.socket() as sock:
            sock.connect(address)

    def bind() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def act() -> list[int | None]:
            return [catch(lambda: connect(listening.getsockname())), catch(bind)]

        assert run_in_child(act) == [0, 0]
        assert run_restricted(act) == ([ACCES, ACCES] if ABI >= 4 else [0, 0])


@pytest.mark.parametrize(
    ("abi", "rights"),
    [(1, 0x1FFF), (2, 0x3FFF), (3, 0x7FFF), (4, 0x7FFF), (5, 0xFFFF), (8, 0xFFFF), (9, 0x1FFFF)],
)
def test_every_right_of_an_abi_is_taken(abi: int, rights: int) -> None:
    assert landlock._list_file_rights(abi) == rights


@needs_landlock
def test_older_abi_is_enforced_as_far_as_it_goes(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "read_abi", lambda: 1)
    foreign = scratch.parent / "foreign"
    parent = os.getpid()

    def act() -> list[int | None]:
        return [catch(foreign.read_bytes), catch(lambda: os.kill(parent, 0))]

    assert run_restricted(act, writable=[scratch]) == [ACCES, 0]


def test_restrict_without_landlock_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "read_abi", lambda: 0)

    with pytest.raises(OSError, match="Landlock") as caught:
        restrict(readable=[], writable=[], devices=[])
    assert caught.value.errno == errno.ENOSYS


@needs_landlock
def test_restrict_without_no_new_privileges_raises() -> None:
    def act() -> int | None:
        if os.geteuid() == 0:
            os.setuid(65534)  # root would be let
        return catch(lambda: restrict(readable=["/"], writable=[], devices=[]))

    assert run_in_child(act) == PERM
