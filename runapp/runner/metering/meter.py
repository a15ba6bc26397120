"""What a run uses, read from outside of it: by its cgroup where there is one, else from /proc.

A cgroup misses nothing: it counts what has ended, what ignores its children and what no process
has mapped. `measured_by` says which of the two made a figure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from runapp.runner.metering.cgroup import Group, MemoryReading
from runapp.runner.metering.proc_meter import TreeCpu, TreeMemory
from runapp.runner.metering.process_tree import ProcessTree

_BATCH_BYTES = 64 * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """What a run uses at a moment: CPU so far, peak of the stage so far, processes now."""

    cpu_seconds: float
    peak_bytes: int | None
    n_processes: int


@dataclass(frozen=True)
class Setup:
    """What a child says that it had used before participant code begins.

    Parameters
    ----------
    private_bytes : int
        Memory that it has of its own.
    cpu_seconds : float
        Since its fork.
    """

    private_bytes: int
    cpu_seconds: float


class GroupCpu:
    """CPU seconds of a cgroup.

    Parameters
    ----------
    group : Group
        Of the run alone, with a CPU account.
    """

    measured_by = "cgroup"

    def __init__(self, *, group: Group) -> None:
        self._group = group
        self._setup_seconds = 0.0

    def start(self) -> None:
        """Begin; what the child used in the group before that is not counted."""
        self._setup_seconds = self._group.read_cpu_seconds() or 0.0

    def read(self) -> float:
        """Return user plus system seconds of everything that was ever in the group."""
        return max((self._group.read_cpu_seconds() or 0.0) - self._setup_seconds, 0.0)

    def finish(self, *, reaped_seconds: float) -> float:
        """Return the total of a finished run."""
        return self.read()


class GroupMemory:
    """Peak memory of a cgroup, apart from the page cache of files.

    Parameters
    ----------
    group : Group
        Of the run alone, with a memory account.

    Notes
    -----
    The kernel keeps the peak of all that is charged, the cache of whatever files the run was the
    first to read included. That cache is still there at a look, and is taken off; what was
    anonymous or in the run's own file system at any look is a lower bound. Pages are charged in
    batches of 64 (MEMCG_CHARGE_BATCH), so less than one batch is told as one.
    """

    measured_by = "cgroup, without the cache of files"

    def __init__(self, *, group: Group) -> None:
        self._group = group
        self._base = MemoryReading(0, None, 0, 0, 0)
        self._highest_seen = 0

    def start(self) -> int:
        """Begin, and return the bytes that the group holds already and that are not counted."""
        self._base = self._group.read_memory() or self._base
        self._group.reset_peak()
        return self._base.usage_bytes

    def read_peak(self) -> int | None:
        """Return the peak of the stage in bytes."""
        now = self._group.read_memory()
        if now is None:
            return None
        seen = _count_own(now) - _count_own(self._base)
        self._highest_seen = max(self._highest_seen, seen)
        if now.peak_bytes is None:
            return max(self._highest_seen, _BATCH_BYTES)
        cache = max(now.file_bytes - self._base.file_bytes, 0)
        peak = now.peak_bytes - self._base.usage_bytes - cache
        return max(peak, self._highest_seen, _BATCH_BYTES)

    read_peak_closely = read_peak

    def start_stage(self) -> None:
        """Forget the peak so far, where the kernel can; else the next is "so far"."""
        if self._group.reset_peak():
            self._highest_seen = 0


class Meter:
    """Reads what a run uses, by the best means that its host offers.

    Parameters
    ----------
    tree : ProcessTree
        The run's processes.
    group : Group
        The run's cgroup, which may lack either account.
    memory_bytes : int
        The run's memory limit.
    """

    def __init__(self, *, tree: ProcessTree, group: Group, memory_bytes: int) -> None:
        self._tree = tree
        self._group = group
        self._memory_bytes = memory_bytes
        self._cpu: GroupCpu | TreeCpu = (
            TreeCpu(tree=tree) if group.read_cpu_seconds() is None else GroupCpu(group=group)
        )
        self._memory: GroupMemory | TreeMemory = (
            TreeMemory(tree=tree) if group.read_memory() is None else GroupMemory(group=group)
        )

    @property
    def measured_by(self) -> str:
        """How the figures were made, for whoever reads them."""
        return name_meters(self._cpu.measured_by, self._memory.measured_by)

    def start(self, *, setup: Setup) -> None:
        """Begin, while the child waits: what it had and used until now is not counted."""
        if isinstance(self._cpu, GroupCpu):
            self._cpu.start()
        else:
            self._cpu.start(setup_seconds=setup.cpu_seconds)
        if isinstance(self._memory, GroupMemory):
            held = self._memory.start()
            self._group.limit_memory(held + self._memory_bytes)
        else:
            self._memory.start(setup_bytes=setup.private_bytes)

    def sample(self) -> Sample:
        """Look at the run as it is now, without keeping it from running."""
        return self._sample(self._memory.read_peak())

    def sample_closely(self) -> Sample:
        """Look at the run while it waits for leave to go on."""
        return self._sample(self._memory.read_peak_closely())

    def read_cpu_seconds(self) -> float:
        """Return user plus system seconds of everything that the run has started so far."""
        return self._cpu.read()

    def finish_cpu_seconds(self, *, reaped_seconds: float) -> float:
        """Return the total of a finished run; `reaped_seconds` is what its keeper counted."""
        return self._cpu.finish(reaped_seconds=reaped_seconds)

    def start_stage(self) -> None:
        """Forget the peak so far, where the kernel can; else the next is "so far"."""
        self._memory.start_stage()

    def is_out_of_memory(self) -> bool:
        """Tell whether the kernel has killed something of the run at its memory limit."""
        return bool(self._group.count_oom_kills())

    def count_refused_forks(self) -> int:
        """Return how often the kernel refused a process or thread beyond the limit."""
        return self._group.count_refused_forks() or 0

    def _sample(self, peak_bytes: int | None) -> Sample:
        return Sample(
            cpu_seconds=self._cpu.read(),
            peak_bytes=peak_bytes,
            n_processes=len(self._tree.list_pids()),
        )


def name_meters(cpu: str, memory: str) -> str:
    """Say how figures are made."""
    return f"cpu: {cpu}; memory: {memory}"


def _count_own(reading: MemoryReading) -> int:
    return reading.anon_bytes + reading.shmem_bytes
