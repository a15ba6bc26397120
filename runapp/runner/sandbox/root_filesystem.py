"""A root of its own for a keeper and its runs: system and environment read-only, nothing else.

Built once per keeper, in a mount namespace of its own, by whoever holds CAP_SYS_ADMIN there; what
is fresh for every run is mounted by the run's child (`enter.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runapp.runner.metering.mountinfo import unescape
from runapp.runner.sandbox import libc
from runapp.runner.sandbox.mounts import (
    BASE,
    DEVICES,
    ENV,
    FOLD,
    RUNNER,
    SHM,
    TMP,
    Places,
    is_below,
)

# Any folder that every Linux has: the mount over it is ours alone.
_BUILDING_SITE = "/tmp"  # noqa: S108

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# The dynamic linker's cache, what Debian's packages of BLAS are linked by, and the time zone.
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone")
_LINKS = {
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "/proc/self/fd/0",
    "dev/stdout": "/proc/self/fd/1",
    "dev/stderr": "/proc/self/fd/2",
    "dev/shm": SHM,
    "tmp": TMP,
    "var/tmp": TMP,
}
_READ_ONLY = libc.MS_RDONLY | libc.MS_NOSUID
_MOUNT_FLAGS = {
    "ro": libc.MS_RDONLY,
    "nosuid": libc.MS_NOSUID,
    "nodev": libc.MS_NODEV,
    "noexec": libc.MS_NOEXEC,
    "noatime": libc.MS_NOATIME,
    "nodiratime": libc.MS_NODIRATIME,
    "relatime": libc.MS_RELATIME,
}


@dataclass(frozen=True)
class _Source:
    """Something of the host, held by a descriptor: the building site may hide its path."""

    path: str
    descriptor: int

    @property
    def link(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"


def enter_root(*, places: Places, uid: int | None) -> int | None:
    """Build the root, make it this process's own and return the read-only view of the inputs.

    Parameters
    ----------
    places : Places
        What to show, and what to hide.
    uid : int or None
        The user that runs become, who gets a name.

    Returns
    -------
    int or None
        A descriptor of the folder of the inputs; what is opened below it cannot be changed, not
        even by the owner of the files. No path leads to it.

    Notes
    -----
    The process must be alone in a new mount namespace, in a PID namespace that it is the first
    process of, and hold CAP_SYS_ADMIN in both: mount_namespaces(7), pid_namespaces(7).
    """
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)
    with contextlib.ExitStack() as stack:
        shown = [(target, _open(source, stack)) for target, source in _list_shown(places) if source]
        inputs = _open(places.inputs, stack) if places.inputs else None
        libc.mount("root", _BUILDING_SITE, kind="tmpfs", flags=libc.MS_NOSUID, data="mode=755")
        os.chdir(_BUILDING_SITE)
        for target, source in shown:
            _show(target, source, is_device=target.startswith("dev/"))
        for target in _list_hidden(places):
            _hide(target)
        _furnish(places, uid=uid)
        view = _open_view(inputs) if inputs is not None else None
    # joblib asks at its import whether there are semaphores; each run has a file system of its own.
    libc.mount("fold", FOLD[1:], kind="tmpfs", flags=libc.MS_NOSUID | libc.MS_NODEV, data="size=1m")
    for folder in (TMP, SHM):
        os.mkdir(folder[1:])
    os.mkdir("proc")
    # Its own, before the host's goes: a user namespace may mount one only while it sees another.
    libc.mount("proc", "proc", kind="proc", flags=_READ_ONLY | libc.MS_NODEV | libc.MS_NOEXEC)
    libc.pivot_root(_BUILDING_SITE)
    libc.mount("none", "/", flags=libc.MS_REMOUNT | libc.MS_BIND | _READ_ONLY)
    return view


def _list_shown(places: Places) -> Iterator[tuple[str, str | None]]:
    """Yield what is bound, as a path below the root and the host's path."""
    for name in _SYSTEM:
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):
            yield name, f"/{name}"
    for name in _ETC:
        if os.path.exists(f"/etc/{name}"):
            yield f"etc/{name}", os.path.realpath(f"/etc/{name}")
    for name in DEVICES:
        yield f"dev/{name}", f"/dev/{name}"
    if not places.is_base_shown:
        yield BASE[1:], places.base_prefix
    if places.site_packages is not None:
        yield _place_site_packages(places), places.site_packages
    yield RUNNER[1:], places.runner


