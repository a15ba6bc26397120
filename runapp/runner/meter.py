"""What a run uses, read from outside of it: CPU of the whole tree, peak memory, by sampling.

The CPU total of a finished run comes from the keeper, which waits for every process of the tree
(getrusage(2), RUSAGE_CHILDREN); what this module reads while the run lives serves the stages and
the limits. A program that ignores SIGCHLD hides its children from both, so the figures are a
lower bound; `MEASURED_BY` says how they were made.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

MEASURED_BY = "cpu: rusage of the tree; memory: private pages and peak, children sampled"

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class Meter:
    """Reads the tree below a keeper.

    Parameters
    ----------
    keeper : int
        The keeper's process number; orphans of the run become its children.
    pid : int
        The run's first process.
    """

    def __init__(self, *, keeper: int, pid: int) -> None:
        self._keeper = keeper
        self._pid = pid
        self._reaped_before = _read_reaped_cpu(keeper)
        self._baseline_bytes = 0
        self._peak_bytes: int | None = None

    def start(self, *, baseline_bytes: int) -> None:
        """Begin; `baseline_bytes` is what the child had from its keeper before its first byte."""
        self._baseline_bytes = baseline_bytes

    def read_cpu_seconds(self) -> float:
        """Return user plus system seconds of everything that the run has started so far."""
        reaped = max(_read_reaped_cpu(self._keeper) - self._reaped_before, 0.0)
        return reaped + sum(_read_cpu(pid) for pid in _list_descendants(self._keeper))

    def sample_memory(self) -> int | None:
        """Look at the memory now and return the peak so far, in bytes; None if nothing is left.

        This look is quick and sees what the first process has grown by; pages that it shared with
        its keeper and has since written to are counted at the end of a stage only.
        """
        return self._take_higher(_read_growth(self._pid, self._baseline_bytes))

    def take_peak(self) -> int | None:
        """Return the peak of the stage that ends now."""
        return self._take_higher(_read_private_peak(self._pid))

    def start_stage(self) -> None:
        """Forget the peak so far, where the kernel can; else the next is "so far"."""
        with contextlib.suppress(OSError):
            # "5" sets the peak back to what is resident now: proc(5), /proc/pid/clear_refs.
            (_PROC / str(self._pid) / "clear_refs").write_bytes(b"5")
            self._peak_bytes = None

    def _take_higher(self, own: int | None) -> int | None:
        if own is not None:
            others = sum(
                _read_shared_out_bytes(pid)
                for pid in _list_descendants(self._keeper)
                if pid != self._pid
            )
            self._peak_bytes = max(self._peak_bytes or 0, own + others)
        return self._peak_bytes


def _list_descendants(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        for child in _list_children(waiting.pop()):
            yield child
            waiting.append(child)


def _list_children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        # A child stands under the thread that forked it.
        for thread in os.listdir(_PROC / str(pid) / "task"):
            children += map(
                int, (_PROC / str(pid) / "task" / thread / "children").read_text().split()
            )
    except OSError:
        pass  # ended meanwhile
    return children


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
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    # cutime and cstime, fields 16 and 17 of proc(5); the list starts at field 3.
    return (int(fields[13]) + int(fields[14])) / _TICKS


def _read_growth(pid: int, baseline_bytes: int) -> int | None:
    sizes = _read_sizes(_PROC / str(pid) / "status")
    if "VmHWM" not in sizes:
        return None
    # The kernel keeps the peak of all pages; those that map files are no memory of the run's own.
    return max(sizes["VmHWM"] - sizes.get("RssFile", 0) - baseline_bytes, 0)


def _read_private_peak(pid: int) -> int | None:
    private = _read_sizes(_PROC / str(pid) / "smaps_rollup").get("Private_Dirty")
    sizes = _read_sizes(_PROC / str(pid) / "status")
    if private is None or "VmHWM" not in sizes:
        return None
    # What is the run's own now, plus what it had beyond that and has given back.
    return private + max(sizes["VmHWM"] - sizes["VmRSS"], 0)


def _read_shared_out_bytes(pid: int) -> int:
    # The proportional set: pages that forked processes share are counted once among them.
    sizes = _read_sizes(_PROC / str(pid) / "smaps_rollup")
    return sizes.get("Pss_Anon", 0) + sizes.get("Pss_Shmem", 0)


def _read_sizes(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, _, value in pairs}
