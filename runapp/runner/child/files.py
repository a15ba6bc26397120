"""Posted files, written into a folder by their names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def save_files(dir_data: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Save files from `data['files']` in the folder `dir_data`, which is made if it is missing.

    Parameters
    ----------
    dir_data : str or path
        The folder.
    data : mapping
        Its `files` are contents by name: bytes, or files open for reading. A name is a relative
        POSIX path; what lies there already is replaced.

    Raises
    ------
    ValueError
        When a name leads out of the folder. Nothing is written then.
    OSError
        When the system refuses; also when a link lies where a file or folder should.

    Notes
    -----
    Each step of a name is opened below the last and no link is followed: openat(2), O_NOFOLLOW.
    """
    steps = {name: _split_name(name) for name in data["files"]}
    os.makedirs(dir_data, exist_ok=True)
    with ExitStack() as stack:
        root = os.open(dir_data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        for name, content in data["files"].items():
            _save_file(root, steps[name], content)


def _split_name(name: str) -> list[str]:
    steps = name.split("/")
    if not {"", ".", ".."}.isdisjoint(steps) or "\0" in name:
        raise ValueError(f"{name[:80]!a} is not the name of a file below a folder.")
    return steps


def _save_file(root: int, steps: list[str], content: bytes | BinaryIO) -> None:
    *folders, name = steps
    with ExitStack() as stack:
        place = root
        for folder in folders:
            place = _open_folder(place, folder)
            stack.callback(os.close, place)
        with os.fdopen(os.open(name, _FILE, 0o666, dir_fd=place), "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                shutil.copyfileobj(content, file)


def _open_folder(place: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=place)
    except FileNotFoundError:
        os.mkdir(name, dir_fd=place)
    return os.open(name, _FOLDER, dir_fd=place)
