"""The folder that a run has for itself, and its removal whatever the run has made of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def open_scratch(root: Path) -> Iterator[Path]:
    """Make a folder below `root`, and remove it with all that it holds afterwards.

    Parameters
    ----------
    root : Path
        Made when it is missing.

    Yields
    ------
    Path
        The empty folder.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="new-", dir=root))
    lock = os.open(draft, _FOLDER_FLAGS)
    # flock(2): held until this process ends, however it does. Only a locked folder is called
    # `run-`, so that a sweep never meets one that is not locked yet.
    fcntl.flock(lock, fcntl.LOCK_EX)
    scratch = draft.rename(draft.with_name(draft.name.replace("new-", "run-", 1)))
    try:
        yield scratch
    finally:
        remove_folder(scratch)
        os.close(lock)


def sweep_scratch(root: Path) -> None:
    """Remove the folders of runs whose worker was killed; those of living workers stay."""
    for folder in root.glob("run-*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder, _FOLDER_FLAGS)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(folder)
            finally:
                os.close(lock)


def remove_folder(folder: Path) -> None:
    """Remove a folder however deep it is and whatever its modes are; what cannot go stays.

    Parameters
    ----------
    folder : Path
        Nothing may still be at work in it.

    Notes
    -----
    `shutil.rmtree` recurses with a descriptor for each level, so a thousand nested folders break
    it. Here each folder hands its own folders up to the topmost one and goes: depth, length of
    path and number of descriptors do not grow.
    """
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
        top = os.open(folder, _FOLDER_FLAGS)
        try:
            _empty_top(top)
        finally:
            os.close(top)
        folder.rmdir()


def _empty_top(top: int) -> None:
    # Names that nothing in the folder has: what made the folder's names did not know the token.
    token = os.urandom(8).hex()
    new_names = (f".{token}-{number}" for number in count())
    while folders := _remove_files(top):
        n_removed = 0
        for name in folders:
            with contextlib.suppress(OSError):
                _flatten(name, top=top, new_names=new_names)
                n_removed += 1
        if not n_removed:
            return


def _flatten(name: str, *, top: int, new_names: Iterator[str]) -> None:
    os.chmod(name, 0o700, dir_fd=top)
    folder = os.open(name, _FOLDER_FLAGS, dir_fd=top)
    try:
        for inner in _remove_files(folder):
            # Moving a folder writes its "..", for which it must be writable itself.
            os.chmod(inner, 0o700, dir_fd=folder)
            os.rename(inner, next(new_names), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _remove_files(folder: int) -> list[str]:
    """Remove what is no folder and return the names of the folders."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
    return names
