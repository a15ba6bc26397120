"""Checking that a file is what its name says, once per process."""

from __future__ import annotations

import hashlib
import os
from threading import Lock
from typing import BinaryIO

from cachetools import LRUCache

from runapp.storage.blobs import PIECE_BYTES, Pulse
from runapp.storage.faults import make_damaged

_MOST_REMEMBERED = 4096
_Seen = tuple[str, int, int, int, int]
_verified: LRUCache[_Seen, bool] = LRUCache(_MOST_REMEMBERED)
_lock = Lock()


def verify(file: BinaryIO, *, digest: str, pulse: Pulse) -> None:
    """Check an open blob against its name, unless this process has done so before.

    A file that was written anew has another inode or time and is checked again. What changes on
    the disk and leaves both alone is found by the next process.

    Raises
    ------
    StorageError
        When it is not what its name says.
    """
    seen = _identify(file, digest)
    with _lock:
        if seen in _verified:
            return
    if _digest(file, pulse) != digest:
        raise make_damaged(digest)
    with _lock:
        _verified[seen] = True


def trust(file: BinaryIO, *, digest: str) -> None:
    """Remember a file as checked: this process has digested what it wrote there."""
    with _lock:
        _verified[_identify(file, digest)] = True


def _identify(file: BinaryIO, digest: str) -> _Seen:
    status = os.fstat(file.fileno())
    return digest, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(file: BinaryIO, pulse: Pulse) -> str:
    found = hashlib.sha256()
    piece = memoryview(bytearray(PIECE_BYTES))
    while n_bytes := file.readinto(piece):  # type: ignore[attr-defined]
        found.update(piece[:n_bytes])
        pulse()
    file.seek(0)
    return found.hexdigest()
