"""What a run uses, sampled from /proc: for hosts that lend no cgroup.

The CPU total of a finished run then comes from the keeper, which waits for every process of the
tree (getrusage(2), RUSAGE_CHILDREN); what this module reads while the run lives serves the stages
and the limits. A program that ignores SIGCHLD hides its children from both, so the figures are a
lower bound.
"""

from __future__ import annotations

import contextlib
import os
import time

from runapp.runner.metering.process_tree import ProcessTree

_TICKS = os.sysconf("SC_CLK_TCK")


class TreeCpu:
    """CPU seconds of a tree of processes.

    Parameters
    ----------
    tree : ProcessTree
        The run's processes.
    """

    measured_by = "rusage of the tree"

    def __init__(self, *, tree: ProcessTree) -> None:
        self._tree = tree
        self._setup_seconds = 0.0
        self._last_seconds = 0.0

    def start(self, *, setup_seconds: float) -> None:
        """Begin; what the child used before the first participant byte is not counted."""
        self._setup_seconds = setup_seconds

    def read(self) -> float:
        """Return user plus system seconds of everything that the run has started so far."""
        # What has ended and was not waited for by its parent waits for the keeper, and still has
        # its clock.
        seconds = sum(map(_read_cpu, self._tree.list_pids())) - self._setup_seconds
        self._last_seconds = max(self._last_seconds, seconds)
        return self._last_seconds

    def finish(self, *, reaped_seconds: float) -> float:
        """Return the total of a finished run; `reaped_seconds` is the keeper's own count."""
        # A namespace that is killed may hide from the keeper what was seen while it lived.
        return max(reaped_seconds - self._setup_seconds, self._last_seconds)


class TreeMemory:
    """Peak memory of a tree of processes.

    Parameters
    ----------
    tree : ProcessTree
        The run's processes.
    """

    measured_by = "private pages and peak, children sampled"

    def __init__(self, *, tree: ProcessTree) -> None:
        self._tree = tree
        self._setup_bytes = 0
        self._copied_bytes = 0
        self._peak_bytes: int | None = None

    def start(self, *, setup_bytes: int) -> None:
        """Begin; what the child had before the first participant byte is not counted."""
        self._setup_bytes = setup_bytes

    def read_peak(self) -> int | None:
        """Look at the run as it is now; return the peak of the stage in bytes.

        This look is quick and sees what the first process has grown by. Of the pages that it
        shared with its keeper and has since written to, it knows those that the close look saw.
        """
        pids = self._tree.list_pids()
        if len(pids) > 1:
            return self._keep(self._read_joint_peak(pids))
        grown = _read_growth(self._tree.pid, self._setup_bytes) or 0
        # Nothing seen so far is not "nothing used".
        return self._keep((grown + self._copied_bytes) or None)

    def read_peak_closely(self) -> int | None:
        """Look at every page of the run, which takes milliseconds in which the run has to wait."""
        pids = self._tree.list_pids()
        if len(pids) > 1:
            return self._keep(self._read_joint_peak(pids))
        held = _read_private_peak(self._tree.pid)
        grown = _read_growth(self._tree.pid, self._setup_bytes)
        if held is not None and grown is not None:
            self._copied_bytes = max(held - grown, 0)
        return self._keep(held)

    def start_stage(self) -> None:
        """Forget the peak so far, where the kernel can; else the next is "so far"."""
        with contextlib.suppress(OSError), open(f"/proc/{self._tree.pid}/clear_refs", "wb") as file:
            # "5" sets the peak back to what is resident now: proc(5), /proc/pid/clear_refs.
            file.write(b"5")
            self._peak_bytes = None

    def _keep(self, held: int | None) -> int | None:
        if held is not None:
            self._peak_bytes = max(self._peak_bytes or 0, held)
        return self._peak_bytes

    def _read_joint_peak(self, pids: list[int]) -> int:
        """Count each page that several processes hold once, and the keeper's not at all.

        The proportional sets of all who share a page sum up to that page.
        """
        keeper = self._tree.keeper
        shared = sum(_read_proportional(pid) for pid in (keeper, *pids))
        own = _read_sizes(f"/proc/{self._tree.pid}/status")
        given_back = max(own.get(b"VmHWM", 0) - own.get(b"VmRSS", 0), 0)
        return (
            max(shared - _read_sizes(f"/proc/{keeper}/status").get(b"RssAnon", 0), 0) + given_back
        )


def _read_cpu(pid: int) -> float:
    try:
        # The clock of another process has nanoseconds, /proc/pid/stat ticks of 10 ms. The id is
        # built as clock_getcpuclockid(3) does.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        own = 0.0
    return own + _read_reaped_cpu(pid)


def _read_reaped_cpu(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    # cutime and cstime, fields 16 and 17 of proc(5); the list starts at field 3.
    return (int(fields[13]) + int(fields[14])) / _TICKS


def _read_growth(pid: int, setup_bytes: int) -> int | None:
    sizes = _read_sizes(f"/proc/{pid}/status")
    if b"VmHWM" not in sizes:
        return None
    # The kernel keeps the peak of all pages; those that map files are no memory of the run's own.
    return max(sizes[b"VmHWM"] - sizes.get(b"RssFile", 0) - setup_bytes, 0)


def _read_private_peak(pid: int) -> int | None:
    private = _read_sizes(f"/proc/{pid}/smaps_rollup").get(b"Private_Dirty")
    sizes = _read_sizes(f"/proc/{pid}/status")
    if private is None or b"VmHWM" not in sizes:
        return None
    # What is the run's own now, plus what it had beyond that and has given back.
    return private + max(sizes[b"VmHWM"] - sizes[b"VmRSS"], 0)


def _read_proportional(pid: int) -> int:
    sizes = _read_sizes(f"/proc/{pid}/smaps_rollup")
    return sizes.get(b"Pss_Anon", 0) + sizes.get(b"Pss_Shmem", 0)


def _read_sizes(path: str) -> dict[bytes, int]:
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(b":") for line in lines if line.endswith(b" kB"))
    return {name: int(value.split()[0]) * 1024 for name, _, value in pairs}
