"""A control group for each run: limits and exact usage of whatever the run starts.

The worker makes the group ahead of the run. The run's child joins it by writing "0" to inherited
descriptors, and what it forks is born in the group, orphans and daemons included; unlike the tree
of processes, the group keeps the CPU time and the peak of those that have ended. See cgroups(7),
Documentation/admin-guide/cgroup-v1/memory.rst and Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runapp.runner.metering.cgroup import Group, kill_processes, list_folders, remove_folders
from runapp.runner.metering.cgroup_mounts import (
    Controller,
    Place,
    is_left_over,
    name_group,
    survey_host,
)
from runapp.runner.metering.process_tree import KILL_SECONDS


def find_cgroups(
    *,
    may_move: bool = False,
    mountinfo: Path = Path("/proc/self/mountinfo"),
    own_groups: Path = Path("/proc/self/cgroup"),
) -> Cgroups:
    """Find by trying what this process may use; never raises for what is missing.

    Parameters
    ----------
    may_move : bool, optional
        Whether the processes of this process's own v2 group may be moved into the group
        `datarun-worker` below it, should that be needed. It happens only in a group that was
        delegated: one that systemd marked so, the root that a container sees, or one that an
        ordinary user may write to.
    mountinfo, own_groups : Path, optional
        Files in the form of proc(5) and cgroups(7).

    Returns
    -------
    Cgroups
        False as a condition when nothing can be used.

    Notes
    -----
    "No Internal Process Constraint" and "Delegation" of
    Documentation/admin-guide/cgroup-v2.rst. The controllers that the own v2 group has are handed
    down to the groups below it, and stay so.
    """
    survey = survey_host(may_move=may_move, mountinfo=mountinfo, own_groups=own_groups)
    return Cgroups(
        memory=survey.places.get(Controller.MEMORY),
        pids=survey.places.get(Controller.PIDS),
        cpu=survey.places.get(Controller.CPU),
        cpuacct=survey.places.get(Controller.CPUACCT),
        reasons=survey.reasons,
    )


@dataclass(frozen=True)
class Cgroups:
    """Where groups can be made for each controller, and why not for the others.

    `cpuacct` is the CPU clock, in v2 the file `cpu.stat` that needs no controller.
    """

    memory: Place | None = None
    pids: Place | None = None
    cpu: Place | None = None
    cpuacct: Place | None = None
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._places)

    def describe(self) -> str:
        """Return a phrase such as "cgroup v1 (memory, pids), cgroup v2 (cpuacct)"."""
        names: dict[int, list[str]] = {}
        for controller, place in self._places.items():
            names.setdefault(place.version, []).append(controller)
        phrases = [f"cgroup v{version} ({', '.join(names[version])})" for version in sorted(names)]
        return ", ".join(phrases) or "no cgroups"

    def make_group(self) -> Group:
        """Make a fresh group in each hierarchy in use.

        Returns
        -------
        Group
            Without limits and without processes, and behind others for processors; the caller
            removes it.

        Raises
        ------
        OSError
            When the kernel refuses what it allowed to `find_cgroups`; nothing is left then.
        """
        name = name_group()
        places = {
            controller: replace(place, folder=place.folder / name)
            for controller, place in self._places.items()
        }
        folders = list_folders(places)
        try:
            for folder in folders:
                os.mkdir(folder, 0o755)
            group = Group(places=places)
        except OSError:
            remove_folders(folders, seconds=0)
            raise
        try:
            group.lower_weight()
        except OSError:
            group.remove(seconds=0)
            raise
        return group

    def sweep(self, *, seconds: float = KILL_SECONDS) -> int:
        """Remove the groups of killed workers, with the processes in them.

        Groups of living workers, of other pid namespaces and of others' making stay. The whole of
        each hierarchy is searched, since the killed worker may have lived in another group.

        Parameters
        ----------
        seconds : float, optional
            How long to wait for each group's processes to end.

        Returns
        -------
        int
            How many groups are gone, those that another worker swept meanwhile included.
        """
        left_over: dict[str, list[Path]] = {}
        for place in dict.fromkeys(self._places.values()):
            for folder in _find_left_over(place):
                left_over.setdefault(folder.name, []).append(folder)
        n_removed = 0
        for folders in left_over.values():
            # Another user's group stays, and hinders nobody.
            with contextlib.suppress(PermissionError):
                kill_processes(folders, seconds=seconds)
                n_removed += remove_folders(folders, seconds=seconds)
        return n_removed

    @property
    def _places(self) -> dict[Controller, Place]:
        places = {
            Controller.MEMORY: self.memory,
            Controller.PIDS: self.pids,
            Controller.CPU: self.cpu,
            Controller.CPUACCT: self.cpuacct,
        }
        return {controller: place for controller, place in places.items() if place is not None}


def _find_left_over(place: Place) -> Iterator[Path]:
    for parent, names, _ in os.walk(place.top):
        for name in filter(is_left_over, list(names)):
            names.remove(name)
            folder = Path(parent, name)
            # Whoever sweeps may itself have been started by a run.
            if not place.folder.is_relative_to(folder):
                yield folder
