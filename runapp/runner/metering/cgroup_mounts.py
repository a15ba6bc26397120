"""Where this process may make control groups, found by trying.

A controller is served by one hierarchy: a v1 mount of its own, one shared with others, or the one
v2 tree. Which files work depends on the kernel, on what a container's mounts show and on what the
service manager has handed over, so each place is tried with a group that is removed again. See
cgroups(7), Documentation/admin-guide/cgroup-v1/ and Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path

from runapp.runner.metering.mountinfo import unescape

# The worker lives here, by being moved or by systemd's DelegateSubgroup=, so that the v2 group
# above has no processes of its own and may have children with limits.
LEAF = "datarun-worker"
# A process that forks without end is not followed for ever.
_MOVE_ROUNDS = 10

# The types of file system that proc(5) names.
_VERSIONS = {"cgroup": 1, "cgroup2": 2}

_SERIALS = count()
_NAME = re.compile(r"datarun-(\d+)-(\d+)-(\d+)-\d+")


class Controller(StrEnum):
    """What a group can measure or limit; `CPUACCT` stands for the CPU clock in v2 as well."""

    MEMORY = "memory"
    PIDS = "pids"
    CPU = "cpu"
    CPUACCT = "cpuacct"


@dataclass(frozen=True)
class Place:
    """A folder of a cgroup hierarchy: `version` is 1 or 2, `top` the mount that holds it."""

    version: int
    folder: Path
    top: Path


@dataclass(frozen=True)
class Survey:
    """What can be used, and a sentence for an operator about each controller that cannot."""

    places: Mapping[Controller, Place]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Mount:
    version: int
    options: frozenset[str]
    root: str
    folder: Path


class _Refused(Exception):
    """A place does not serve a controller; the text says why and what an operator can do."""


# What a group must have, and how each file must open.
_NEEDED: dict[tuple[Controller, int], dict[str, int]] = {
    (Controller.MEMORY, 1): {
        "memory.limit_in_bytes": os.O_WRONLY,
        "memory.usage_in_bytes": os.O_RDONLY,
        "memory.stat": os.O_RDONLY,
        "memory.oom_control": os.O_RDONLY,
    },
    (Controller.MEMORY, 2): {
        "memory.max": os.O_WRONLY,
        "memory.current": os.O_RDONLY,
        "memory.stat": os.O_RDONLY,
        "memory.events": os.O_RDONLY,
    },
    (Controller.PIDS, 1): {"pids.max": os.O_WRONLY},
    (Controller.PIDS, 2): {"pids.max": os.O_WRONLY},
    (Controller.CPU, 1): {"cpu.shares": os.O_WRONLY},
    (Controller.CPU, 2): {"cpu.weight": os.O_WRONLY},
    (Controller.CPUACCT, 1): {"cpuacct.usage": os.O_RDONLY},
    # There without any controller: cgroup-v2.rst, "CPU Interface Files".
    (Controller.CPUACCT, 2): {"cpu.stat": os.O_RDONLY},
}


def survey_host(*, may_move: bool, mountinfo: Path, own_groups: Path) -> Survey:
    """Find the place for each controller.

    Parameters
    ----------
    may_move : bool
        Whether the processes of this process's own v2 group may be moved into a group below it.
    mountinfo : Path
        What this process sees mounted, as /proc/self/mountinfo of proc(5).
    own_groups : Path
        The groups of this process, as /proc/self/cgroup of cgroups(7).

    Returns
    -------
    Survey
        Empty with reasons where there is nothing to use; it does not raise.
    """
    try:
        mounts = list(_read_mounts(mountinfo))
        groups = _read_groups(own_groups)
    except OSError as error:
        return Survey({}, (f"This system shows no cgroups: {_explain(error)}.",))
    places, reasons = {}, []
    for controller in Controller:
        candidates = _list_candidates(controller, mounts, groups)
        try:
            places[controller] = _choose(controller, candidates, may_move=may_move)
        except _Refused as refusal:
            reasons.append(f"{controller}: {refusal}.")
    return Survey(places, tuple(reasons))


def name_group() -> str:
    """Return a name that no other group has, and that tells who made it.

    It holds the inode of the pid namespace in which the number means something, the number and
    the start of the process (field 22 of /proc/self/stat, proc(5)), and a serial.
    """
    # Read each time: a worker that has forked is another owner. /proc says the number that others
    # who look into the same /proc will find.
    pid = os.readlink("/proc/self")
    start = _read_start(pid)
    return f"datarun-{_read_namespace()}-{pid}-{start}-{next(_SERIALS)}"


def is_left_over(name: str) -> bool:
    """Tell whether a group was made by a process of this pid namespace that has ended."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    namespace, pid, start = match.groups()
    return int(namespace) == _read_namespace() and _read_start(pid) != start


def write_file(path: Path, text: str) -> None:
    """Write to a file of the kernel; unlike `open`, never try to make it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        # write(2) does not know the name, and an operator needs it.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def list_pids(folder: Path) -> list[int]:
    """Return the processes of a group that this pid namespace can name.

    Notes
    -----
    The file is opened for each look: v1 may answer an open file with the list that it has kept
    from the last (kernel/cgroup/cgroup-v1.c, `cgroup_pidlist_start`).
    """
    try:
        pids = map(int, (folder / "cgroup.procs").read_bytes().split())
    except OSError:
        return []  # removed meanwhile
    # v2 shows a process of a foreign pid namespace as 0, which means "myself" to kill(2).
    return [pid for pid in pids if pid > 0]


def _read_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _read_start(pid: str) -> str | None:
    """Return when a process was started; None when it is dead, waited for or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    # state and starttime, fields 3 and 22 of proc(5); the list starts at field 3.
    return None if fields[0] in b"ZX" else fields[19].decode()


