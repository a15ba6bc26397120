"""What a run or a keeper may leave on the host, found from outside."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from runapp.runner.contract import StageReport
from runapp.runner.host import Host
from tests.unit.runner_folds import wait_until

# A process has another number in a namespace of its own, but its name is the same everywhere and
# what it forks inherits it: prctl(2), PR_SET_NAME.
_NAMING = """
import ctypes, signal
ctypes.CDLL(None).prctl(15, b"{name}", 0, 0, 0)
"""
# After it, `go_on()` waits until it was looked at; what blocks a signal gets it in any case.
_WAITING = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
def go_on():
    signal.sigwait({signal.SIGUSR1})
"""


class Look:
    """Finds the processes of a name at each stage of a run and lets them go on; an `on_stage`.

    The run's code begins with `naming`, and calls `go_on()` in each of its predictions.
    """

    def __init__(self) -> None:
        self.name = make_name()
        self.naming = name_process(self.name) + _WAITING
        self.pids: list[int] = []

    def __call__(self, report: StageReport) -> None:
        found = find_named(self.name)
        self.pids = self.pids or found
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def find(self) -> list[int]:
        return find_named(self.name)

    def find_first(self) -> psutil.Process:
        """Return the run's first process, which all the others come from."""
        processes = [psutil.Process(pid) for pid in self.find()]
        return min(processes, key=lambda process: (process.create_time(), process.pid))


def make_name() -> str:
    """Return a name for processes that no other has; 15 characters are the most."""
    return f"dr{secrets.token_hex(6)}"


def name_process(name: str) -> str:
    """Return code that gives its process a name."""
    return _NAMING.format(name=name)


def find_named(name: str) -> list[int]:
    """Return the processes of a name that are not only waited for."""
    processes = psutil.process_iter(["name", "status"])
    return [
        process.pid
        for process in processes
        if process.info["name"] == name and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def list_descriptors() -> dict[int, str]:
    """Return what this process has open; the descriptor of the look itself is not."""
    links = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(FileNotFoundError):
            links[number] = os.readlink(f"/proc/self/fd/{number}")
    return links


def list_groups(host: Host, *, pid: str | None = None) -> list[Path]:
    """Return the control groups that this process, or another, has made and not removed."""
    cgroups = host.cgroups
    places = (cgroups.memory, cgroups.pids, cgroups.cpu, cgroups.cpuacct)
    folders = {place.folder for place in places if place is not None}
    maker = pid or os.readlink("/proc/self")
    return [path for folder in folders for path in folder.glob(f"datarun-*-{maker}-*-*")]


@contextmanager
def leaving_nothing(host: Host) -> Iterator[None]:
    """Fail unless what is done inside leaves no descriptor and no control group behind."""
    descriptors, groups = list_descriptors(), sorted(list_groups(host))
    yield
    assert list_descriptors() == descriptors
    assert sorted(list_groups(host)) == groups


def wait_for_none(name: str) -> None:
    """Wait until the last process of a name has ended."""
    wait_until(lambda: not find_named(name), what=f"the end of all processes called {name}")
