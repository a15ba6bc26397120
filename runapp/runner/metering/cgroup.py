"""The control group of one run: its limits, its usage read from outside, its end.

Names of files and their meaning: Documentation/admin-guide/cgroup-v1/memory.rst, pids.rst and
cpuacct.rst, Documentation/admin-guide/cgroup-v2.rst. Both layouts are read by one code; tables
hold what differs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runapp.runner.metering.cgroup_mounts import Controller, Place, list_pids, write_file
from runapp.runner.metering.process_tree import KILL_SECONDS, LOOK_SECONDS

REMOVE_SECONDS = 5.0
# Larger than any of the files that are read.
_READ_BYTES = 65536


@dataclass(frozen=True)
class MemoryReading:
    """What a group holds now, and the most it has held; `None` where the kernel does not say."""

    usage_bytes: int
    peak_bytes: int | None
    anon_bytes: int
    shmem_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class _MemoryNames:
    usage: str
    peak: str
    events: str
    anon: str
    shmem: str
    cache: str


_MEMORY_NAMES = {
    # The totals of v1 include groups below, as the figures of v2 always do.
    1: _MemoryNames(
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        events="memory.oom_control",
        anon="total_rss",
        shmem="total_shmem",
        cache="total_cache",
    ),
    2: _MemoryNames(
        usage="memory.current",
        peak="memory.peak",
        events="memory.events",
        anon="anon",
        shmem="shmem",
        cache="file",
    ),
}
_LOW_WEIGHTS = {1: ("cpu.shares", 128), 2: ("cpu.weight", 12)}
_CPU_NAMES = {1: "cpuacct.usage", 2: "cpu.stat"}


class Group:
    """The group of one run; made by `Cgroups.make_group`.

    What a missing controller would measure is `None`, what it would limit is not limited.

    Parameters
    ----------
    places : Mapping
        The group's own folder for each controller; they exist.
    """

    def __init__(self, *, places: Mapping[Controller, Place]) -> None:
        self._places = dict(places)
        self.folders = list_folders(places)
        self._n_refused: int | None = None
        # Read every few milliseconds while a run lives, so each is opened once.
        self._files: dict[str, int] = {}
        try:
            self._open_files()
        except OSError:
            self._close_files()
            raise

    def open_procs(self) -> list[int]:
        """Open what a process joins the group by: it writes b"0" to each of them.

        Returns
        -------
        list of int
            Descriptors that are closed on exec unless passed on; the caller closes them.

        Notes
        -----
        The kernel asks whether the one who opened the file may move processes, so a child that
        has given up its privileges can still join.
        """
        flags = os.O_WRONLY | os.O_CLOEXEC
        return [os.open(folder / "cgroup.procs", flags) for folder in self.folders]

    def limit_memory(self, n_bytes: int) -> bool:
        """Limit anonymous memory, page cache, tmpfs and kernel memory of the group together.

        Parameters
        ----------
        n_bytes : int
            The kernel rounds it down to whole pages. Swap is not allowed besides, where the
            kernel counts it.

        Returns
        -------
        bool
            Whether there is a memory controller.

        Raises
        ------
        OSError
            When the group holds more already and cannot give it back (EBUSY, v1 only).

        Notes
        -----
        Over the limit v2 kills the whole group (`memory.oom.group`), v1 one process of it.
        """
        place = self._places.get(Controller.MEMORY)
        if place is None:
            return False
        if place.version == 1:
            _limit_memory_v1(place.folder, n_bytes)
        else:
            _limit_memory_v2(place.folder, n_bytes)
        return True

    def limit_processes(self, n_processes: int) -> bool:
        """Limit how many processes and threads the group has at a time.

        Returns
        -------
        bool
            Whether there is a pids controller.

        Notes
        -----
        Joining is not refused, only fork(2) and clone(2) are:
        Documentation/admin-guide/cgroup-v1/pids.rst.
        """
        place = self._places.get(Controller.PIDS)
        if place is None:
            return False
        write_file(place.folder / "pids.max", str(n_processes))
        return True

    def lower_weight(self) -> bool:
        """Let the group have an eighth of what others get where processors are scarce.

        What answers requests and records results is then as quick while runs train as when none
        does, and runs lose nothing that they do not have to share.

        Returns
        -------
        bool
            Whether there is a cpu controller.

        Notes
        -----
        `cpu.shares` of v1, 1024 by default (Documentation/scheduler/sched-design-CFS.rst), and
        `cpu.weight` of v2, 100 by default. A weight counts among the groups of one parent.
        """
        place = self._places.get(Controller.CPU)
        if place is None:
            return False
        name, weight = _LOW_WEIGHTS[place.version]
        write_file(place.folder / name, str(weight))
        return True

    def read_cpu_seconds(self) -> float | None:
        """Return user plus system seconds of all processes that are or were in the group."""
        text = self._read("cpu")
        if text is None:
            return None
        if self._places[Controller.CPUACCT].version == 1:
            return int(text) / 1e9  # cgroup-v1/cpuacct.rst: nanoseconds
        return _parse(text)["usage_usec"] / 1e6

    def read_memory(self) -> MemoryReading | None:
        """Return what the group holds, by kind.

        Notes
        -----
        `memory.stat` of both documents. Usage and peak include kernel memory, and page cache of
        files that the group was first to read. The kernel charges in batches of 64 pages for each
        processor and brings the kinds up to date with as much delay, so they need not sum up.
        """
        usage, stat = self._read("usage"), self._read("stat")
        if usage is None or stat is None:
            return None
        names = _MEMORY_NAMES[self._places[Controller.MEMORY].version]
        peak, kinds = self._read("peak"), _parse(stat)
        shmem_bytes = kinds.get(names.shmem, 0)
        return MemoryReading(
            usage_bytes=int(usage),
            peak_bytes=None if peak is None else int(peak),
            anon_bytes=kinds[names.anon],
            shmem_bytes=shmem_bytes,
            # Both layouts count tmpfs as cache.
            file_bytes=max(kinds[names.cache] - shmem_bytes, 0),
        )

    def reset_peak(self) -> bool:
        """Begin a new peak at what the group holds now.

        Returns
        -------
        bool
            False where the kernel cannot, and the peak goes on being that of the whole run.

        Notes
        -----
        In v2 the reset is Linux 6.12's and holds for the descriptor it was written to, which is
        the one that `read_memory` reads.
        """
        try:
            return "peak" in self._files and os.pwrite(self._files["peak"], b"0", 0) > 0
        except OSError:
            return False

    def count_oom_kills(self) -> int | None:
        """Return how many processes the kernel has killed for want of memory in the group."""
        text = self._read("events")
        return None if text is None else _parse(text).get("oom_kill")

    def count_refused_forks(self) -> int | None:
        """Return how often the limit of processes has refused a new one, until `kill`.

        Notes
        -----
        `max` of `pids.events`. What the limit of an outer group refuses is counted there since
        Linux 6.11 (v2), here before and in v1.
        """
        if self._n_refused is not None:
            return self._n_refused
        text = self._read("refusals")
        return None if text is None else _parse(text).get("max")

    def list_pids(self) -> list[int]:
        """Return the processes that are in the group in any hierarchy."""
        return _list_pids(self.folders)

    def kill(self, *, seconds: float = KILL_SECONDS) -> bool:
        """Kill every process in the group, however fast it forks; the group admits no new one.

        Parameters
        ----------
        seconds : float, optional
            How long to wait for their end.

        Returns
        -------
        bool
            Whether the group is empty; True where there is no group, so nobody to kill.
        """
        # Stopping the forks makes the kernel count refusals that are none of the run's doing.
        self._n_refused = self.count_refused_forks()
        return kill_processes(self.folders, seconds=seconds)

    def remove(self, *, seconds: float = REMOVE_SECONDS) -> bool:
        """Close the group's files and remove it; what is gone already is a success.

        Parameters
        ----------
        seconds : float, optional
            How long to wait for processes that are ending (EBUSY).

        Returns
        -------
        bool
            Whether the group is gone from every hierarchy.
        """
        self._close_files()
        return remove_folders(self.folders, seconds=seconds)

    def _open_files(self) -> None:
        if memory := self._places.get(Controller.MEMORY):
            names = _MEMORY_NAMES[memory.version]
            self._open("usage", memory.folder / names.usage)
            self._open("stat", memory.folder / "memory.stat")
            self._open("events", memory.folder / names.events)
            self._open_peak(memory.folder / names.peak)
        if cpuacct := self._places.get(Controller.CPUACCT):
            self._open("cpu", cpuacct.folder / _CPU_NAMES[cpuacct.version])
        if pids := self._places.get(Controller.PIDS):
            self._open("refusals", pids.folder / "pids.events", optional=True)

    def _open_peak(self, path: Path) -> None:
        try:
            self._open("peak", path, flags=os.O_RDWR, optional=True)
        except OSError:
            # Not for writing before Linux 6.12, and not there at all in v2 before 5.19.
            self._open("peak", path, optional=True)

    def _open(
        self, key: str, path: Path, *, flags: int = os.O_RDONLY, optional: bool = False
    ) -> None:
        try:
            self._files[key] = os.open(path, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            if not optional:
                raise

    def _read(self, key: str) -> bytes | None:
        descriptor = self._files.get(key)
        return None if descriptor is None else os.pread(descriptor, _READ_BYTES, 0)

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])


def list_folders(places: Mapping[Controller, Place]) -> list[Path]:
    """Return the folders of a group; controllers that share a hierarchy share one."""
    return list(dict.fromkeys(place.folder for place in places.values()))


def _parse(text: bytes) -> dict[str, int]:
    """Read lines of a name and a number, the "flat keyed" form of cgroup-v2.rst."""
    pairs = (line.split() for line in text.decode().splitlines())
    return {name: int(value) for name, value in pairs}


def _limit_memory_v1(folder: Path, n_bytes: int) -> None:
    plain, with_swap = folder / "memory.limit_in_bytes", folder / "memory.memsw.limit_in_bytes"
    files = [plain]
    if with_swap.exists():
        # The limit with swap may at no moment be the lower one: memory.rst, "Swap Extension".
        is_raised = n_bytes > int(with_swap.read_bytes())
        files = [with_swap, plain] if is_raised else [plain, with_swap]
    for file in files:
        write_file(file, str(n_bytes))
    _write_if_there(folder / "memory.swappiness", "0")


def _limit_memory_v2(folder: Path, n_bytes: int) -> None:
    write_file(folder / "memory.max", str(n_bytes))
    # Missing without swap in the kernel, and before Linux 4.19.
    _write_if_there(folder / "memory.swap.max", "0")
    _write_if_there(folder / "memory.oom.group", "1")


def _write_if_there(path: Path, text: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        write_file(path, text)
        return True
    return False


def _list_pids(folders: Iterable[Path]) -> list[int]:
    return sorted({pid for folder in folders for pid in list_pids(folder)})


def kill_processes(folders: Sequence[Path], *, seconds: float) -> bool:
    """Kill what is in any of the folders and stop it from forking; tell whether they are empty."""
    deadline = time.monotonic() + seconds
    _kill_at_once(folders)
    while pids := _list_pids(folders):
        if time.monotonic() > deadline:
            return False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    return True


def _kill_at_once(folders: Sequence[Path]) -> None:
    for folder in folders:
        # Gone, or the file is newer than the kernel: the processes are then killed by number,
        # and without forks their number only falls.
        with contextlib.suppress(OSError):
            _write_if_there(folder / "pids.max", "0")
        with contextlib.suppress(OSError):
            # Linux 5.14, cgroup-v2.rst: forks and moves in progress do not escape it.
            _write_if_there(folder / "cgroup.kill", "1")


def remove_folders(folders: Sequence[Path], *, seconds: float) -> bool:
    """Remove the folders of a group, each as soon as it is empty; tell whether all are gone."""
    deadline = time.monotonic() + seconds
    waiting = list(folders)
    while waiting := [folder for folder in waiting if not _remove_folder(folder)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _remove_folder(folder: Path) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
