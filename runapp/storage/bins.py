"""Bins in a folder, which all machines of an installation share."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from runapp.storage.blobs import (
    DRAFT_PREFIX,
    BlobWriter,
    Kind,
    Pulse,
    StoredBlob,
    Tree,
    list_tree,
    name_blob,
    stay,
)
from runapp.storage.faults import make_damaged, reading, writing
from runapp.storage.verification import verify

BINS = "datasets"
_DOOMED_PREFIX = ".doomed-"


class Storage(Protocol):
    """All bins of an installation."""

    def get_bin(self, key: str) -> Bin:
        """Return the bin of a dataset; it need not hold anything."""

    def list_keys(self) -> list[str]:
        """Return the keys of the bins that hold something."""


@dataclass(frozen=True)
class FolderStorage:
    """Bins in a folder."""

    root: Path

    def get_bin(self, key: str) -> Bin:
        return Bin(root=self.root, key=key)

    def list_keys(self) -> list[str]:
        with writing(), suppress(FileNotFoundError):
            return sorted(path.name for path in (self.root / BINS).iterdir() if path.is_dir())
        return []


@dataclass(frozen=True)
class Bin:
    """The blobs of one dataset.

    Parameters
    ----------
    root : Path
        The folder of the whole storage.
    key : str
        The dataset's own key.
    """

    root: Path
    key: str

    @property
    def path(self) -> Path:
        return self.root / self.relative_path

    @property
    def relative_path(self) -> str:
        return f"{BINS}/{self.key}"

    def locate(self, *, kind: Kind, digest: str) -> Path:
        """Return where a blob lies; it need not exist."""
        return self.path / name_blob(kind=kind, digest=digest)

    @contextmanager
    def open_writer(self, *, kind: Kind, pulse: Pulse = stay) -> Iterator[BlobWriter]:
        """Write a blob piece by piece; it appears when the block ends well, or not at all.

        Parameters
        ----------
        kind : Kind
            The folder.
        pulse : callable, optional
            Called while the finished blob is on its way, where that takes long.

        Raises
        ------
        StorageAway
            When the storage refuses.
        """
        with writing():
            folder = self.path / kind
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=DRAFT_PREFIX, dir=folder)
        draft = Path(name)
        try:
            with FileIO(descriptor, "wb") as file:
                writer = BlobWriter(file)
                yield writer
                if not writer.is_discarded:
                    with writing():
                        os.fsync(file.fileno())
            if not writer.is_discarded:
                with writing():
                    _publish(draft, self.locate(kind=kind, digest=writer.digest))
        finally:
            with suppress(OSError):
                draft.unlink()

    def write(self, *, kind: Kind, content: bytes, pulse: Pulse = stay) -> str:
        """Store bytes and return their SHA-256 digest."""
        digest = hashlib.sha256(content).hexdigest()
        if self._renew(kind=kind, digest=digest):
            return digest
        with self.open_writer(kind=kind, pulse=pulse) as writer:
            writer.write(content)
        return writer.digest

    def _renew(self, *, kind: Kind, digest: str) -> bool:
        """Tell whether a blob is there, and make it young: a row is about to refer to it."""
        with writing(), suppress(FileNotFoundError):
            os.utime(self.locate(kind=kind, digest=digest))
            return True
        return False

    def write_tree(self, *, kind: Kind, files: Mapping[str, bytes]) -> Tree:
        """Store named files and, last, the list of them, whose digest names the whole."""
        digests = {
            name: self.write(kind=kind, content=content) for name, content in sorted(files.items())
        }
        digest = self.write(kind=kind, content=list_tree(digests))
        return Tree(digest=digest, files=digests, n_bytes=sum(map(len, files.values())))

    def read(self, *, kind: Kind, digest: str, pulse: Pulse = stay) -> bytes:
        """Return a blob's bytes.

        Raises
        ------
        StorageError
            When the blob is missing or is not what its name says; StorageAway when the storage
            does not answer.
        """
        with reading(digest=digest, folder=self.root / BINS):
            content = self.locate(kind=kind, digest=digest).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise make_damaged(digest)
        return content

    def read_tree(
        self, *, kind: Kind, files: Mapping[str, str], pulse: Pulse = stay
    ) -> dict[str, bytes]:
        """Return the contents of named files."""
        return {
            name: self.read(kind=kind, digest=digest, pulse=pulse) for name, digest in files.items()
        }

    def open(self, *, kind: Kind, digest: str, pulse: Pulse = stay) -> BinaryIO:
        """Open a blob for reading or mapping; it lies below `root` for as long as it is open.

        Its bytes are checked the first time that this process opens it.

        Parameters
        ----------
        pulse : callable, optional
            Called while it is fetched and checked, about every megabyte.

        Raises
        ------
        StorageError
            When the blob is missing or is not what its name says; StorageAway when the storage
            does not answer.
        """
        with reading(digest=digest, folder=self.root / BINS):
            file = self.locate(kind=kind, digest=digest).open("rb")
        try:
            with reading(digest=digest, folder=self.root / BINS):
                verify(file, digest=digest, pulse=pulse)
        except BaseException:
            file.close()
            raise
        return file

    def measure(self, *, kind: Kind, digest: str) -> int:
        """Return the size of a blob in bytes.

        Raises
        ------
        StorageError
            When the blob is missing; StorageAway when the storage does not answer.
        """
        with reading(digest=digest, folder=self.root / BINS):
            return self.locate(kind=kind, digest=digest).stat().st_size

    def list_stored(self) -> Iterator[StoredBlob]:
        """Yield all that lies in the bin, drafts included; what vanishes meanwhile is left out."""
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    status = path.stat()
                    place = path.relative_to(self.path).as_posix()
                    yield StoredBlob(place, status.st_size, status.st_mtime)

    def is_older(self, before: float) -> bool:
        """Tell whether nothing in the bin was written since, in seconds since the epoch."""
        with suppress(FileNotFoundError):
            # A new folder may still be without its file.
            folders = (Path(folder).stat().st_mtime for folder, *_ in os.walk(self.path))
            files = (blob.modified_at for blob in self.list_stored())
            return all(moment < before for moment in chain(folders, files))
        return False

    def remove_old(self, blob: StoredBlob, *, before: float) -> bool:
        """Remove a file unless it was written or renewed since; tell whether it is gone.

        Parameters
        ----------
        before : float
            Seconds since the epoch.

        Raises
        ------
        StorageAway
            When the storage refuses.
        """
        path = self.path / blob.path
        doomed = path.with_name(f"{_DOOMED_PREFIX}{path.name}")
        with writing(), suppress(FileNotFoundError):
            # Renamed first: a writer that renews it now misses it and writes it anew, and one that
            # did so a moment ago has left its mark on what is looked at here.
            os.replace(path, doomed)
            is_old = doomed.stat().st_mtime < before
            if not is_old:
                with suppress(FileExistsError):
                    os.link(doomed, path)
            doomed.unlink()
            return is_old
        return False

    def remove(self) -> None:
        """Remove everything of the dataset; what is gone already is no error."""
        shutil.rmtree(self.path, ignore_errors=True)


def _publish(draft: Path, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.replace(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a rename in a folder survive a power loss, fsync(2)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