def _read_mounts(path: Path) -> Iterator[_Mount]:
    for line in path.read_text().splitlines():
        # The optional fields of proc(5) end with a lone hyphen.
        left, _, right = line.partition(" - ")
        kind, *_, options = right.split(" ")
        if kind in _VERSIONS:
            root, folder = map(unescape, left.split(" ")[3:5])
            yield _Mount(_VERSIONS[kind], frozenset(options.split(",")), root, Path(folder))


def _read_groups(path: Path) -> dict[str, str]:
    """Return the path of the own group by v1 controller, and that of v2 under the empty name."""
    lines = (line.split(":", 2) for line in path.read_text().splitlines())
    return {name: group for _, names, group in lines for name in names.split(",")}


def _list_candidates(
    controller: Controller, mounts: list[_Mount], groups: dict[str, str]
) -> list[Place]:
    joined = [mount for mount in mounts if mount.version == 1 and controller in mount.options]
    places = [_locate(mount, groups.get(controller)) for mount in joined]
    # What v1 holds, the v2 tree cannot have; but it has a clock of its own.
    if not joined or controller is Controller.CPUACCT:
        places += [_locate(mount, groups.get("")) for mount in mounts if mount.version == 2]
    return [place for place in places if place is not None]


def _locate(mount: _Mount, group: str | None) -> Place | None:
    """Find the own group below a mount, which may show a part of its hierarchy only."""
    if group is None:
        return None
    inner = os.path.relpath(group, mount.root)
    folder = mount.folder / inner
    if inner.startswith("..") or not folder.is_dir():
        return None
    if mount.version == 2 and folder.name == LEAF and folder != mount.folder:
        # Moved there, by this process or by the one that started it.
        folder = folder.parent
    return Place(mount.version, folder, mount.folder)


def _choose(controller: Controller, places: list[Place], *, may_move: bool) -> Place:
    reasons = []
    for place in places:
        try:
            if place.version == 2 and controller is not Controller.CPUACCT:
                _hand_down(controller, place.folder, may_move=may_move)
            _probe(controller, place)
        except OSError as error:
            reasons.append(f"no usable group can be made, {_explain(error)}")
        except _Refused as refusal:
            reasons.append(str(refusal))
        else:
            return place
    raise _Refused("; ".join(reasons) or "no mounted hierarchy shows the group of this process")


def _probe(controller: Controller, place: Place) -> None:
    # Named as a run's group is, so that a sweep takes it should this process be killed here.
    folder = place.folder / name_group()
    os.mkdir(folder, 0o755)
    try:
        needed = {"cgroup.procs": os.O_WRONLY, **_NEEDED[controller, place.version]}
        for name, flags in needed.items():
            os.close(os.open(folder / name, flags))
    finally:
        os.rmdir(folder)


def _hand_down(controller: Controller, folder: Path, *, may_move: bool) -> None:
    """Make the groups below `folder` have a controller: cgroup-v2.rst, "Enabling and Disabling"."""
    if controller not in (folder / "cgroup.controllers").read_text().split():
        raise _Refused(
            f"cgroup v2 does not offer it in {folder}; with systemd, set Delegate=yes for the"
            " worker's unit"
        )
    if controller in (folder / "cgroup.subtree_control").read_text().split():
        return
    # "No Internal Process Constraint" of cgroup-v2.rst; the root, which has no type, is exempt.
    if (folder / "cgroup.type").exists() and (folder / "cgroup.procs").read_bytes().strip():
        _empty(folder, may_move=may_move)
    write_file(folder / "cgroup.subtree_control", f"+{controller}")


def _empty(folder: Path, *, may_move: bool) -> None:
    if not may_move:
        raise _Refused(
            f"{folder} has processes of its own, so it cannot hand the controller down; start the"
            f" worker in {LEAF} below it (systemd: Delegate=yes and DelegateSubgroup={LEAF}), or"
            " allow it to move them there"
        )
    if not _is_delegated(folder):
        raise _Refused(
            f"{folder} is not the worker's own to arrange; with systemd, set Delegate=yes for the"
            " worker's unit"
        )
    _move(folder, folder / LEAF)


def _is_delegated(folder: Path) -> bool:
    """Tell whether `folder` was handed to us; root may write everywhere, which says nothing."""
    # The marks of systemd, for everyone and for root: https://systemd.io/CGROUP_DELEGATION/
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    # A container's own root: the kernel's has no type, and does not come here.
    if not (folder.parent / "cgroup.procs").exists():
        return True
    return os.geteuid() != 0 and os.access(folder, os.W_OK)


def _move(folder: Path, leaf: Path) -> None:
    # Another worker of the same unit may be doing the same.
    with contextlib.suppress(FileExistsError):
        os.mkdir(leaf, 0o755)
    for _ in range(_MOVE_ROUNDS):
        pids = list_pids(folder)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                write_file(leaf / "cgroup.procs", str(pid))


def _explain(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
