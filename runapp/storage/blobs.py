"""What is stored: kinds, names, digests, and the writer that counts them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO

from runapp.storage.faults import writing

DRAFT_PREFIX = ".incoming-"
PIECE_BYTES = 2**20

# Called again and again while something takes long: renews a lease, or raises to end it.
Pulse = Callable[[], None]


def stay() -> None:
    """Be the pulse of who has nothing to renew."""


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
    n_bytes: int


@dataclass(frozen=True)
class StoredBlob:
    """A file of a bin as a listing finds it.

    Parameters
    ----------
    path : str
        Its place in the bin, the folder of its kind first.
    size : int
        Bytes.
    modified_at : float
        Seconds since the epoch, by the storage's clock.
    """

    path: str
    size: int
    modified_at: float

    @property
    def digest(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def kind(self) -> str:
        return self.path.partition("/")[0]


class BlobWriter:
    """Counts and digests what passes into a blob that is being written.

    The file has no buffer: a disk that is full says so here, not when the file is closed.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0
        self.is_discarded = False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, piece: bytes | memoryview) -> None:
        rest = memoryview(piece)
        with writing():
            while rest:  # a full disk may take a part of it first
                rest = rest[self._file.write(rest) :]
        self._hash.update(piece)
        self.size += len(piece)

    def discard(self) -> None:
        """Let nothing come of it."""
        self.is_discarded = True


def name_blob(*, kind: str, digest: str) -> str:
    """Return where a blob lies in its bin."""
    return f"{kind}/{digest[:2]}/{digest}"


def compute_tree_digest(*, files: Mapping[str, bytes]) -> str:
    """Return the digest that `write_tree` would give, without writing anything."""
    return digest_tree(
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    )


def digest_tree(digests: Mapping[str, str]) -> str:
    """Return the digest of a tree of which the files' digests are known."""
    return hashlib.sha256(list_tree(digests)).hexdigest()


def list_tree(digests: Mapping[str, str]) -> bytes:
    """Return the content of the blob that names a tree's files."""
    return json.dumps(dict(sorted(digests.items())), separators=(",", ":")).encode()
