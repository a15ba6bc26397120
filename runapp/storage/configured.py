"""The storage that the settings name: a folder, or an object store behind a cache."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from django.conf import settings

from runapp.storage import FolderStorage, RemoteStorage, Storage
from runapp.storage.cache import Cache
from runapp.storage.location import S3Location


def get_storage() -> Storage:
    """Return the storage of the settings."""
    location = settings.STORAGE_REMOTE
    if location is None:
        return FolderStorage(root=settings.STORAGE_ROOT)
    return _open_remote(location, settings.STORAGE_ROOT, settings.CACHE_BYTES, os.getpid())


@cache
def _open_remote(location: S3Location, root: Path, max_bytes: int, pid: int) -> RemoteStorage:
    # One per process, as a fork must not go on with its parent's connections. Who stores in a
    # folder does not pay for the import.
    from runapp.storage.s3 import S3Objects

    return RemoteStorage(objects=S3Objects(location), cache=Cache(root=root, max_bytes=max_bytes))
