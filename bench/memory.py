"""How far the memory of a process grows while something goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

# Of /proc/PID/clear_refs: make the peak what is resident now (proc_pid_clear_refs(5)).
_RESET_PEAK = "5"
T = TypeVar("T")


def watch_growth(act: Callable[[], T], *, processes: Sequence[int]) -> tuple[T, int]:
    """Do something; return its answer, and by how many bytes a process grew meanwhile.

    Parameters
    ----------
    act : callable
        What is done.
    processes : sequence of int
        Those that are watched; the one that grew most counts.
    """
    before = [_begin(process) for process in processes]
    answer = act()
    after = [_read(process) for process in processes]
    return answer, max(compute_growth(*sizes) for sizes in zip(before, after, strict=True))


def compute_growth(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Return how much memory of its own a process has taken at most, in bytes.

    Parameters
    ----------
    before, after : mapping of str to int
        Sizes as `read_status` returns them; the peak was reset before.

    Notes
    -----
    The kernel keeps a peak of all that is resident, pages of mapped files included: those of an
    SQLite file are its cache, which is nobody's own, and it maps the file anew when another process
    has written. So the most that was mapped before or after is taken off the peak. What an earlier
    request has left to the allocator is used again and does not count: the first request shows the
    most.
    """
    mapped = max(one["RssFile"] + one["RssShmem"] for one in (before, after))
    return max(0, *(own - before["RssAnon"] for own in (after["VmHWM"] - mapped, after["RssAnon"])))


def _begin(process: int) -> dict[str, int]:
    Path(f"/proc/{process}/clear_refs").write_text(_RESET_PEAK)
    return _read(process)


def _read(process: int) -> dict[str, int]:
    return read_status(Path(f"/proc/{process}/status").read_text())


def read_status(text: str) -> dict[str, int]:
    """Return the sizes of a process's status by their names, in bytes."""
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            sizes[name] = int(value.split()[0]) * 1024
    return sizes
