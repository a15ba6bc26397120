"""Finds by trying how well a host lets runs be sealed, limited and measured."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from runapp.runner.contract import Confinement
from runapp.runner.keeper.handle import start_launcher
from runapp.runner.metering.cgroups import Cgroups, find_cgroups
from runapp.runner.metering.meter import GroupCpu, GroupMemory, name_meters
from runapp.runner.metering.proc_meter import TreeCpu, TreeMemory
from runapp.runner.sandbox import landlock, seccomp
from runapp.runner.sandbox.levels import Level, Seal, is_linux
from runapp.runner.sandbox.mounts import Places, find_places

PROBE_SECONDS = 30.0
_PROBE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from runapp.runner.sandbox.trial import main; main(sys.argv[2:])"
)
# 60578 to 61183 are the numbers that no distribution and no part of systemd gives away:
# https://systemd.io/UIDS-GIDS/
_FIRST_UID = 60_578
_MOST_UIDS = 606


@dataclass(frozen=True)
class Host:
    """What a host offers.

    Parameters
    ----------
    seal : Seal
        The best that works, without the user, which each supervisor claims for itself.
    cgroups : Cgroups
        Where groups can be made.
    reasons : tuple of str
        Why it is not better.
    """

    seal: Seal
    cgroups: Cgroups
    reasons: tuple[str, ...]

    def describe(self) -> Confinement:
        """Name the mechanism that is to keep each promise."""
        return Confinement(
            level=self.seal.level.value,
            mechanisms=_name_mechanisms(self.seal, self.cgroups),
            measured_by=_name_meters(self.cgroups),
            reasons=self.reasons,
        )


@dataclass(frozen=True)
class Uid:
    """A user that no other supervisor of this host gives to its runs.

    The name of an abstract socket holds it: unix(7). It is free again when its owner ends,
    however that happens.
    """

    number: int
    lock: socket.socket

    def release(self) -> None:
        self.lock.close()


def survey_host(
    *, best: Level = Level.ROOT, may_move: bool = False, has_cgroups: bool = True
) -> Host:
    """Find the best level that works.

    Parameters
    ----------
    best : Level, optional
        The best to be tried; for tests and for comparisons.
    may_move : bool, optional
        As `find_cgroups` takes it.
    has_cgroups : bool, optional
        False does without cgroups; for tests and for comparisons.
    """
    cgroups = find_cgroups(may_move=may_move) if has_cgroups and is_linux() else Cgroups()
    cgroups.sweep()
    reasons = list(cgroups.reasons)
    for level in list(Level)[list(Level).index(best) :]:
        seal = _make_seal(level, cgroups)
        reason = _find_obstacle(seal)
        if reason is None:
            return Host(seal, cgroups, tuple(reasons))
        reasons.append(f"{level.value}: {reason}")
    return Host(Seal(Level.PROCESS), cgroups, tuple(reasons))


def claim_uid() -> Uid:
    """Take a user for the runs of one supervisor.

    Raises
    ------
    OSError
        When every number is taken.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for number in range(_FIRST_UID, _FIRST_UID + _MOST_UIDS):
        try:
            lock.bind(f"\0datarun-uid-{number}")
        except OSError:
            continue
        return Uid(number, lock)
    lock.close()
    raise OSError("no user is left for the runs of another slot")


def _make_seal(level: Level, cgroups: Cgroups) -> Seal:
    if level is Level.PROCESS:
        return Seal(level)
    return Seal(
        level=level,
        landlock_abi=landlock.read_abi(),
        has_seccomp=_knows_machine(),
        counts_memory=cgroups.memory is not None,
        counts_processes=cgroups.pids is not None,
        readable=() if level.has_namespaces else _list_readable(),
    )


def _knows_machine() -> bool:
    policy = seccomp.Policy(
        may_fork=True, may_use_unix_sockets=True, may_use_memfd=True, signals_only_to=None
    )
    try:
        return bool(seccomp.make_program(policy))
    except seccomp.UnsupportedMachine:
        return False


