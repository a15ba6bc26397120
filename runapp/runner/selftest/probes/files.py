"""Tries to read and write files that are not the run's own."""

import os
import stat
import sys
from collections.abc import Iterator
from functools import partial

from .attempts import BAIT, attempt, tell_end

PROMISE = "files"


def try_all() -> None:
    for path in BAIT["unreadable"]:
        attempt(PROMISE, f"reading {path}", partial(_read, path))
    for folder in BAIT["folders"]:
        attempt(PROMISE, f"listing {folder}", partial(_list, folder))
    for path in BAIT["canaries"]:
        attempt(PROMISE, f"writing {path}", partial(_write, path))
    for folder in (*BAIT["folders"], "/", "/etc", "/usr", sys.prefix, os.path.dirname(os.__file__)):
        attempt(PROMISE, f"making a file in {folder}", partial(_create, folder))
    attempt(PROMISE, "other processes' environments", _read_environments)
    attempt(PROMISE, "other processes' root and working folders", _go_through_processes)
    attempt(PROMISE, "inherited descriptors of files", _reopen_files)
    attempt(PROMISE, "inherited descriptors of folders", _climb_from_folders)
    tell_end(PROMISE)


def _read(path: str) -> str:
    with open(path, "rb") as file:
        file.read(1)
    return f"{path} was read"


def _list(folder: str) -> str:
    return f"{folder} was listed, {len(os.listdir(folder))} entries"


def _write(path: str) -> str:
    with open(path, "r+b") as file:
        file.write(b"!")
    return f"{path} was written to"


def _create(folder: str) -> str:
    path = os.path.join(folder, BAIT["token"])
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)
    return f"a file was made in {folder}"


def _read_environments() -> str:
    for process in _list_others():
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                content = file.read()
        except OSError:
            continue
        if BAIT["variable"].encode() in content:
            return f"the environment of process {process} was read"
    return ""


def _go_through_processes() -> str:
    for process in _list_others():
        for way in ("root", "cwd"):
            for canary in BAIT["canaries"]:
                try:
                    return _read(f"/proc/{process}/{way}{canary}")
                except OSError:
                    continue
    return ""


def _list_others() -> list[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _list_descriptors() -> Iterator[tuple[int, int]]:
    for descriptor in range(3, 1024):
        try:
            yield descriptor, os.fstat(descriptor).st_mode
        except OSError:
            continue


def _reopen_files() -> str:
    for descriptor, mode in _list_descriptors():
        # What has no name, such as an anonymous file, is nobody else's.
        if stat.S_ISREG(mode) and os.fstat(descriptor).st_nlink:
            try:
                os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))
            except OSError:
                continue
            return f"the file of descriptor {descriptor} could be opened for writing"
    return ""


def _climb_from_folders() -> str:
    for descriptor, mode in _list_descriptors():
        if not stat.S_ISDIR(mode):
            continue
        for canary in BAIT["canaries"]:
            for path in (canary[1:], "../" * 30 + canary[1:], os.path.basename(canary)):
                try:
                    os.close(os.open(path, os.O_RDONLY, dir_fd=descriptor))
                except OSError:
                    continue
                return f"descriptor {descriptor} led to {canary}"
    return ""
