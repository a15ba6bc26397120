"""Bins in an object store, read through a cache of local files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from runapp.common.exceptions import StorageError
from runapp.storage.bins import BINS, Bin
from runapp.storage.blobs import BlobWriter, Kind, Pulse, StoredBlob, name_blob, stay
from runapp.storage.cache import Cache
from runapp.storage.faults import caching, make_damaged
from runapp.storage.verification import verify

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """An object on its way: its size in bytes, and its content as it comes."""

    size: int
    pieces: Iterable[bytes]


class ObjectStore(Protocol):
    """Objects by name. Everything raises StorageAway when the store does not answer or refuses."""

    def upload(self, path: Path, name: str, *, digest: str, pulse: Pulse) -> None:
        """Store a file whole or not at all, and check what arrived."""

    def download(self, name: str) -> AbstractContextManager[Download | None]:
        """Fetch an object; None if there is none of that name."""

    def measure(self, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is none of that name."""

    def list_objects(self, prefix: str) -> Iterator[StoredBlob]:
        """Yield all objects below a prefix, named without it."""

    def list_folders(self, prefix: str) -> list[str]:
        """Return the names that come directly below a prefix."""

    def remove(self, name: str, *, before: float | None = None) -> bool:
        """Remove an object if it was written before; tell whether it did."""

    def remove_all(self, prefix: str) -> None:
        """Remove all objects below a prefix."""


@dataclass(frozen=True)
class RemoteStorage:
    """Bins in an object store."""

    objects: ObjectStore
    cache: Cache

    def get_bin(self, key: str) -> RemoteBin:
        return RemoteBin(root=self.cache.root, key=key, objects=self.objects, cache=self.cache)

    def list_keys(self) -> list[str]:
        return sorted(self.objects.list_folders(f"{BINS}/"))


@dataclass(frozen=True)
class RemoteBin(Bin):
    """The blobs of one dataset in an object store.

    `root` is the cache's. A blob that is open lies there; one that is not may be evicted.

    Parameters
    ----------
    objects : ObjectStore
        Where the blobs are.
    cache : Cache
        Where they are read.
    """

    objects: ObjectStore
    cache: Cache

    @contextmanager
    def open_writer(self, *, kind: Kind, pulse: Pulse = stay) -> Iterator[BlobWriter]:
        """Write a blob piece by piece; it appears when the block ends well, or not at all."""
        with self.cache.open_draft() as draft:
            yield draft
            if draft.is_discarded:
                return
            name = self._name(kind, draft.digest)
            self.objects.upload(draft.path, name, digest=draft.digest, pulse=pulse)
            if _is_cached(kind):
                self.cache.publish(draft, name).close()

    def _renew(self, *, kind: Kind, digest: str) -> bool:
        # Uploaded again each time, which makes it young: asking first would cost as much.
        return False

    def read(self, *, kind: Kind, digest: str, pulse: Pulse = stay) -> bytes:
        """Return a blob's bytes; predictions, which are asked for once, by-pass the cache."""
        if not _is_cached(kind):
            return self._read_past_cache(kind, digest)
        with self.open(kind=kind, digest=digest, pulse=pulse) as file:
            return file.read()

    def open(self, *, kind: Kind, digest: str, pulse: Pulse = stay) -> BinaryIO:
        """Open a blob for reading or mapping, fetched and checked; it stays while it is open."""
        name = self._name(kind, digest)
        with caching():
            found = self._find(name, digest, pulse)
            if found is not None:
                return found
            with self.cache.fetching(digest, pulse=pulse):
                # Whoever was waited for may have fetched it.
                return self._find(name, digest, pulse) or self._fetch(name, digest, pulse)

    def measure(self, *, kind: Kind, digest: str) -> int:
        """Return the size of a blob in bytes."""
        with suppress(OSError):
            return self.locate(kind=kind, digest=digest).stat().st_size
        size = self.objects.measure(self._name(kind, digest))
        if size is None:
            raise _make_missing(digest)
        return size

    def list_stored(self) -> Iterator[StoredBlob]:
        """Yield all that lies in the bin."""
        return self.objects.list_objects(f"{self.relative_path}/")

    def is_older(self, before: float) -> bool:
        """Tell whether nothing in the bin was written since, in seconds since the epoch."""
        return all(blob.modified_at < before for blob in self.list_stored())

    def remove_old(self, blob: StoredBlob, *, before: float) -> bool:
        """Remove an object unless it was written since; tell whether it is gone."""
        return self.objects.remove(f"{self.relative_path}/{blob.path}", before=before)

    def remove(self) -> None:
        """Remove everything of the dataset, here and there."""
        self.cache.remove(self.relative_path)
        self.objects.remove_all(f"{self.relative_path}/")

    def _name(self, kind: Kind, digest: str) -> str:
        return f"{self.relative_path}/{name_blob(kind=kind, digest=digest)}"

    def _find(self, name: str, digest: str, pulse: Pulse) -> BinaryIO | None:
        file = self.cache.find(name)
        if file is None:
            return None
        try:
            verify(file, digest=digest, pulse=pulse)
        except StorageError:
            logger.warning("the cached blob %s is damaged and fetched again", digest[:12])
            file.close()
            self.cache.drop(name)
            return None
        except BaseException:
            file.close()
            raise
        return file

    def _fetch(self, name: str, digest: str, pulse: Pulse) -> BinaryIO:
        # What was damaged on its way may arrive well the second time.
        file = self._download(name, digest, pulse) or self._download(name, digest, pulse)
        if file is None:
            raise make_damaged(digest)
        return file

    def _download(self, name: str, digest: str, pulse: Pulse) -> BinaryIO | None:
        with self.objects.download(name) as download:
            if download is None:
                raise _make_missing(digest)
            with self.cache.open_draft(size=download.size) as draft:
                for piece in download.pieces:
                    draft.write(piece)
                    pulse()
                if draft.digest == digest:
                    return self.cache.publish(draft, name)
        logger.warning("the blob %s arrived damaged", digest[:12])
        return None

    def _read_past_cache(self, kind: Kind, digest: str) -> bytes:
        for _ in range(2):
            with self.objects.download(self._name(kind, digest)) as download:
                if download is None:
                    raise _make_missing(digest)
                content = b"".join(download.pieces)
            if hashlib.sha256(content).hexdigest() == digest:
                return content
        raise make_damaged(digest)


def _is_cached(kind: Kind) -> bool:
    return kind is not Kind.PREDICTIONS


def _make_missing(digest: str) -> StorageError:
    return StorageError(f"The blob {digest[:12]} of a dataset cannot be read.")
