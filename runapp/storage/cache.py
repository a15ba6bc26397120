"""A bounded folder of fetched blobs, shared by all processes of a machine.

It has the layout of the folder storage, so that the root of the inputs of runs is one folder
either way. Three kinds of locks, all of them flock(2), which ends with its holder:

* on a blob, shared, for as long as it is open: what is in use is not evicted;
* on `.lock`, whenever blobs appear or go. Its content is the size of all, never too small: it
  grows before a blob appears and is counted anew when it says that the bound is reached;
* on one of 256 files, while a blob is fetched: who else wants it waits, and finds it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from runapp.storage.bins import BINS, sync_folder
from runapp.storage.blobs import DRAFT_PREFIX, BlobWriter, Pulse
from runapp.storage.faults import caching
from runapp.storage.verification import trust

_WAIT_SECONDS = 0.1
_BLOCK_BYTES = 4096
# Evicting a little more than needed spares counting all files again for the next blob.
_KEPT_SHARE = 0.9


@dataclass(frozen=True)
class _Entry:
    used_at: int
    size: int
    path: Path


class Draft(BlobWriter):
    """A file that is to become a blob of the cache."""

    def __init__(self, path: Path, file: FileIO, *, is_counted: bool) -> None:
        super().__init__(file)
        self.path = path
        self.file = file
        self.is_counted = is_counted


class Cache:
    """Blobs of an object store on the disk of this machine.

    Parameters
    ----------
    root : Path
        Its folder, for it alone.
    max_bytes : int
        What its files may take together. Only what is in use at one moment, and one blob that is
        larger by itself, are kept beyond it.
    """

    def __init__(self, *, root: Path, max_bytes: int) -> None:
        self.root = root
        self._max_bytes = max_bytes
        self._drafts = root / ".drafts"
        self._fetches = root / ".fetches"
        self._is_ready = False
        self._threads = Lock()

    def find(self, name: str) -> BinaryIO | None:
        """Open a blob that is there, and keep it there for as long as it is open."""
        try:
            file = (self.root / name).open("rb")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            status = os.fstat(file.fileno())
            if status.st_nlink == 0:  # evicted between opening and locking
                file.close()
                return None
            # By hand: many mounts keep no time of access.
            os.utime(file.fileno(), ns=(time.time_ns(), status.st_mtime_ns))
        except BaseException:
            file.close()
            raise
        return file

    @contextmanager
    def fetching(self, digest: str, *, pulse: Pulse) -> Iterator[None]:
        """Be the only one of this machine that fetches the blob."""
        self._prepare()
        with (self._fetches / digest[:2]).open("wb") as file:
            while not _try_lock(file):
                pulse()
                time.sleep(_WAIT_SECONDS)
            yield

    @contextmanager
    def open_draft(self, *, size: int | None = None) -> Iterator[Draft]:
        """Write a file that `publish` may make a blob; it vanishes with the block otherwise.

        Parameters
        ----------
        size : int or None, optional
            Its size, for which room is made at once; None if that is not known yet.

        Raises
        ------
        StorageAway
            When this machine's disk refuses.
        """
        with ExitStack() as stack:
            with caching(), self._locked() as ledger:
                draft = stack.enter_context(self._make_draft(is_counted=size is not None))
                if size is not None:
                    draft.file.truncate(size)
                    self._admit(ledger, size)
            yield draft

    @contextmanager
    def _make_draft(self, *, is_counted: bool) -> Iterator[Draft]:
        descriptor, name = tempfile.mkstemp(prefix=DRAFT_PREFIX, dir=self._drafts)
        with FileIO(descriptor, "wb") as file:
            draft = Draft(Path(name), file, is_counted=is_counted)
            try:
                # Before `.lock` is given up: a draft that nobody has locked is a dead one's.
                fcntl.flock(file, fcntl.LOCK_EX)
                yield draft
            finally:
                with suppress(FileNotFoundError):
                    draft.path.unlink()

    def publish(self, draft: Draft, name: str) -> BinaryIO:
        """Make a draft the blob of that name, and open it as `find` does.

        Raises
        ------
        StorageAway
            When this machine's disk refuses.
        """
        path = self.root / name
        with caching():
            os.fsync(draft.file.fileno())
            with self._locked() as ledger:
                if not draft.is_counted:
                    self._admit(ledger, draft.size)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.replace(draft.path, path)
                sync_folder(path.parent)
                blob = path.open("rb")
                fcntl.flock(draft.file, fcntl.LOCK_UN)
                fcntl.flock(blob, fcntl.LOCK_SH)
            trust(blob, digest=draft.digest)
        return blob

    def drop(self, name: str) -> None:
        """Remove a blob, used or not: it is damaged."""
        with self._locked(), suppress(FileNotFoundError):
            (self.root / name).unlink()

    def remove(self, folder: str) -> None:
        """Remove all below a folder."""
        with self._locked():
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def count_bytes(self) -> int:
        """Return what the files take, as the bound has it."""
        return sum(entry.size for entry in self._list_entries()) + self._count_drafts()

    def _prepare(self) -> None:
        """Once per process: make the folders, sweep what killed processes have left."""
        with self._threads:
            if self._is_ready:
                return
            for folder in (self.root, self._drafts, self._fetches, self.root / BINS):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open_ledger() as ledger:
                for path in self._drafts.iterdir():
                    with path.open("rb") as file:
                        if _try_lock(file):
                            path.unlink()
                _write_total(ledger, self.count_bytes())
            self._is_ready = True

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        self._prepare()
        with self._open_ledger() as ledger:
            yield ledger

    @contextmanager
    def _open_ledger(self) -> Iterator[FileIO]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with FileIO(os.open(self.root / ".lock", flags, 0o600), "r+b") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            yield ledger

    def _admit(self, ledger: FileIO, size: int) -> None:
        """Count a draft of that size, and evict what is too much with it; under the lock."""
        total = _read_total(ledger)
        if total is None or total + _weigh(size) > self._max_bytes:
            _write_total(ledger, self._evict())
        else:
            _write_total(ledger, total + _weigh(size))

    def _evict(self) -> int:
        """Remove what was used longest ago and is not in use; return the size of what stays."""
        entries = sorted(self._list_entries(), key=lambda entry: entry.used_at)
        total = sum(entry.size for entry in entries) + self._count_drafts()
        if total <= self._max_bytes:
            return total
        for entry in entries:
            if total <= self._max_bytes * _KEPT_SHARE:
                break
            if _remove_unused(entry.path):
                total -= entry.size
        return total

    def _list_entries(self) -> Iterator[_Entry]:
        for folder, _, names in os.walk(self.root / BINS):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    status = path.stat()
                    yield _Entry(status.st_atime_ns, _weigh(status.st_size), path)

    def _count_drafts(self) -> int:
        total = 0
        for path in self._drafts.iterdir():
            with suppress(FileNotFoundError):
                total += _weigh(path.stat().st_size)
        return total


def _weigh(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _remove_unused(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if not _try_lock(file):
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    return True


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_total(ledger: FileIO) -> int | None:
    text = os.pread(ledger.fileno(), 32, 0)
    return int(text) if text.isdigit() else None


def _write_total(ledger: FileIO, total: int) -> None:
    os.pwrite(ledger.fileno(), b"%020d" % total, 0)