def _find_obstacle(seal: Seal) -> str | None:
    """Try a seal; return what keeps it from working, None when nothing does."""
    if seal.level is Level.PROCESS:
        return None
    if not is_linux():
        return "the system is not Linux"
    if not seal.has_seccomp:
        return f"the numbers of the system calls of {platform.machine()} are not known"
    if seal.level is Level.LANDLOCK and not seal.landlock_abi:
        return "the kernel has no Landlock"
    if seal.level is Level.ROOT:
        if os.geteuid() != 0:
            return "the worker is not root"
        seal = replace(seal, uid=_FIRST_UID)
    return _probe(seal, find_places(hidden=(), inputs=None))


def _probe(seal: Seal, places: Places) -> str | None:
    process = start_launcher(
        control=None, seal=seal, places=places, bootstrap=_PROBE, stderr=subprocess.PIPE
    )
    try:
        _, said = process.communicate(timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"its trial did not end within {PROBE_SECONDS:g} s"
    if process.returncode == 0:
        return None
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("seal: ") if lines else f"status {process.returncode}"


def _list_readable() -> tuple[str, ...]:
    """Return what a run may read where it has no root of its own."""
    places = find_places(hidden=(), inputs=None)
    folders = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc", places.base_prefix]
    # Where joblib and Python look for the number of processors.
    folders += ["/sys/fs/cgroup", "/sys/devices/system/cpu"]
    files = ["/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/alternatives"]
    shown = [*folders, *files]
    if places.site_packages is not None:
        # The interpreter itself and the file that says where its base is.
        prefix = Path(places.site_packages).parents[2]
        shown += [places.site_packages, str(prefix / "bin"), str(prefix / "pyvenv.cfg")]
    return tuple(path for path in dict.fromkeys(shown) if os.path.exists(path))


def _name_meters(cgroups: Cgroups) -> str:
    cpu = GroupCpu if cgroups.cpuacct else TreeCpu
    memory = GroupMemory if cgroups.memory else TreeMemory
    return name_meters(cpu.measured_by, memory.measured_by)


def _name_mechanisms(seal: Seal, cgroups: Cgroups) -> dict[str, str]:
    nothing = "nothing"
    second = f", Landlock {seal.landlock_abi}" if seal.landlock_abi else ""
    pids = "cgroup pids" if cgroups.pids else None
    cpu = "cgroup and polling" if cgroups.cpuacct else "polling and rlimit"
    memory = "cgroup and rlimit" if cgroups.memory else "polling and rlimit"
    if seal.level is Level.PROCESS:
        return {
            "memory": memory,
            "cpu": cpu,
            "processes": pids or "polling",
            **dict.fromkeys(("network", "files", "labels", "scratch", "kernel"), nothing),
            "neighbours": "a folder for each run",
            "labels": "they are not handed over",
        }
    if seal.level is Level.LANDLOCK:
        return {
            "network": "seccomp",
            "files": f"Landlock {seal.landlock_abi}, seccomp",
            "labels": f"they are not handed over; Landlock {seal.landlock_abi}",
            "neighbours": f"Landlock {seal.landlock_abi}, seccomp",
            "processes": "seccomp (no fork)" + (f", {pids}" if pids else ""),
            "memory": memory,
            "cpu": cpu,
            "scratch": "rlimit on each file",
            "kernel": "seccomp",
        }
    own_user = ", own user" if seal.level is Level.ROOT else ", user namespace"
    return {
        "network": f"network namespace, seccomp{second}",
        "files": f"own root, read-only{own_user}{second}",
        "labels": "they are not handed over; own root",
        "neighbours": f"namespaces and tmpfs made anew{second}",
        "processes": ", ".join(filter(None, ("PID namespace", pids, "rlimit"))),
        "memory": memory,
        "cpu": cpu,
        "scratch": "tmpfs with a size",
        "kernel": f"no capabilities, seccomp{own_user}",
    }
