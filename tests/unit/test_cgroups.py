"""Control groups: on the host's own kernel where it lets us, on plain files for every layout.

The plain files stand for both layouts of cgroups, with the rules of the kernel that decide what is
found: which files a new group has, and that a v2 group with processes hands nothing down.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from runapp.runner.metering import cgroup_mounts
from runapp.runner.metering.cgroup import Group, MemoryReading
from runapp.runner.metering.cgroup_mounts import LEAF, is_left_over, list_pids, name_group
from runapp.runner.metering.cgroups import Cgroups, find_cgroups

DEADLINE_SECONDS = 20
MB = 1024 * 1024

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")

V1_FILES = {
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.usage_in_bytes": "1000",
        "memory.max_usage_in_bytes": "2000",
        "memory.stat": "cache 1\nrss 2\nshmem 3\ntotal_cache 500\ntotal_rss 400\ntotal_shmem 200",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
        "memory.swappiness": "60",
    },
    "pids": {"pids.max": "max", "pids.events": "max 7"},
    "cpu": {"cpu.shares": "1024"},
    "cpuacct": {"cpuacct.usage": "1500000000"},
}
V2_FILES = {
    "memory": {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.current": "1000",
        "memory.peak": "2000",
        "memory.stat": "anon 400\nfile 500\nkernel 100\nshmem 200",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 1",
    },
    "pids": {"pids.max": "max", "pids.events": "max 7"},
    "cpu": {"cpu.weight": "100"},
}
V2_CORE_FILES = {
    "cgroup.procs": "",
    "cgroup.type": "domain",
    "cgroup.subtree_control": "",
    "cgroup.kill": "",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000",
}


class FakeKernel:
    """Folders of plain files that fill and empty themselves as hierarchies do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mountinfo = root / "mountinfo"
        self.own_groups = root / "own_groups"
        self.writes: list[tuple[str, str]] = []
        self.mountinfo.write_text("20 1 0:1 / /sys rw - sysfs sysfs rw\n")
        self.own_groups.write_text("")
        self._mkdir, self._rmdir, self._write = os.mkdir, os.rmdir, cgroup_mounts.write_file
        self._v1: dict[Path, tuple[str, ...]] = {}
        self._v2: Path | None = None

    def mount_v1(self, *names: str, own: str = "/", shown: str = "/", at: str = "") -> Path:
        """Mount a hierarchy of which `shown` and what is below it can be seen."""
        top = self._mount("cgroup", ",".join(("rw", *names)), shown, at or ",".join(names))
        self._v1[top] = names
        self._say(f"1:{','.join(names)}:{own}")
        if own.startswith(shown):
            self._fill_own(top / os.path.relpath(own, shown))
        return top

    def mount_v2(self, *names: str, own: str = "/", pids: str = "") -> Path:
        """Mount the v2 tree of a container, whose own group is offered some controllers."""
        top = self._mount("cgroup2", "rw", "/", "unified")
        self._say(f"0::{own}")
        folder = self._fill_own(top / own.lstrip("/"))
        for group in (folder, *folder.parents):
            if group.is_relative_to(top):
                fill(group, V2_CORE_FILES, {"cgroup.controllers": " ".join(names)})
        (folder / "cgroup.procs").write_text(pids)
        self._v2 = top
        return folder

    def find(self, *, may_move: bool = False) -> Cgroups:
        return find_cgroups(may_move=may_move, mountinfo=self.mountinfo, own_groups=self.own_groups)

    def mkdir(self, path: str | Path, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        folder = Path(path)
        for top, names in self._v1.items():
            if folder.is_relative_to(top):
                fill(folder, {"cgroup.procs": ""}, *(V1_FILES[name] for name in names))
        if self._v2 is not None and folder.is_relative_to(self._v2):
            handed_down = (folder.parent / "cgroup.subtree_control").read_text().split()
            fill(folder, V2_CORE_FILES, *(V2_FILES[name] for name in handed_down))

    def rmdir(self, path: str | Path) -> None:
        # The kernel's files go with their group.
        for file in Path(path).iterdir():
            file.unlink()
        self._rmdir(path)

    def write_file(self, path: Path, text: str) -> None:
        self.writes.append((path.name, text))
        if path.name == "cgroup.subtree_control":
            if (path.parent / "cgroup.procs").read_text().strip():
                raise OSError(errno.EBUSY, "Device or resource busy", str(path))
            text = f"{path.read_text()} {text.removeprefix('+')}"
        if path.name == "cgroup.procs":
            before = path.parent.parent / "cgroup.procs"
            before.write_text("\n".join(pid for pid in before.read_text().split() if pid != text))
            text = f"{path.read_text()}\n{text}"
        self._write(path, text)

    def _mount(self, kind: str, options: str, shown: str, name: str) -> Path:
        top = self.root / name
        top.mkdir()
        escaped = str(top).replace(" ", "\\040")
        with self.mountinfo.open("a") as file:
            print(f"31 20 0:9 {shown} {escaped} rw shared:9 - {kind} none {options}", file=file)
        return top

    def _say(self, line: str) -> None:
        with self.own_groups.open("a") as file:
            print(line, file=file)

    def _fill_own(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        fill(folder, V2_CORE_FILES)
        return folder


def fill(folder: Path, *tables: dict[str, str]) -> None:
    for table in tables:
        for name, text in table.items():
            (folder / name).write_text(text + "\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    monkeypatch.setattr(os, "mkdir", kernel.mkdir)
    monkeypatch.setattr(os, "rmdir", kernel.rmdir)
    monkeypatch.setattr("runapp.runner.metering.cgroup_mounts.write_file", kernel.write_file)
    monkeypatch.setattr("runapp.runner.metering.cgroup.write_file", kernel.write_file)
    # Root may write everywhere, an ordinary user only where it was let: the harder case.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return kernel


def make_v1(kernel: FakeKernel) -> Cgroups:
    for name in CONTROLLERS:
        kernel.mount_v1(name)
    return kernel.find()


def make_v2(kernel: FakeKernel) -> Cgroups:
    kernel.mount_v2("memory", "pids", "cpu")
    return kernel.find()


def list_places(cgroups: Cgroups) -> list[Path | None]:
    places = (cgroups.memory, cgroups.pids, cgroups.cpu, cgroups.cpuacct)
    return [None if place is None else place.folder for place in places]


def test_find_v1_with_a_hierarchy_for_each_controller(kernel: FakeKernel) -> None:
    cgroups = make_v1(kernel)

    assert cgroups.describe() == "cgroup v1 (memory, pids, cpu, cpuacct)"
    assert list_places(cgroups) == [kernel.root / name for name in CONTROLLERS]
    assert cgroups.reasons == ()
    assert not list(kernel.root.glob("*/datarun-*"))


def test_find_v1_with_controllers_that_share_a_hierarchy(kernel: FakeKernel) -> None:
    kernel.mount_v1("cpu", "cpuacct", at="cpu and its clock")

    cgroups = kernel.find()

    assert cgroups.cpu == cgroups.cpuacct
    assert len(cgroups.make_group().folders) == 1


def test_find_v1_where_a_mount_shows_a_part(kernel: FakeKernel) -> None:
    top = kernel.mount_v1("memory", own="/docker/1/worker", shown="/docker/1")

    assert kernel.find().memory == cgroup_mounts.Place(1, top / "worker", top)


def test_find_v1_where_the_own_group_is_not_shown(kernel: FakeKernel) -> None:
    kernel.mount_v1("memory", own="/elsewhere", shown="/docker/1")

    cgroups = kernel.find()

    assert cgroups.memory is None
    assert cgroups.reasons[0].startswith("memory: no mounted hierarchy shows the group")


def test_find_names_the_file_that_a_group_lacks(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(V1_FILES, "pids", {})

    cgroups = make_v1(kernel)

    assert cgroups.pids is None
    [reason] = cgroups.reasons
    assert reason.startswith("pids: no usable group can be made, ")
    assert reason.endswith("/pids.max: No such file or directory.")
    assert not list(kernel.root.glob("*/datarun-*"))


def test_find_says_when_no_group_can_be_made(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str | Path, mode: int = 0o777) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system", str(path))

    kernel.mount_v1("memory")
    monkeypatch.setattr(os, "mkdir", refuse)

    cgroups = kernel.find()

    assert not cgroups
    assert "Read-only file system" in cgroups.reasons[0]


def test_find_hybrid_takes_the_clock_from_v2(kernel: FakeKernel) -> None:
    kernel.mount_v1("memory")
    unified = kernel.mount_v2()

    cgroups = kernel.find()

    assert cgroups.describe() == "cgroup v1 (memory), cgroup v2 (cpuacct)"
    assert list_places(cgroups) == [kernel.root / "memory", None, None, unified]
    assert [reason.partition(":")[0] for reason in cgroups.reasons] == ["pids", "cpu"]
    assert all("Delegate=yes" in reason for reason in cgroups.reasons)


def test_find_hybrid_prefers_the_clock_of_v1(kernel: FakeKernel) -> None:
    kernel.mount_v2()

    assert make_v1(kernel).describe() == "cgroup v1 (memory, pids, cpu, cpuacct)"


def test_find_v2_in_a_group_without_processes(kernel: FakeKernel) -> None:
    cgroups = make_v2(kernel)

    assert cgroups.describe() == "cgroup v2 (memory, pids, cpu, cpuacct)"
    assert cgroups.reasons == ()


def test_find_v2_moves_nobody_unasked(kernel: FakeKernel) -> None:
    folder = kernel.mount_v2("memory", "pids", "cpu", pids="11\n12")

    cgroups = kernel.find()

    assert cgroups.describe() == "cgroup v2 (cpuacct)"
    assert len(cgroups.reasons) == 3
    assert all("has processes of its own" in reason for reason in cgroups.reasons)
    assert not (folder / LEAF).exists()


def test_find_v2_moves_the_processes_of_a_container(kernel: FakeKernel) -> None:
    folder = kernel.mount_v2("memory", "pids", "cpu", pids="11\n12")

    cgroups = kernel.find(may_move=True)

    assert cgroups.describe() == "cgroup v2 (memory, pids, cpu, cpuacct)"
    assert list_pids(folder) == []
    assert list_pids(folder / LEAF) == [11, 12]


def test_find_v2_moves_the_processes_of_a_delegated_unit(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kernel.mount_v2("memory", "pids", "cpu", own="/unit", pids="11")
    marks = {(folder, "user.delegate"): b"1"}
    monkeypatch.setattr(os, "getxattr", lambda path, name: marks[path, name])

    assert kernel.find(may_move=True).memory is not None
    assert list_pids(folder / LEAF) == [11]


def test_find_v2_leaves_a_group_that_is_not_delegated(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def have_none(path: Path, name: str) -> bytes:
        raise OSError(errno.ENODATA, "No data available", str(path))

    folder = kernel.mount_v2("memory", own="/session", pids="11")
    monkeypatch.setattr(os, "getxattr", have_none)

    cgroups = kernel.find(may_move=True)

    assert cgroups.memory is None
    assert "not the worker's own to arrange" in cgroups.reasons[0]
    assert list_pids(folder) == [11]


def test_find_v2_says_when_a_process_cannot_be_moved(kernel: FakeKernel) -> None:
    kernel.mount_v2("memory", pids="0")  # of a foreign pid namespace

    assert "Device or resource busy" in kernel.find(may_move=True).reasons[0]


def test_find_v2_after_the_move_uses_the_group_above(kernel: FakeKernel) -> None:
    leaf = kernel.mount_v2("memory", "pids", "cpu", own=f"/unit/{LEAF}", pids="11")

    cgroups = kernel.find()

    assert cgroups.memory is not None
    assert cgroups.memory.folder == leaf.parent


def test_find_none_where_nothing_is_mounted(kernel: FakeKernel) -> None:
    cgroups = kernel.find()

    assert not cgroups
    assert cgroups.describe() == "no cgroups"
    assert len(cgroups.reasons) == len(CONTROLLERS)


def test_find_none_on_another_system(tmp_path: Path) -> None:
    cgroups = find_cgroups(mountinfo=tmp_path / "missing")

    assert not cgroups
    assert cgroups.reasons[0].startswith("This system shows no cgroups: ")


@pytest.mark.parametrize("make", [make_v1, make_v2])
def test_readings(kernel: FakeKernel, make: Callable[[FakeKernel], Cgroups]) -> None:
    group = make(kernel).make_group()

    assert group.read_memory() == MemoryReading(
        usage_bytes=1000, peak_bytes=2000, anon_bytes=400, shmem_bytes=200, file_bytes=300
    )
    assert group.read_cpu_seconds() == 1.5
    assert group.count_oom_kills() == 3
    assert group.count_refused_forks() == 7
    assert group.remove()


def test_readings_without_what_old_kernels_lack(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(V2_FILES["memory"], "memory.peak")
    monkeypatch.delitem(V2_FILES["pids"], "pids.events")
    monkeypatch.setitem(V2_FILES["memory"], "memory.events", "oom 4")

    group = make_v2(kernel).make_group()

    reading = group.read_memory()
    assert reading is not None
    assert reading.peak_bytes is None
    assert not group.reset_peak()
    assert group.count_refused_forks() is None
    assert group.count_oom_kills() is None
    group.remove()


def test_group_without_any_controller() -> None:
    group = Cgroups().make_group()

    assert group.open_procs() == []
    assert not group.limit_memory(MB)
    assert not group.limit_processes(1)
    assert group.read_memory() is None
    assert group.read_cpu_seconds() is None
    assert group.count_oom_kills() is None
    assert group.count_refused_forks() is None
    assert not group.reset_peak()
    assert group.kill()
    assert group.remove()


@pytest.mark.parametrize(
    ("make", "weight"), [(make_v1, ("cpu.shares", "128")), (make_v2, ("cpu.weight", "12"))]
)
def test_group_yields_processors_to_others(
    make: Callable[[FakeKernel], Cgroups], weight: tuple[str, str], kernel: FakeKernel
) -> None:
    group = make(kernel).make_group()

    assert weight in kernel.writes
    assert group.remove()


def test_limit_memory_v1_never_lets_the_joint_limit_be_the_lower(kernel: FakeKernel) -> None:
    group = make_v1(kernel).make_group()
    kernel.writes.clear()

    group.limit_memory(2000)
    group.limit_memory(3000)

    plain, joint = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    no_swap = ("memory.swappiness", "0")
    assert kernel.writes == [
        *((plain, "2000"), (joint, "2000"), no_swap),
        *((joint, "3000"), (plain, "3000"), no_swap),
    ]
    group.remove()


def test_limit_memory_v2_allows_no_swap_and_kills_all(kernel: FakeKernel) -> None:
    group = make_v2(kernel).make_group()
    kernel.writes.clear()

    assert group.limit_memory(2000)

    assert kernel.writes == [
        ("memory.max", "2000"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
    ]
    group.remove()


@pytest.mark.parametrize("name", ["memory.swap.max", "memory.oom.group"])
def test_limit_memory_v2_without_what_old_kernels_lack(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delitem(V2_FILES["memory"], name)
    group = make_v2(kernel).make_group()

    assert group.limit_memory(2000)
    assert not (group.folders[0] / name).exists()
    group.remove()


def test_kill_keeps_the_count_of_refused_forks(kernel: FakeKernel) -> None:
    group = make_v2(kernel).make_group()

    assert group.kill()

    (group.folders[0] / "pids.events").write_text("max 99\n")
    assert group.count_refused_forks() == 7
    assert ("cgroup.kill", "1") in kernel.writes
    group.remove()


def test_make_group_leaves_nothing_when_it_fails(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups = make_v1(kernel)
    monkeypatch.setitem(V1_FILES, "cpuacct", {})
    n_open = len(os.listdir("/proc/self/fd"))

    with pytest.raises(FileNotFoundError):
        cgroups.make_group()

    assert not list(kernel.root.glob("*/datarun-*"))
    assert len(os.listdir("/proc/self/fd")) == n_open


def test_names_tell_a_dead_owner_from_a_living_one() -> None:
    own = name_group()
    word, namespace, pid, start, serial = own.split("-")

    assert name_group() != own
    assert not is_left_over(own)
    assert is_left_over("-".join((word, namespace, pid, str(int(start) + 1), serial)))
    assert not is_left_over("-".join((word, "1", pid, str(int(start) + 1), serial)))
    assert not is_left_over("user.slice")
    assert not is_left_over(LEAF)


ATTACH = """
import os, signal, sys, time
user, *descriptors = map(int, sys.argv[1:])
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
for descriptor in descriptors:
    os.write(descriptor, b"0")

def tell(*words):
    print(*words, flush=True)

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""

# A worker: makes a group, starts a process in it that outlives it, and waits.
WORKER = """
import os, signal, sys
from pathlib import Path
from runapp.runner.metering.cgroups import find_cgroups

group = find_cgroups(mountinfo=Path(sys.argv[1])).make_group()
procs = group.open_procs()
ready, told = os.pipe()
if os.fork() == 0:
    for descriptor in procs:
        os.write(descriptor, b"0")
    os.write(told, b"1")
    os.closerange(0, 1000)
    while True:
        signal.pause()
os.read(ready, 1)
print(*group.folders, flush=True)
sys.stdin.read()
"""

ROOT = Path(__file__).resolve().parents[2]


class Start(Protocol):
    """Starts a child that joins a group and then runs a script."""

    def __call__(self, group: Group, script: str, user: int = 0) -> subprocess.Popen[str]: ...


def write_hybrid(path: Path) -> Path:
    """Show the host as it would be if v1 had no clock, so that the v2 tree must serve it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    hidden = [line for line in lines if " - cgroup " in line and "cpuacct" in line.split(" - ")[1]]
    path.write_text("\n".join(line for line in lines if line not in hidden))
    return path


@pytest.fixture(params=["host", "hybrid"])
def mountinfo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "hybrid":
        return write_hybrid(tmp_path / "mountinfo")
    return Path("/proc/self/mountinfo")


@pytest.fixture
def host(mountinfo: Path) -> Cgroups:
    return find_cgroups(mountinfo=mountinfo)


@pytest.fixture
def group(host: Cgroups) -> Iterator[Group]:
    group = host.make_group()
    yield group
    assert group.kill()
    assert group.remove()


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[subprocess.Popen[str]] = []

    def start_child(group: Group, script: str, user: int = 0) -> subprocess.Popen[str]:
        procs = group.open_procs()
        command = [sys.executable, "-S", "-c", ATTACH + textwrap.dedent(script)]
        command += map(str, (user, *procs))
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, pass_fds=procs, stdin=pipe, stdout=pipe, text=True)
        children.append(child)
        for descriptor in procs:
            os.close(descriptor)
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate(timeout=DEADLINE_SECONDS)


def need(cgroups: Cgroups, *names: str) -> None:
    """Skip what this host cannot try, with the reason that an operator would be told."""
    if missing := [name for name in names if getattr(cgroups, name) is None]:
        pytest.skip(f"no {', '.join(missing)}: {' '.join(cgroups.reasons)}")


def wait_until(condition: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.005)


def hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def read_memory(group: Group) -> MemoryReading:
    reading = group.read_memory()
    assert reading is not None
    return reading


def test_host_probe_leaves_nothing(host: Cgroups) -> None:
    if not host:
        pytest.skip(" ".join(host.reasons))
    own = "-".join(name_group().split("-")[:-1])

    assert host.describe().startswith("cgroup v")
    assert not [path for top in find_tops(host) for path in top.rglob(f"{own}-*")]


def find_tops(cgroups: Cgroups) -> set[Path]:
    places = (cgroups.memory, cgroups.pids, cgroups.cpu, cgroups.cpuacct)
    return {place.top for place in places if place is not None}


def test_child_without_privileges_joins(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "cpuacct")
    if os.geteuid() != 0:
        pytest.skip("only root can give up privileges")

    child = start(group, "tell(os.geteuid()); sys.stdin.read()", user=65534)

    assert hear(child) == "65534"
    assert [list_pids(folder) for folder in group.folders] == [[child.pid]] * len(group.folders)


def test_child_that_holds_memory_shows_in_the_peak(
    host: Cgroups, group: Group, start: Start
) -> None:
    need(host, "memory")

    child = start(group, "held = b'x' * (100 << 20); tell('held'); sys.stdin.read()")
    hear(child)

    reading = read_memory(group)
    if reading.peak_bytes is not None:
        assert 100 * MB <= reading.peak_bytes <= 105 * MB + 4 * MB
    assert 99 * MB <= reading.anon_bytes <= reading.usage_bytes + MB
    assert reading.shmem_bytes < MB


def test_reset_peak_begins_a_new_one(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "memory")
    child = start(group, "held = b'x' * (100 << 20); del held; tell('freed'); sys.stdin.read()")
    hear(child)

    is_reset = group.reset_peak()

    peak = read_memory(group).peak_bytes
    if is_reset:
        assert peak is not None
        assert peak < 50 * MB
    else:
        assert host.memory is not None
        assert host.memory.version == 2, "v1 has always known how"
        assert peak is None or peak >= 100 * MB


def test_tmpfs_is_not_page_cache(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "memory")
    child = start(
        group, "os.write(os.memfd_create('m'), b'x' * (30 << 20)); tell(1); sys.stdin.read()"
    )
    hear(child)

    wait_until(lambda: read_memory(group).shmem_bytes >= 30 * MB, what="the kernel's statistics")

    reading = read_memory(group)
    assert reading.shmem_bytes < 31 * MB
    assert reading.file_bytes < 10 * MB


def test_child_over_the_limit_is_killed_and_counted(
    host: Cgroups, group: Group, start: Start
) -> None:
    need(host, "memory")
    assert group.limit_memory(50 * MB)
    assert group.count_oom_kills() == 0

    child = start(group, "held = b'x' * (100 << 20); tell('held')")

    assert child.wait(DEADLINE_SECONDS) == -9
    wait_until(lambda: (group.count_oom_kills() or 0) >= 1, what="the count")
    # The limit may be raised and lowered again.
    assert group.limit_memory(200 * MB)
    assert group.limit_memory(100 * MB)


def test_child_below_the_limit_is_not_killed(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "memory")
    assert group.limit_memory(200 * MB)

    child = start(group, "held = b'x' * (100 << 20); tell('held')")

    assert hear(child) == "held"
    assert child.wait(DEADLINE_SECONDS) == 0
    assert group.count_oom_kills() == 0


def test_cpu_of_a_child_and_of_an_orphan_count(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "cpuacct")
    script = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if os.fork() == 0:
            if os.fork() == 0:
                burn(0.3)
            os._exit(0)
        burn(0.3)
        """

    child = start(group, script)

    assert child.wait(DEADLINE_SECONDS) == 0
    wait_until(lambda: group.list_pids() == [], what="the orphan's end")
    cpu_seconds = group.read_cpu_seconds()
    assert cpu_seconds is not None
    assert 0.58 <= cpu_seconds <= 0.9


def test_forks_beyond_the_limit_are_refused_and_counted(
    host: Cgroups, group: Group, start: Start
) -> None:
    need(host, "pids")
    assert group.limit_processes(5)
    script = """
        n_refused = 0
        for _ in range(10):
            try:
                if os.fork() == 0:
                    signal.pause()
            except BlockingIOError:
                n_refused += 1
        tell(n_refused)
        sys.stdin.read()
        """

    child = start(group, script)

    assert hear(child) == "6"
    assert group.count_refused_forks() == 6
    assert len(group.list_pids()) == 5
    assert group.kill()
    assert group.list_pids() == []
    assert child.wait(DEADLINE_SECONDS) == -9
    assert group.count_refused_forks() == 6


def test_kill_ends_what_forks_without_end(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "pids")
    group.limit_processes(40)
    script = """
        while True:
            try:
                if os.fork() == 0 and os.fork():
                    os._exit(0)
            except BlockingIOError:
                pass
        """
    start(group, script)
    wait_until(lambda: (group.count_refused_forks() or 0) > 0, what="a full group")

    assert group.kill(seconds=DEADLINE_SECONDS)

    assert group.list_pids() == []


def test_remove_waits_for_the_last_process(host: Cgroups, group: Group, start: Start) -> None:
    need(host, "cpuacct")
    child = start(group, "tell('here'); sys.stdin.read()")
    hear(child)

    assert not group.remove(seconds=0)

    assert group.kill()
    assert group.remove()
    assert group.remove()
    assert not [folder for folder in group.folders if folder.exists()]


def test_remove_closes_what_it_opened(host: Cgroups) -> None:
    need(host, "cpuacct")
    n_open = len(os.listdir("/proc/self/fd"))
    group = host.make_group()
    assert len(os.listdir("/proc/self/fd")) > n_open

    assert group.remove()

    assert len(os.listdir("/proc/self/fd")) == n_open
    assert group.read_cpu_seconds() is None


def test_sweep_takes_the_group_of_a_killed_worker_only(host: Cgroups, mountinfo: Path) -> None:
    need(host, "cpuacct")
    dead, living = start_worker(mountinfo), start_worker(mountinfo)
    dead_folders, living_folders = hear_folders(dead), hear_folders(living)
    assert all(list_pids(folder) for folder in dead_folders)
    # Waited for or not, it is dead.
    dead.kill()
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)

    host.sweep()

    assert not [folder for folder in dead_folders if folder.exists()]
    assert all(list_pids(folder) for folder in living_folders)
    end(dead)
    end(living)
    host.sweep()
    assert not [folder for folder in living_folders if folder.exists()]


def test_sweeps_at_once_do_not_disturb_each_other(host: Cgroups, mountinfo: Path) -> None:
    need(host, "cpuacct")
    workers = [start_worker(mountinfo) for _ in range(3)]
    folders = [folder for worker in workers for folder in hear_folders(worker)]
    for worker in workers:
        end(worker)
    failures: list[BaseException] = []

    def sweep() -> None:
        try:
            host.sweep()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)

    assert failures == []
    assert not [folder for folder in folders if folder.exists()]


def start_worker(mountinfo: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(mountinfo)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)


def hear_folders(worker: subprocess.Popen[str]) -> list[Path]:
    return list(map(Path, hear(worker).split()))


def end(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.communicate(timeout=DEADLINE_SECONDS)