def _place_site_packages(places: Places) -> str:
    # lib/python3.11/site-packages, whatever the environment's folder is called.
    return "/".join((ENV[1:], *Path(places.site_packages or "").parts[-3:]))


def _list_hidden(places: Places) -> Iterator[str]:
    """Yield, as paths below the root, the hidden folders that something shown contains."""
    for folder in places.hidden:
        for target, source in _list_shown(places):
            if source and target != RUNNER[1:] and is_below(folder, source):
                yield os.path.normpath(os.path.join(target, os.path.relpath(folder, source)))


def _open(path: str | None, stack: contextlib.ExitStack) -> _Source:
    assert path is not None
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return _Source(path, descriptor)


def _show(target: str, source: _Source, *, is_device: bool) -> None:
    if os.path.isdir(source.link):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    libc.mount(source.link, target, flags=libc.MS_BIND | libc.MS_REC)
    _make_read_only(target, flags=_READ_ONLY | (0 if is_device else libc.MS_NODEV))


def _make_read_only(target: str, *, flags: int) -> None:
    # A remount changes one mount and none below it, and a user namespace must keep what the
    # mount's owner has set: mount(2), mount_namespaces(7).
    for path, options in _list_mounts(os.path.join(_BUILDING_SITE, target)):
        kept = sum(_MOUNT_FLAGS.get(option, 0) for option in options)
        libc.mount("none", path, flags=libc.MS_REMOUNT | libc.MS_BIND | kept | flags)


def _list_mounts(folder: str) -> list[tuple[str, list[str]]]:
    """Return the mounts at a path and below it, with their options: proc(5), mountinfo."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split() for line in file]
    mounts = [(unescape(entry[4]), set(entry[5].split(","))) for entry in fields]
    return [(path, sorted(options)) for path, options in mounts if is_below(path, folder)]


def _hide(target: str) -> None:
    flags = _READ_ONLY | libc.MS_NODEV | libc.MS_NOEXEC
    libc.mount("hidden", target, kind="tmpfs", flags=flags, data="size=4k,mode=755")


def _furnish(places: Places, *, uid: int | None) -> None:
    """Make what is small and no secret: links, names, an environment around the packages."""
    for name in _SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), name)
    os.makedirs("var")
    os.makedirs(FOLD[1:])
    for link, aim in _LINKS.items():
        os.symlink(aim, link)
    names = {"root": 0} if uid is None else {"root": 0, "fold": uid}
    _write("etc/passwd", "".join(f"{n}:x:{i}:{i}::{TMP}:/bin/sh\n" for n, i in names.items()))
    _write("etc/group", "".join(f"{n}:x:{i}:\n" for n, i in names.items()))
    _write("etc/hosts", "127.0.0.1 localhost\n")
    _write(os.path.join(os.path.dirname(RUNNER[1:]), "__init__.py"), "")
    if places.site_packages is not None:
        _make_environment(places)


def _make_environment(places: Places) -> None:
    # https://docs.python.org/3/library/venv.html: `home` names the base interpreter's folder.
    executable = places.locate_base(places.base_executable)
    has_system_site = str(places.has_system_site).lower()
    _write(
        f"{ENV[1:]}/pyvenv.cfg",
        f"home = {os.path.dirname(executable)}\ninclude-system-site-packages = {has_system_site}\n",
    )
    os.makedirs(f"{ENV[1:]}/bin")
    os.symlink(executable, f"{ENV[1:]}/bin/python")


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)


def _open_view(inputs: _Source) -> int:
    # A descriptor of a mount that is read-only refuses to change the file in any way, and a mount
    # that was taken out of the tree lives as long as its descriptors: umount2(2), MNT_DETACH.
    target = "inputs"
    os.mkdir(target)
    libc.mount(inputs.link, target, flags=libc.MS_BIND | libc.MS_REC)
    _make_read_only(target, flags=_READ_ONLY | libc.MS_NODEV | libc.MS_NOEXEC)
    view = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    libc.detach(target)
    os.rmdir(target)
    return view
