"""Blobs by digest, one bin per dataset.

A bin holds everything of one dataset: its raw files, its parts, the submitted code and large
predictions, each kind in a folder of its own, so that a sandbox may be shown features without
labels lying beside them. Names are SHA-256 digests, so a blob never changes and two writers of
the same bytes agree. A dataset is deleted by removing its bin.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from runapp.exceptions import StorageError


class Kind(StrEnum):
    """The folders of a bin."""

    RAW = "raw"
    FEATURES = "features"
    LABELS = "labels"
    CODE = "code"
    PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Tree:
    """A set of named files: `digest` is over the names and contents together."""

    digest: str
    files: Mapping[str, str]


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
        return f"datasets/{self.key}"

    def locate(self, *, kind: Kind, digest: str) -> Path:
        """Return where a blob lies; it need not exist."""
        return self.path / kind / digest[:2] / digest

    @contextmanager
    def open_writer(self, *, kind: Kind) -> Iterator[BlobWriter]:
        """Write a blob piece by piece; it appears when the block ends well, or not at all."""
        folder = self.path / kind
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=folder)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                writer = BlobWriter(file)
                yield writer
                file.flush()
                os.fsync(file.fileno())
            if not writer.is_discarded:
                _publish(draft, self.locate(kind=kind, digest=writer.digest))
        finally:
            draft.unlink(missing_ok=True)

    def write(self, *, kind: Kind, content: bytes) -> str:
        """Store bytes and return their SHA-256 digest."""
        digest = hashlib.sha256(content).hexdigest()
        if self.locate(kind=kind, digest=digest).exists():
            return digest
        with self.open_writer(kind=kind) as writer:
            writer.write(content)
        return writer.digest

    def write_tree(self, *, kind: Kind, files: Mapping[str, bytes]) -> Tree:
        """Store named files and, last, the list of them, whose digest names the whole."""
        digests = {
            name: self.write(kind=kind, content=content) for name, content in sorted(files.items())
        }
        return Tree(digest=self.write(kind=kind, content=_list_tree(digests)), files=digests)

    def read(self, *, kind: Kind, digest: str) -> bytes:
        """Return a blob's bytes.

        Raises
        ------
        StorageError
            When the blob is missing or is not what its name says.
        """
        try:
            content = self.locate(kind=kind, digest=digest).read_bytes()
        except OSError as error:
            raise StorageError(f"The blob {digest[:12]} of a dataset cannot be read.") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise StorageError(f"The blob {digest[:12]} of a dataset is damaged.")
        return content

    def read_tree(self, *, kind: Kind, files: Mapping[str, str]) -> dict[str, bytes]:
        """Return the contents of named files."""
        return {name: self.read(kind=kind, digest=digest) for name, digest in files.items()}

    def open(self, *, kind: Kind, digest: str) -> BinaryIO:
        """Open a blob for reading or mapping; its bytes are not checked.

        Raises
        ------
        StorageError
            When the blob is missing.
        """
        try:
            return self.locate(kind=kind, digest=digest).open("rb")
        except OSError as error:
            raise StorageError(f"The blob {digest[:12]} of a dataset cannot be read.") from error

    def remove(self) -> None:
        """Remove everything of the dataset; what is gone already is no error."""
        shutil.rmtree(self.path, ignore_errors=True)


class BlobWriter:
    """Counts and digests what passes into a blob that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0
        self.is_discarded = False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, piece: bytes | memoryview) -> None:
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def discard(self) -> None:
        """Let nothing come of it."""
        self.is_discarded = True


def compute_tree_digest(*, files: Mapping[str, bytes]) -> str:
    """Return the digest that `write_tree` would give, without writing anything."""
    return hashlib.sha256(
        _list_tree({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    ).hexdigest()


def _list_tree(digests: Mapping[str, str]) -> bytes:
    return json.dumps(dict(sorted(digests.items())), separators=(",", ":")).encode()


def _publish(draft: Path, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.replace(draft, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # A rename survives a power loss only once its folder has been written, fsync(2).
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
